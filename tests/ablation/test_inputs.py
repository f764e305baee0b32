"""Runs whose data or models changed behind the same path are never paired."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from toy_runs import command, copied, finished, read_json
from vgs_mlx import resources
from vgs_mlx.ablation import grid_file, inputs
from vgs_mlx.ablation.grid import Cell, Grid
from vgs_mlx.ablation.jobs import Job, jobs_of
from vgs_mlx.data.datasets import DataSet
from vgs_mlx.errors import Refusal
from vgs_mlx.recipe import file as recipe_file
from vgs_mlx.runs import folder as run_folder
from vgs_mlx.runs.identity import contents
from vgs_mlx.types import Example

HAD = {
    "student": "s", "student chat template": "c", "teacher": "t", "teacher tokenizer": "k", "data solutions": "d",
    "reward": "r",
}  # fmt: skip
WORDS = {
    "student": "the student's weights or config.json", "student chat template": "the student's chat template",
    "teacher": "the teacher's weights or config.json", "teacher tokenizer": "the teacher's tokenizer",
    "data solutions": "the data's solutions", "reward": "the reward",
}  # fmt: skip


def job(folder: Path, cell: str, had: dict | None, **sections) -> Job:
    """A finished run and its inputs."""
    found = Job(cell, recipe_file.build(sections, "test"), folder / cell / f"seed-{sections.get('seed', 0)}")
    found.folder.mkdir(parents=True)
    (found.folder / run_folder.RESULT).write_text(json.dumps({"identity": had} if had else {}))
    return found


@pytest.mark.parametrize("what", HAD)
def test_a_run_that_had_other_data_or_models_behind_the_same_path_is_refused_by_name(tmp_path, what):
    jobs = [job(tmp_path, "a", HAD), job(tmp_path, "old", None), job(tmp_path, "b", HAD)]
    inputs.refuse_changed(jobs)
    jobs.append(job(tmp_path, "c", HAD | {what: "other"}))
    with pytest.raises(
        Refusal, match=rf"c/seed-0: differs from a, seed 0 in {WORDS[what]}, though.*--resume"
    ):
        inputs.refuse_changed(jobs)


def test_what_recipes_name_otherwise_may_differ(tmp_path):
    other = {what: "other" for what in HAD if what != "reward"}
    fraction = {"source": "rows.jsonl", "held_out": 0.1}
    inputs.refuse_changed(
        [
            job(tmp_path, "a", HAD),
            job(tmp_path, "paths", other, student={"path": "x"}, teacher={"path": "y"}, data={"source": "z"}),
            job(tmp_path, "pixels", HAD | {"data solutions": "fewer rows"}, data={"max_pixels": 9}),
            job(tmp_path, "no teacher", HAD | {"teacher": "none", "teacher tokenizer": "k"}),
            job(tmp_path, "cut", HAD | {"data solutions": "of seed 0"}, data=fraction),
            job(tmp_path, "cut", HAD | {"data solutions": "of seed 1"}, data=fraction, seed=1),
        ]
    )


def test_seeds_share_rows_that_are_not_cut_by_seed(tmp_path):
    apart = {"source": "rows.jsonl", "held_out": "others.jsonl"}
    jobs = [
        job(tmp_path, "a", HAD, data=apart),
        job(tmp_path, "a", HAD | {"data solutions": "changed"}, data=apart, seed=1),
    ]
    with pytest.raises(Refusal, match=r"name rows\.jsonl"):
        inputs.refuse_changed(jobs)


def test_seeds_that_cut_a_file_differently_must_have_had_the_same_file(tmp_path):
    fraction, had = {"source": "rows.jsonl", "held_out": 0.1}, {**HAD, "all rows": "whole"}
    jobs = [
        job(tmp_path, "a", had | {"data solutions": "of seed 0"}, data=fraction),
        job(tmp_path, "a", had | {"data solutions": "of seed 1"}, data=fraction, seed=1),
    ]
    inputs.refuse_changed(jobs)
    edited = had | {"data solutions": "of seed 2", "all rows": "edited"}
    jobs.append(job(tmp_path, "a", edited, data=fraction, seed=2))
    with pytest.raises(Refusal, match="seed-2: differs from a, seed 0 in the data's rows"):
        inputs.refuse_changed(jobs)


def test_all_rows_together_have_one_fingerprint_however_they_are_divided():
    row = Example("1", "?", "a", ())
    rows = (row, replace(row, id="2"), replace(row, id="3"))
    one, other = DataSet(rows[:2], rows[2:], ()), DataSet(rows[1:], rows[:1], ())
    assert contents({}, one) == contents({}, other)
    assert contents({}, one) != contents({}, replace(one, held_out=(replace(rows[2], answer="b"),)))


def test_a_cell_that_contradicts_itself_is_refused_before_anything_runs(tmp_path):
    refused = command(
        "ablate", resources.quickstart(), "--output", tmp_path / "grid", "--vary", "objective.name=standard,grpo",
        "--set", "rollout.prompts_per_step=2",
    )  # fmt: skip
    assert refused.exit_code == 2 and not (tmp_path / "grid").exists()
    assert "cell objective.name=grpo: grpo.updates_per_rollout=4" in " ".join(refused.stderr.split())


def test_a_grid_whose_model_changed_between_two_runs_is_refused_by_summary_and_by_resume(tmp_path):
    """A run records its inputs in its result; older ones only in their checkpoint."""
    run = finished()
    recipe = recipe_file.load_recipe(run / run_folder.RECIPE)
    made = Grid((Cell("a", {}, recipe, 1), Cell("b", {}, recipe, 1)), "a")
    grid_file.save(tmp_path, made)
    a, b = (copied(run, each.folder) for each in jobs_of(tmp_path, made))
    had = read_json(a / run_folder.RESULT)
    assert command("ablate", "--summary", tmp_path).exit_code == 0
    (b / run_folder.RESULT).write_text(json.dumps(had | {"identity": had["identity"] | {"student": "other"}}))
    (a / run_folder.RESULT).write_text(json.dumps({key: had[key] for key in had if key != "identity"}))
    for line in ("--summary", "--resume"):
        refused = command("ablate", line, tmp_path)
        assert refused.exit_code == 2, refused.output
        said = " ".join(refused.output.split())
        assert "b/seed-0: differs from a, seed 0 in the student's weights or config.json" in said
