"""The page of an ablation shows the terms that its runs recorded, cell by cell."""

import json
from pathlib import Path

import pytest

from report_parts import WATCHED
from vgs_mlx.report import terms
from vgs_mlx.runs import folder as run_folder

BASE = "standard"


def watched(folder: Path, cell: str, seeds: int, more: float = 0.0) -> dict:
    """Runs whose terms at the end are `more` above the baseline's, and a tenth of a seed; the cell of the summary."""
    for seed in range(seeds):
        run = folder / cell / f"seed-{seed}"
        run.mkdir(parents=True)
        rows = json.loads(json.dumps(WATCHED))
        for term in ("standard", "visual", "language"):
            rows[-1]["high"][term] += more * (1 + seed)
        (run / run_folder.TERMS).write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return {"name": cell, "seeds": list(range(seeds))}


def test_a_term_is_drawn_for_the_first_cells_over_the_seeds_that_these_have_and_tabled_for_all(tmp_path):
    cells = [watched(tmp_path, f"cell{place}", 2 if place < 5 else 1, -0.1) for place in range(6)]
    cells.append(watched(tmp_path, BASE, 3))
    found = terms.read(tmp_path, cells, BASE, damaged := [])
    assert damaged == [] and [title for title, _ in found.panels][::5] == [
        "Visual grounding loss, low", "Language prior loss, high",
    ]  # fmt: skip
    assert [name for _, name in found.keys] == [BASE, *[f"cell{place}" for place in range(5)]]
    assert (found.seeds, found.others) == (2, 1)
    last = found.panels[-1][1]  # 1.3 nats at first; at the end 0.1 and 0.2 less
    assert "standard: 1.30 at 0, 1.30 at 4" in last and "cell0: 1.30 at 0, 1.15 at 4" in last
    assert [(row.name, row.seeds) for row in found.rows][-2:] == [("cell4", "2"), ("cell5", "1")]
    assert found.rows[0].values[2] == ("−0.150", "±\u00a00.071")  # high, standard
    assert found.rows[0].values[1] == ("–", ""), "the middle bins had no token"
    assert found.rows[-1].values[2] == ("−0.100", "")


def test_every_key_looks_like_its_line(tmp_path):
    found = terms.read(tmp_path, [watched(tmp_path, name, 1) for name in (BASE, "other")], BASE, [])
    for place, (line, _) in enumerate(found.keys):
        assert f'stroke="var(--{("first", "second")[place]})"' in line
        assert f"stroke: var(--{('first', 'second')[place]})" in found.panels[0][1]
    assert 'stroke-dasharray="none"' in found.keys[0][0] and 'stroke-dasharray="8 3.2"' in found.keys[1][0]
    assert "stroke-dasharray: 8,3.2" in found.panels[0][1]


@pytest.mark.parametrize("text", ['{"step": 0}\n', "{"])
def test_runs_that_were_not_watched_are_omitted_and_a_damaged_file_is_named(tmp_path, text):
    cells = [watched(tmp_path, "a", 1), {"name": "gone", "seeds": [0, 1]}]
    (tmp_path / "a" / "seed-0" / run_folder.TERMS).write_text(text)
    assert terms.read(tmp_path, cells, "a", damaged := []) is None
    assert damaged == ["a/seed-0/terms.jsonl"]
    assert terms.read(tmp_path / "nowhere", cells, "a", damaged := []) is None and damaged == []
