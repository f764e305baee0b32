"""What the runs recorded is summarised over seeds, at the steps that all of them have."""

import json

import pytest

from vgs_mlx.ablation import watched, watched_figures
from vgs_mlx.ablation.watched import Traces

GROUP = {"standard": 1.0, "visual": 0.5, "language": 0.25, "entropy": 0.1}


def run(folder, seed, *, looks=(0, 10), measured=(1, 11)):
    """A run folder with terms that grow with the step and an η of seed / 10 + step / 100."""
    folder.mkdir()
    terms = [
        {"step": step, **dict.fromkeys(("low", "middle"), GROUP), "high": {**GROUP, "language": 1 + step}}
        for step in looks
    ]
    metrics = [
        {"step": step, "norm_scale_exact": seed / 10 + step / 100 if step in measured else None}
        for step in range(1, 12)
    ]
    if looks:
        (folder / "terms.jsonl").write_text("".join(json.dumps(row) + "\n" for row in terms))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in metrics))
    return watched.read(folder, "vgs", seed)


def trace(traces, quantity):
    (found,) = [each for each in traces if each.quantity == quantity]
    return found


def test_quantities_are_means_over_seeds_by_step(tmp_path):
    traces = watched.over_seeds([run(tmp_path / str(seed), seed) for seed in (0, 2)])
    scales = trace(traces, "η")
    assert scales.steps == (1, 11)
    assert [each.mean for each in scales.spreads] == pytest.approx([0.11, 0.21])
    assert trace(traces, "high language").spreads[1].mean == 11
    assert trace(traces, "low visual").spreads[0].mean == 0.5


def test_a_step_that_one_seed_lacks_is_omitted(tmp_path):
    runs = [run(tmp_path / "0", 0), run(tmp_path / "1", 1, looks=(0,), measured=(11,))]
    traces = watched.over_seeds(runs)
    assert trace(traces, "high language").steps == (0,)
    assert trace(traces, "η").steps == (11,)


def test_tables_show_first_and_last_and_omit_cells_that_recorded_nothing(tmp_path):
    traces = watched.over_seeds([run(tmp_path / "0", 0), Traces("standard", 0, {})])
    (row,) = watched.term_rows(traces)
    assert row["cell"] == "vgs" and row["high language"] == "1.000 -> 11.000"
    (row,) = watched.norm_scale_rows(traces)
    assert (row["η, first"], row["η, last"], row["measured at steps"]) == ("0.010", "0.110", "1 to 11")
    assert watched.term_rows(watched.over_seeds([run(tmp_path / "1", 1, looks=(), measured=())])) == []


def test_cells_are_compared_on_the_seeds_that_both_have():
    def ended(cell, seed, value):
        return Traces(cell, seed, {"high visual": {0: 9.0, 10 + seed: value}})

    runs = [ended("standard", 0, 1.0), ended("standard", 1, 2.0), ended("vgs", 1, 1.5), ended("vgs", 2, 7.0)]
    assert watched.difference_rows(runs, "standard") == [
        {"cell": "vgs", "seeds": "1", "high visual": "-0.500"}
    ]
    more = [*runs, ended("vgs", 0, 1.0)]
    assert watched.difference_rows(more, "standard")[0]["high visual"] == "-0.250 ± 0.354"
    assert [(run.cell, run.seed) for run in watched.shared(runs)] == [("standard", 1), ("vgs", 1)]
    assert len(watched.shared([ended("standard", 0, 1.0), ended("vgs", 1, 1.0)])) == 2  # none is shared


def test_a_bin_without_tokens_has_no_value(tmp_path):
    found = run(tmp_path / "0", 0)
    row = {"step": 20, "low": None, "middle": GROUP, "high": GROUP}
    with (tmp_path / "0" / "terms.jsonl").open("a") as stream:
        stream.write(json.dumps(row) + "\n")
    found = watched.read(tmp_path / "0", "vgs", 0)
    assert 20 in found.values["high visual"] and 20 not in found.values["low visual"]


def test_figures_are_drawn_for_what_there_is(tmp_path):
    traces = watched.over_seeds([run(tmp_path / "0", 0)])
    assert watched_figures.write(tmp_path, traces) == ["terms-steps", "norm-scale"]
    assert (tmp_path / "terms-steps.svg").is_file() and (tmp_path / "norm-scale.png").is_file()
    only_scale = [each for each in traces if each.quantity == "η"]
    assert watched_figures.write(tmp_path, only_scale) == ["norm-scale"]
    assert watched_figures.write(tmp_path, []) == []
