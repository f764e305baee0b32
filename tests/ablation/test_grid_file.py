"""A grid comes from --vary or from a file of cells, and its folder stores it."""

import json
from dataclasses import replace

import pytest

from vgs_mlx.ablation import grid_file
from vgs_mlx.ablation.grid import Grid
from vgs_mlx.errors import Refusal
from vgs_mlx.resources import recipes_folder

RECIPE = "train: {steps: 4}\nstudent: {path: models/s}\n"
CELLS = """
recipe: base.yaml
set: {train.learning_rate: 1e-3}
seeds: 5
baseline: plain
cells:
  plain: {objective.name: standard}
  strong: {objective.name: vgs, objective.steering_coef: 4, seeds: 2}
"""


def read(folder, text, vary=(), sets=(), seeds=None, baseline=None):
    (folder / "base.yaml").write_text(RECIPE)
    (folder / "grid.yaml").write_text(text)
    return grid_file.read(folder / "grid.yaml", vary, sets, seeds, baseline)


def refusal(folder, text, *given, **options):
    with pytest.raises(Refusal) as caught:
        read(folder, text, *given, **options)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_a_recipe_and_what_varies_make_a_grid(tmp_path):
    vary = ("objective.name=standard,vgs", "student.targets=[q_proj, v_proj],null")
    made, _ = read(tmp_path, RECIPE, vary, ["train.steps=9"], seeds=4)
    assert [cell.recipe.student.targets for cell in made.cells] == [("q_proj", "v_proj"), None] * 2
    assert {(cell.recipe.train.steps, cell.seeds) for cell in made.cells} == {(9, 4)}
    assert made.baseline == made.cells[0].name


def test_a_file_of_cells_makes_a_grid(tmp_path):
    made, _ = read(tmp_path, CELLS, sets=["train.steps=9"])
    plain, strong = made.cells
    assert (made.baseline, plain.name, plain.seeds, strong.name, strong.seeds) == (
        "plain",
        "plain",
        5,
        "strong",
        2,
    )
    assert (plain.recipe.objective.name, strong.recipe.objective.steering_coef) == ("standard", 4.0)
    assert plain.recipe.train.learning_rate == 1e-3 and strong.recipe.train.steps == 9
    assert {cell.seeds for cell in read(tmp_path, CELLS, seeds=3)[0].cells} == {3}
    assert read(tmp_path, CELLS, baseline="strong")[0].baseline == "strong"


def test_the_base_recipe_may_stand_in_the_file_and_paths_are_relative_to_their_file(tmp_path):
    (tmp_path / "models" / "s").mkdir(parents=True)
    for text in (CELLS, CELLS.replace("base.yaml", "{train: {steps: 4}, student: {path: models/s}}")):
        made, _ = read(tmp_path, text)
        assert made.cells[0].recipe.student.path == str(tmp_path / "models" / "s")
        assert made.cells[0].recipe.train.steps == 4


def test_the_blind_score_is_measured_unless_the_recipe_says_no(tmp_path):
    def blind(text, **options):
        return read(tmp_path, text, ["train.steps=1"], **options)[0].cells[0].recipe.train.evaluate_blind

    assert blind(RECIPE) and blind("student: {path: s}\n")
    assert not blind("train: {evaluate_blind: false}\n")
    assert not blind(RECIPE, sets=["train.evaluate_blind=false"])


@pytest.mark.parametrize(
    ("vary", "said"),
    [
        (["objectiv.name=vgs"], "--vary objectiv.name=vgs: unknown key objectiv: did you mean objective"),
        (["train.stepz=1,2"], "--vary train.stepz=1: unknown key train.stepz: did you mean train.steps?"),
        (["objective.name=standard,vsg"], "--vary objective.name=vsg: objective.name: input should be"),
        (
            ["train.steps=1,2", "train.warmup_steps=0,-1"],
            "--vary train.warmup_steps=-1: train.warmup_steps: ",
        ),
        (["train=2020-01-01,x"], "--vary train=2020-01-01,x, line 1: '2020-01-01' is read as a timestamp"),
        (["train.steps"], "--vary train.steps: write it as key=value,value"),
        (["train.steps="], "--vary train.steps=: write it as key=value,value"),
        (["=1"], "--vary =1: write it as key=value,value"),
        (["train.steps=[1"], "--vary train.steps=[1, line 1: "),
        (["train.steps=1", "train.steps=2"], "--vary train.steps=2: train.steps is varied already"),
        (["seed=1,2"], "--vary: seed: the seeds are 0, 1, ...: say how many with --seeds"),
        ([], "a recipe alone is one cell"),
    ],
)
def test_what_cannot_vary_is_refused_and_named_alone(tmp_path, vary, said):
    message = refusal(tmp_path, RECIPE, vary, ["train.learning_rate=1e-3"])
    assert message.startswith(said) or not vary
    assert said in message and "--set" not in message


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        ("train.stepz=1", "--set train.stepz=1: unknown key train.stepz: did you mean train.steps?"),
        ("train.steps=many", "--set train.steps=many: train.steps: input should be a valid integer"),
        ("train.steps=[", "--set train.steps=["),
        ("train.steps", "--set train.steps: write it as key=value"),
        ("=1", "--set =1: write it as key=value"),
        ("train=1", "--set train=1: train needs keys below it"),
        ("seed=1", "--set seed=1: an ablation's seeds are 0, 1, ..."),
    ],
)
def test_a_set_that_does_not_fit_is_refused_and_named_alone(tmp_path, sets, said):
    for text, vary in ((RECIPE, ["objective.name=standard,vgs"]), (CELLS, [])):
        message = refusal(tmp_path, text, vary, ["train.warmup_steps=1", sets])
        assert message.startswith(said)
        assert "--vary" not in message and "cells" not in message and message.count("--set") <= 2


def test_a_key_is_either_set_or_varied(tmp_path):
    message = refusal(tmp_path, RECIPE, ["train.steps=1,2"], ["train.steps=3"])
    assert message == "--set train.steps=3: train.steps is varied: leave it to --vary"


def test_a_fault_of_the_recipe_is_the_file_s(tmp_path):
    file = tmp_path / "grid.yaml"
    message = refusal(tmp_path, "train: {stepz: 4}", ["train.warmup_steps=1"], ["train.steps=1"])
    assert message.startswith(f"{file}: unknown key train.stepz")
    assert refusal(tmp_path, "seed: 1", ["train.steps=1"]).startswith(f"{file}: seed: an ablation's seeds")
    assert refusal(tmp_path, CELLS, baseline="none").startswith("--baseline none: no cell matches")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("seeds: 2", "seeds: 0", "cells.strong.seeds: give a number from 1 on, got 0"),
        (
            "objective.steering_coef",
            "objective.steering",
            "cells.strong: objective.steering=4: unknown key objective.steering",
        ),
        ("seeds: 5", "seeds: five", "seeds: input should be a valid integer"),
        ("seeds: 5", "sets: 5", "sets: "),
        ("baseline: plain", "baseline: none", "baseline none: no cell matches"),
        ("  strong", "  str/ong", "can't name a folder"),
        ("objective.name: vgs", "objective.name: standard", "cells plain and strong are the same experiment"),
        ("recipe: base.yaml\n", "", "recipe: field required"),
        ("base.yaml", "other.yaml", "can't be read"),
        ("train.learning_rate: 1e-3", "train.steps: 0", "set: train.steps=0: train.steps: input should be"),
        ("train.learning_rate: 1e-3", "seed: 1", "set: seed=1: an ablation's seeds are 0, 1, ..."),
        ("objective.name: standard", "objective.name: standard, seed: 1", "say how many with --seeds"),
    ],
)
def test_what_is_wrong_in_a_file_of_cells_is_refused_and_no_option_blamed(tmp_path, old, new, said):
    message = refusal(tmp_path, CELLS.replace(old, new))
    assert said in message and "--set" not in message and "--baseline" not in message
    assert str(tmp_path) in message or message.startswith("cell")


def test_paths_of_cells_are_relative_to_their_file(tmp_path):
    (tmp_path / "there").mkdir()
    for old, new in (
        ("plain: {", "plain: {teacher.path: there, "),
        ("set: {", "set: {teacher.path: there, "),
    ):
        made, _ = read(tmp_path, CELLS.replace(old, new))
        assert made.cells[0].recipe.teacher.path == str(tmp_path / "there")


def test_a_file_of_cells_takes_no_vary(tmp_path):
    assert "names its cells itself" in refusal(tmp_path, CELLS, ["train.steps=1"])


def test_a_folder_keeps_its_grid(tmp_path):
    made, _ = read(tmp_path, CELLS)
    grid_file.save(tmp_path, made)
    assert grid_file.load(tmp_path) == made
    grid_file.refuse_another(tmp_path, made)
    grid_file.refuse_another(tmp_path, replace(made, baseline="strong"))


def refused_in(folder, other):
    """Why a folder that holds a grid refuses this one."""
    kept = (folder / grid_file.GRID).read_bytes()
    with pytest.raises(Refusal) as caught:
        grid_file.refuse_another(folder, other)
    assert (folder / grid_file.GRID).read_bytes() == kept
    return str(caught.value)


def test_another_grid_is_refused_with_the_key_and_both_values(tmp_path):
    made, _ = read(tmp_path, CELLS)
    grid_file.save(tmp_path, made)
    said = refused_in(tmp_path, read(tmp_path, CELLS, sets=["train.steps=9"], seeds=6)[0])
    assert "holds another grid (train.steps of plain is 4 there and 9 here)" in said


def test_a_grid_may_grow_by_seeds_and_by_cells(tmp_path):
    made, _ = read(tmp_path, CELLS)
    grid_file.save(tmp_path, made)
    grid_file.refuse_another(tmp_path, read(tmp_path, CELLS, seeds=6)[0])
    new = "  new: {objective.name: adaptive}\n"
    grid_file.refuse_another(tmp_path, read(tmp_path, CELLS + new)[0])
    grid_file.refuse_another(
        tmp_path, read(tmp_path, CELLS.replace("cells:\n", f"cells:\n{new}"), seeds=6)[0]
    )


def test_a_smaller_grid_is_refused_with_all_that_the_folder_has_more(tmp_path):
    made, _ = read(tmp_path, CELLS)
    grid_file.save(tmp_path, made)
    plain, strong = made.cells
    said = refused_in(tmp_path, Grid((replace(plain, seeds=3),), "plain"))
    assert "holds a larger grid (5 seeds of plain, not 3; also the cell strong)" in said
    assert f"go on with --resume {tmp_path}" in said
    grown_and_shrunk = Grid((replace(plain, seeds=9), replace(strong, seeds=1)), "plain")
    assert "(2 seeds of strong, not 1)" in refused_in(tmp_path, grown_and_shrunk)


def test_a_folder_without_a_grid_and_a_damaged_one_are_refused(tmp_path):
    with pytest.raises(Refusal, match="is not the folder of an ablation"):
        grid_file.load(tmp_path)
    cell = {"name": "a", "settings": {}, "recipe": {}, "seeds": 1}
    (tmp_path / grid_file.GRID).write_text(json.dumps({"baseline": "a", "cells": [cell]}))
    assert grid_file.load(tmp_path).baseline == "a"
    changed = [{"name": "../a"}, {"name": 3}, {"seeds": "1"}, {"seeds": 0}, {"settings": []}, {"recipe": [1]}]
    kept = [{"baseline": "a", "cells": [cell | each]} for each in changed]
    kept += [{"baseline": "b", "cells": [cell]}, {"baseline": "a", "cells": []}, {"baseline": "a"}, []]
    for text in ("{", "[" * 10**5, *map(json.dumps, kept)):
        (tmp_path / grid_file.GRID).write_text(text)
        with pytest.raises(Refusal, match="damaged"):
            grid_file.load(tmp_path)


@pytest.mark.parametrize("name", ["shapes-ablation.yaml", "qwen3-vl-ablation.yaml"])
def test_the_shipped_ablations_can_be_read(name):
    made, _ = grid_file.read(recipes_folder() / name, (), (), None, None)
    assert made.baseline == "standard"
    assert {"standard", "vgs", "adaptive", "language", "vds-weighted", "va-opd", "jsd"} <= {
        cell.name for cell in made.cells
    }
