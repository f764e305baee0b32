"""A run may go on from an earlier run's student: the same model to begin with, whatever becomes of the earlier run."""

import json
import re
import shutil
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from model_folders import embedded_logprobs, load, silent
from toy_runs import command, copied, finished, options, recipe, state_of
from vgs_mlx.exporting import earlier_run
from vgs_mlx.models import adapters
from vgs_mlx.recipe import file as recipe_file
from vgs_mlx.recipe.options import Recipe, Student
from vgs_mlx.resources import tiny_model
from vgs_mlx.runs import checkpoint, recipes, trained
from vgs_mlx.runs import folder as run_folder

SMALL = ("train.steps=1", "train.evaluate_every=1")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def trained_run(folder: Path, **settings) -> Path:
    """A finished run whose student has moved in random directions."""
    made = Recipe(student=Student(path="embedded:student", rank=2, **settings))
    folder.mkdir()
    (folder / run_folder.RECIPE).write_text(recipe_file.dump(made))
    model = load("embedded:student")
    adapters.prepare(model, made.student, seed=0)
    mx.random.seed(1)
    weights = adapters.trainable_weights(model.module)
    moved = {name: each + 0.02 * mx.random.normal(each.shape) for name, each in weights.items()}
    adapters.set_weights(model.module, moved)
    checkpoint.write_weights(folder / run_folder.FINAL, model, made.student)
    return folder


@pytest.mark.parametrize(
    "settings",
    [{}, {"train": "dora"}, {"train": "full"}, {"train_vision": True}],
    ids=["lora", "dora", "full", "lora and vision"],
)
def test_the_student_of_step_0_is_the_earlier_run_s(settings, tmp_path):
    run = trained_run(tmp_path / "run", **settings)
    (tmp_path / "new").mkdir()
    found = earlier_run.taken_over(recipe(f"student.path={run}"), tmp_path / "new", silent)
    assert found.student.path == str(tmp_path / "new" / "student")
    began = load(found.student.path)
    adapters.prepare(began, found.student, seed=0)
    theirs = embedded_logprobs(trained.load(run, trained.find(run), silent))
    np.testing.assert_allclose(embedded_logprobs(began), theirs, atol=2e-4)
    assert np.abs(theirs - embedded_logprobs(load("embedded:student"))).max() > 0.02


def test_a_small_update_is_not_rounded_off(tmp_path):
    """The embedded student is stored as bfloat16, which would drown it: trained layers are float32 from then on."""
    earlier_run.taken_over(recipe(f"student.path={finished()}"), tmp_path, silent)
    stored = mx.load(str(tmp_path / "student" / "model.safetensors"))
    plain = mx.load(str(tiny_model("student") / "model.safetensors"))
    adapted = mx.load(str(finished() / run_folder.FINAL / adapters.ADAPTER_FILE))
    layers = {name.removesuffix(".lora_a") for name in adapted if name.endswith(".lora_a")}
    for name, weight in stored.items():
        trains = name.removesuffix(".weight") in layers
        assert weight.dtype == (mx.float32 if trains else plain[name].dtype), name


@pytest.mark.parametrize(
    ("text", "which"), [("run", None), ("run@best", "best"), ("run@2", "2"), ("student", 0), ("a/b@best", 0)]
)
def test_a_run_is_named_alone_or_with_which_of_its_weights(text, which, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trained_run(tmp_path / "run")
    (tmp_path / "student").mkdir()
    assert earlier_run.named(text) == (None if which == 0 else (Path("run"), which))


@pytest.fixture(scope="module")
def second(tmp_path_factory) -> Path:
    """A finished run that went on from step 4 of another."""
    run = tmp_path_factory.mktemp("second") / "run"
    done = command("distill", "--output", run, *options(*SMALL, f"student.path={finished()}@4"))
    assert done.exit_code == 0, done.output
    said = f"student  from run, step 4: written to {run / 'student'} (0.00 GB), its trained layers as float32"
    assert said in done.stdout
    return run


def test_the_second_run_begins_where_the_first_ended(second):
    first, began = (
        run_folder.rows(run / run_folder.EVALUATIONS)[place] for run, place in ((finished(), -1), (second, 0))
    )
    assert {**first, "step": 0} == began
    origin = json.loads((second / "student" / "origin.json").read_text())
    assert (origin["base"], origin["weights"]) == ("embedded:student", "run, step 4")


def test_the_second_run_may_move_and_needs_the_first_no_more(second, tmp_path):
    run = copied(second, tmp_path / "elsewhere")
    assert "path: student\n" in (run / run_folder.RECIPE).read_text()
    assert run_folder.opened(run).student.path == str(run / "student")
    resumed = command("distill", "--resume", "--output", run, "--set", "train.steps=2")
    assert resumed.exit_code == 0, resumed.output
    assert "path: student\n" in (run / run_folder.RECIPE).read_text()
    shutil.rmtree(run / "student")
    refused = command("evaluate", run)
    assert refused.exit_code == 2 and len(refused.stderr.splitlines()) == 1
    assert "student: no longer there" in refused.stderr and "--student PATH" in refused.stderr


def test_the_export_of_a_second_run_holds_both_trainings_and_proves_itself(tmp_path):
    """Also where the second hardly trained: the first must not be rounded off as if there were nothing to lose."""
    first, second, model = trained_run(tmp_path / "first"), tmp_path / "second", tmp_path / "model"
    hardly = (*SMALL, "train.learning_rate=1e-7")
    assert command("distill", "--output", second, *options(*hardly, f"student.path={first}")).exit_code == 0
    done = command("export", second, "--output", model, "--prompts", 4)
    assert done.exit_code == 0, done.output
    assert "untrained means embedded:student here" in done.stdout
    fused = embedded_logprobs(load(str(model)))
    whole = embedded_logprobs(trained.load(second, trained.find(second), silent))
    base = embedded_logprobs(load("embedded:student"))
    assert np.abs(fused - whole).max() < 0.1 * np.abs(base - whole).max()
    card = (model / "README.md").read_text()
    assert "# student, distilled from teacher" in card and "It continued from first, a finished run." in card
    assert not (model / "origin.json").exists()


@pytest.mark.parametrize("which", ["3", "first"])
def test_weights_that_the_earlier_run_has_not_are_refused_and_nothing_is_left(which):
    refused = command("distill", "--output", "new", *options(*SMALL, f"student.path={finished()}@{which}"))
    assert refused.exit_code == 2 and len(refused.stderr.splitlines()) == 1
    assert f"{finished()}: no " in refused.stderr and list(Path.cwd().iterdir()) == []


def test_dry_runs_and_plans_take_a_run_for_a_student_and_write_nothing():
    before = state_of(finished())
    shown = command("distill", "--dry-run", *options(*SMALL, f"student.path={finished()}"))
    assert shown.exit_code == 0 and "nothing was trained or written" in shown.stdout, shown.output
    planned, base = (
        command("plan", "--recipe", finished() / run_folder.RECIPE, "--student", each)
        for each in (finished(), "embedded:student")
    )
    assert planned.exit_code == 0, planned.output
    assert "planned as embedded:student; layers trained before are float32" in " ".join(
        planned.stdout.split()
    )
    assert re.findall(r"peak at most \S+", planned.stdout) == re.findall(r"peak at most \S+", base.stdout)
    assert list(Path.cwd().iterdir()) == [] and state_of(finished()) == before


def test_without_a_recipe_the_earlier_run_s_own_is_taken_and_what_differs_is_said():
    own = recipes.resolve(None, {"student": f"{finished()}@best"}, ["train.steps=1"])[0]
    earlier = recipe_file.load_recipe(finished() / run_folder.RECIPE)
    assert (own.teacher, own.data, own.rollout) == (earlier.teacher, earlier.data, earlier.rollout)
    shown = command("distill", "--dry-run", "--student", finished(), "--set", "train.warmup_steps=1")
    assert f"recipe   as in {finished()}, except train.warmup_steps" in shown.stdout, shown.output


def test_where_a_run_is_no_student_the_way_out_is_named():
    teacher = command("distill", "--output", "new", "--student", "embedded:student", "--teacher", finished())
    cells = command("ablate", finished() / run_folder.RECIPE, "--output", "grid", "--vary", "objective.name=vgs",
                    "--set", f"student.path={finished()}")  # fmt: skip
    for refused in (teacher, cells):
        assert refused.exit_code == 2 and len(refused.stderr.splitlines()) == 1
        assert f"vgs-mlx export {finished()} --output MODEL" in refused.stderr
    assert list(Path.cwd().iterdir()) == []


def test_a_recipe_file_names_a_run_as_seen_from_itself(tmp_path):
    run = trained_run(tmp_path / "run")
    (tmp_path / "mine.yaml").write_text("student: {path: run@best}\n")
    assert recipe_file.load_recipe(tmp_path / "mine.yaml").student.path == f"{run}@best"
