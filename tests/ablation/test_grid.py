"""A grid holds every experiment once, in folders whose names are valid on any system."""

import pytest

import toy_runs
from vgs_mlx.ablation import grid
from vgs_mlx.ablation.grid import Cell
from vgs_mlx.errors import Refusal
from vgs_mlx.objective.objectives import OBJECTIVES
from vgs_mlx.recipe import file as recipe_file
from vgs_mlx.runs import folder as run_folder

OTHER_VALUES = {
    "objective.steering_coef": "5", "objective.preservation_coef": "0.7", "objective.norm_scale": "0.3",
    "objective.norm_scale_every": "1", "objective.jsd_weight": "0.1", "objective.mix": "0.4",
    "objective.mix_with": "jsd", "objective.answers": "teacher", "student.rank": "3", "student.alpha": "5",
    "student.targets": "[q_proj]", "grpo.updates_per_rollout": "2", "grpo.clip": "0.1", "grpo.reward": "pacr",
    "grpo.outcome_coef": "2", "grpo.process_coef": "2", "grpo.discount": "0.5",
}  # fmt: skip
SHORT = ("train.steps=1", "train.evaluate_rows=1", "grpo.updates_per_rollout=1")


def resolve(settings):
    return recipe_file.load_recipe(
        None, [f"{key}={grid.value_text(value)}" for key, value in settings.items()]
    )


def made(**varied):
    return grid.product({key.replace("_", "."): values for key, values in varied.items()}, resolve, 2)


def cell(name, **sections):
    return Cell(name, {}, recipe_file.build(sections, "test"), 1)


def test_a_product_has_every_combination_in_order():
    cells, notes = made(train_steps=[1, 2], seed=[7, 8])
    assert [each.name for each in cells] == [
        "train.steps=1,seed=7", "train.steps=1,seed=8", "train.steps=2,seed=7", "train.steps=2,seed=8",
    ]  # fmt: skip
    assert [(each.recipe.train.steps, each.recipe.seed) for each in cells] == [(1, 7), (1, 8), (2, 7), (2, 8)]
    assert notes == []


def test_what_an_objective_ignores_makes_no_cell():
    varied = {"objective.name": ["standard", "vgs"], "objective.steering_coef": [1, 2, 4]}
    cells, notes = grid.product(varied, resolve, 1)
    assert [each.name for each in cells] == [
        "objective.name=standard",
        *[f"objective.name=vgs,objective.steering_coef={coef}" for coef in (1, 2, 4)],
    ]
    assert len(notes) == 1 and notes[0].startswith("objective.name=standard: one experiment for ")
    assert notes[0].count("steering_coef") == 3


def test_values_that_are_equal_make_one_cell():
    cells, _ = grid.product({"train.learning_rate": [1e-3, 0.001]}, resolve, 1)
    assert [each.name for each in cells] == ["train.learning_rate=0.001"]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_keys_that_an_objective_does_not_use_change_nothing(name, tmp_path):
    base = (*SHORT, f"objective.name={name}", "student.train=" + ("full" if name == "standard" else "lora"))
    changes = [f"{key}={OTHER_VALUES[key]}" for key in grid.unused_keys(toy_runs.recipe(*base))]
    assert changes
    left = toy_runs.train(tmp_path / "left", *base)
    right = toy_runs.train(tmp_path / "right", *base, *changes)
    assert toy_runs.same_run(left, right)


def test_what_is_used_depends_on_the_objective():
    def unused(*sets):
        return grid.unused_keys(toy_runs.recipe(*sets))

    steering = {"objective.steering_coef", "objective.norm_scale", "objective.norm_scale_every"}
    assert steering <= unused("objective.name=standard") and not steering & unused("objective.name=vgs")
    assert not steering & unused("objective.name=vgs", "objective.steering_coef=0")
    assert unused("objective.name=vds-weighted") & steering == steering - {"objective.steering_coef"}
    assert steering & unused("objective.name=standard", "objective.watch_norm_scale=true") == {
        "objective.steering_coef"
    }
    assert "objective.mix_with" in unused("objective.name=grpo")
    mixed = unused("objective.name=grpo", "objective.mix=0.3", "objective.mix_with=vgs")
    assert not {"objective.mix_with", "objective.steering_coef", "grpo.clip"} & mixed


def test_the_cells_of_a_seed_start_alike_on_the_same_prompts():
    runs = [toy_runs.finished(), toy_runs.finished("objective.name=standard")]
    before, first = (
        [run_folder.rows(run / name)[0] for run in runs] for name in (run_folder.ANSWERS, run_folder.METRICS)
    )
    assert before[0] == before[1]
    shared = ("loss_standard", "entropy", "completion_length", "tokens", "right_share")
    assert all(first[0][name] == pytest.approx(first[1][name], rel=1e-5) for name in shared)
    assert toy_runs.final_weights(runs[0]) != toy_runs.final_weights(runs[1])


def test_a_cell_has_a_run_for_each_seed():
    (only,), _ = made(train_steps=[1])
    assert [recipe.seed for recipe in only.runs()] == [0, 1]


@pytest.mark.parametrize("value", ["a/b", "a:b", "é", "x" * 300, "a\nb", "[1, 2]"])
def test_a_folder_s_name_is_safe_and_tells_values_apart(value):
    name = grid.folder_name({"data.source": value})
    assert name.isascii() and not set(name) & set("/:\\\n[] ") and len(name) <= grid.LONGEST_NAME
    assert name != grid.folder_name({"data.source": value.replace("/", "-").replace(":", "-") + "!"})
    assert name.startswith("data.source=")


@pytest.mark.parametrize(
    "name", ["", "a/b", "..", ".hidden", "é", "summary", "Summary", "x" * 121, "a ", "-x"]
)
def test_a_name_that_no_folder_can_have_is_refused(name):
    with pytest.raises(Refusal, match="can't name a folder"):
        grid.refuse_name(name)


def test_named_cells_that_are_the_same_experiment_are_refused():
    cells = [
        cell("one", objective={"name": "standard", "steering_coef": 1}),
        cell("two", objective={"name": "standard", "steering_coef": 4}),
    ]
    with pytest.raises(Refusal, match="cells one and two are the same experiment"):
        grid.refuse_duplicates(cells)
    grid.refuse_duplicates([cells[0], cell("two", objective={"name": "vgs"})])
    with pytest.raises(Refusal, match="a Mac treats these folders as one"):
        grid.refuse_duplicates([cells[0], cell("One", objective={"name": "vgs"})])


def test_the_baseline_is_a_cell_named_or_described_or_the_first():
    varied = {"objective.name": ["standard", "vgs"], "objective.steering_coef": [1, 2]}
    cells, _ = grid.product(varied, resolve, 1)
    assert grid.baseline_of(cells, None) == "objective.name=standard"
    assert grid.baseline_of(cells, "objective.name=standard") == "objective.name=standard"
    assert grid.baseline_of(cells, "objective.steering_coef=2").endswith("vgs,objective.steering_coef=2")
    with pytest.raises(Refusal, match=r"--baseline objective.name=vgs: 2 cells match"):
        grid.baseline_of(cells, "objective.name=vgs")
    with pytest.raises(
        Refusal, match=r"--baseline jsd: no cell matches: give one of: objective.name=standard; "
    ):
        grid.baseline_of(cells, "jsd")
