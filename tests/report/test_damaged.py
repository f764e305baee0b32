"""Whatever has happened to the files of a run or an ablation, its page is written or refused in one line."""

import functools
import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from report_parts import BASE, GEOMETRY, OTHER, WATCHED, difference, folder, summary
from toy_runs import QUIET, copied, finished
from vgs_mlx.commands import report
from vgs_mlx.errors import Refusal
from vgs_mlx.recipe import file as recipe_file
from vgs_mlx.report import ablation
from vgs_mlx.report.record import read
from vgs_mlx.runs import folder as run_folder

JSON = ("versions.json", run_folder.RESULT, "geometry.json", str(ablation.SUMMARY))
JSONL = (
    run_folder.METRICS,
    run_folder.EVALUATIONS,
    run_folder.ANSWERS,
    run_folder.COMPLETIONS,
    run_folder.TERMS,
)
VALUES = (
    "x",
    None,
    [],
    {},
    [[]],
    -1,
    0,
    0.5,
    float("nan"),
    float("inf"),
    1e300,
    10**400,
    True,
    "\ud800\0\x07",
    [{}],
)
WHOLE = (
    b"",
    b"\n\n",
    b"{",
    b"[]",
    b"{}",
    b"null",
    b"3",
    b'"text"',
    b"\xff\xfe",
    b"[" * 10**5,
    b'{"step": 3}',
    b"{}\n[]\n",
)


def places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """The path of each part of a JSON value; of a list, those of its last member only."""
    inner = (
        value.items()
        if isinstance(value, dict)
        else list(enumerate(value))[-1:]
        if isinstance(value, list)
        else ()
    )
    for key, each in inner:
        yield (*path, key)
        yield from places(each, (*path, key))


def put(value: Any, path: tuple, new: Any) -> Any:
    """A copy of the value with `new` at a path; `...` removes what is there."""
    copy = json.loads(json.dumps(value))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    if new is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = new
    return copy


def damages(file: Path) -> list[bytes]:
    """Damaged contents of a file: truncated, of another kind, or with a value missing or replaced."""
    content = file.read_bytes()
    lines = content.decode().splitlines() if file.name in JSONL else [content.decode()]
    first, last = json.loads(lines[0]), json.loads(lines[-1])
    found = [*WHOLE, content[: len(content) // 2], content[:-3]]
    for path in places(last):
        for new in (..., *VALUES):
            rest = lines[:-1] if file.name in JSONL else []
            found.append("\n".join([*rest, json.dumps(put(last, path, new))]).encode())
            if rest and path[0] in first:
                found.append("\n".join([json.dumps(put(first, path[:1], new)), *lines[1:]]).encode())
    return found


def drawn(made: Path) -> str:
    """The page, or the line with which it is refused."""
    try:
        return report.run(made, made / "page.html", examples=0, screen=QUIET).read_text(encoding="utf-8")
    except Refusal as refused:
        assert "\n" not in str(refused)
        return str(refused)


@pytest.fixture
def run(tmp_path) -> Path:
    """A finished run with everything that a page can show."""
    made = copied(finished(), tmp_path / "run")
    (made / "geometry.json").write_text(json.dumps(GEOMETRY))
    (made / run_folder.TERMS).write_text("".join(f"{json.dumps(row)}\n" for row in WATCHED))
    return made


@pytest.fixture
def compared(tmp_path, run) -> Path:
    """An ablation with everything that a page can show, including the folders of its runs."""
    found = summary(difference(OTHER, 0.03, 0.01), difference("third", -0.01, None))
    for each in (*found["cells"], *found["differences"]):
        each["by_kind"] = {kind: each.get("final", each.get("over_seeds")) for kind in ("count", "shape")}
        each["settings"] = {"objective.name": "vgs", "student.targets": ["q_proj"]}
    found["cells"][0]["tokens_to_reach"] = found["cells"][0]["blind"] = found["cells"][0]["final"]
    made = folder(tmp_path / "ablation", found)
    for name in (BASE, OTHER):
        shutil.copytree(run, made / name / "seed-0")
    return made


def fuzzed(made: Path, files: list[Path], rounds: int) -> None:
    """Damage all files at once, each at random, and draw; then put them back."""
    draw = random.Random(0)
    choices = {file: damages(file) for file in files}
    whole = {file: file.read_bytes() for file in files}
    for _ in range(rounds):
        for file in files:
            file.write_bytes(draw.choice([whole[file], *draw.choices(choices[file], k=3)]))
        assert drawn(made)
    for file in files:
        file.write_bytes(whole[file])
    assert drawn(made).startswith("<!doctype html>")


def test_no_damage_to_a_run_raises_anything_but_a_refusal(run):
    fuzzed(run, [run / name for name in (*JSONL, *JSON[:3])], rounds=6)


def test_no_damage_to_an_ablation_raises_anything_but_a_refusal(compared):
    run = compared / OTHER / "seed-0"
    fuzzed(
        compared,
        [compared / ablation.SUMMARY, *(run / name for name in (run_folder.METRICS, run_folder.TERMS))],
        rounds=6,
    )


@pytest.mark.parametrize("name", [*JSONL, *JSON[:3]])
def test_every_damage_to_a_file_omits_a_record_or_rows(run, name, monkeypatch):
    monkeypatch.setattr(
        recipe_file, "load_recipe", functools.cache(recipe_file.load_recipe)
    )  # the same each time
    whole = read(run)
    for content in damages(run / name):
        (run / name).write_bytes(content)
        found = read(run)
        assert found.recipe == whole.recipe and set(found.damaged) <= {name}
        for row in (*found.evaluations, *found.completions, *found.metrics):
            assert 0 <= row["step"] <= 10**9


@pytest.mark.parametrize("name", [run_folder.METRICS, "versions.json", run_folder.RECIPE])
def test_only_a_regular_file_is_read(run, name):
    (run / name).unlink()
    os.mkfifo(run / name)
    found = drawn(run)
    assert name in found and ("could not be read" in found or name == run_folder.RECIPE)
    (run / name).unlink()
    (run / name).mkdir()
    assert name in drawn(run)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{", b"\xff", b"student: [", b"train: {stepz: 3}", b"a: &a [*a]"]
)
def test_a_damaged_recipe_is_refused_or_the_default(run, content):
    (run / run_folder.RECIPE).write_bytes(content)
    assert str(run / run_folder.RECIPE) in drawn(run) or not content


def test_an_ablation_whose_cells_have_no_curve_has_a_page_without_one(compared):
    found = json.loads((compared / ablation.SUMMARY).read_text())
    for cell in found["cells"]:
        cell["curve"] = []
    (compared / ablation.SUMMARY).write_text(json.dumps(found))
    shown = drawn(compared)
    assert "The cells</h2>" in shown and 'id="cell-0-title"' not in shown


def test_answers_without_a_question_or_a_grade_are_omitted_and_named(run):
    whole = {"step": 4, "question": "whole?", "completion": "a", "expected": "b", "right": True}
    ungraded = {**whole, "question": "no grade?"}
    del ungraded["right"]
    rows = [{"step": 0, "completion": "a", "expected": "b", "right": True}, whole, ungraded]
    (run / run_folder.COMPLETIONS).write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    shown = drawn(run)
    assert "whole?" in shown and "no grade?" not in shown
    assert "Part of completions.jsonl could not be read" in shown


def test_names_that_no_page_can_hold_are_shown_with_a_sign_in_their_place(compared):
    found = json.loads((compared / ablation.SUMMARY).read_text().replace("third", "na\\u0007me"))
    (compared / ablation.SUMMARY).write_text(json.dumps(found))
    assert "na\ufffdme" in drawn(compared)
