"""Which of a run's weights count, and that they are put into the model that was trained."""

import json
import shutil
from pathlib import Path

import mlx.core as mx
import pytest
from mlx.optimizers import AdamW

from toy_runs import command, finished
from vgs_mlx.errors import Refusal
from vgs_mlx.models import adapters
from vgs_mlx.models.loading import load_model
from vgs_mlx.recipe import file as recipe_file
from vgs_mlx.recipe.options import Recipe, Student
from vgs_mlx.resources import tiny_model
from vgs_mlx.runs import checkpoint, trained
from vgs_mlx.runs import folder as run_folder
from vgs_mlx.runs.folder import FINAL, RECIPE, RESULT
from vgs_mlx.runs.identity import fingerprint
from vgs_mlx.train.step import Progress


def silent(_: str) -> None: ...


@pytest.fixture(scope="module")
def student():
    """The tiny student with an adapter whose every weight is 1."""
    model = load_model(str(tiny_model("student")), "student", say=silent)
    adapters.prepare(model, Student(path=model.name, rank=2), seed=0)
    ones = {name: mx.ones_like(weight) for name, weight in adapters.trainable_weights(model.module).items()}
    adapters.set_weights(model.module, ones)
    return model


@pytest.fixture
def run(tmp_path, student) -> Path:
    """A run folder without weights yet."""
    recipe = Recipe(student=Student(path=student.name, rank=2))
    (tmp_path / RECIPE).write_text(recipe_file.dump(recipe))
    return tmp_path


def save_checkpoint(run: Path, student, step: int, best: int | None = None) -> Path:
    identity = {"student": fingerprint(student.folder)}
    settings = Student(path=student.name, rank=2)
    if best is not None:
        measured = {"accuracy": 0.5, "low": 0.4, "high": 0.6, "prompts": 9}
        run_folder.append(run / run_folder.EVALUATIONS, {"step": best, **measured})
    return checkpoint.save(run, student, AdamW(1e-3), Progress(step=step), settings, identity)


def finish(run: Path, student, steps: int) -> Path:
    (run / RESULT).write_text(json.dumps({"steps": steps}))
    checkpoint.write_weights(run / FINAL, student, Student(path=student.name, rank=2))
    return run / FINAL


def test_a_finished_run_gives_its_final_weights(run, student):
    save_checkpoint(run, student, 20)
    final = finish(run, student, 20)
    found = trained.find(run)
    assert found.weights == final and "finished run" in found.origin


def test_an_unfinished_run_gives_its_newest_checkpoint_and_says_so(run, student):
    save_checkpoint(run, student, 20)
    newest = save_checkpoint(run, student, 40)
    (newest.parent / ".step-000060.writing").mkdir()  # what a kill leaves behind
    found = trained.find(run)
    assert found.weights == newest
    assert "step 40" in found.origin and "not finished" in found.origin


def test_a_finished_run_that_trains_on_counts_as_unfinished(run, student):
    finish(run, student, 20)
    newest = save_checkpoint(run, student, 30)
    assert trained.find(run).weights == newest


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_trained_weights_that_are_not_finite_are_refused(run, student, value):
    file = finish(run, student, 20) / adapters.ADAPTER_FILE
    weights = mx.load(str(file))
    name = min(weights)
    weights[name][0, 0] = value
    mx.save_safetensors(str(file.with_name("new.safetensors")), weights)
    file.with_name("new.safetensors").replace(file)
    with pytest.raises(Refusal, match="holds a number that isn't finite: it is damaged") as refused:
        trained.load(run, trained.find(run), silent)
    assert name in str(refused.value) and str(run / FINAL) in str(refused.value)


def test_any_of_a_run_s_weights_can_be_named(run, student):
    folders = {step: save_checkpoint(run, student, step, best=20) for step in (10, 20, 30)}
    final = finish(run, student, 30)
    named = {"10": 10, "20": 20, "best": 20, "newest": 30}
    for which, step in named.items():
        found = trained.find(run, which)
        assert (found.weights, found.step) == (folders[step], step) and f"step {step}" in found.origin
    assert trained.find(run, "final").weights == trained.find(run).weights == final
    assert trained.find(run).step == 30
    save_checkpoint(run, student, 40, best=20)
    assert trained.find(run, "final").weights == final and trained.find(run).step == 40


@pytest.mark.parametrize(
    ("which", "best", "said"),
    [
        ("15", 10, "no checkpoint of step 15: give one that is there: 10, 20"),
        ("final", 10, "no final weights, it has not finished: give one that is there: 10, 20"),
        ("best", 5, "no checkpoint of step 5: give one that is there"),
        (
            "best",
            0,
            "no step that was evaluated is better than the untrained student: give one that is there",
        ),
        (
            "best",
            None,
            "nothing has been evaluated yet, so no checkpoint is the best: give one that is there",
        ),
        ("first", 10, "no weights are called 'first': give final, newest, best or the number of a step"),
        ("-1", 10, "no weights are called '-1': give final, newest, best"),
    ],
)
def test_weights_that_are_not_there_are_refused_with_those_that_are(run, student, which, best, said):
    for step in (10, 20):
        save_checkpoint(run, student, step, best=best)
    with pytest.raises(Refusal) as refusal:
        trained.find(run, which)
    assert said in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "arguments",
    [
        ("evaluate", "RUN"),
        ("evaluate", "RUN", "--suite", "math500"),
        ("export", "RUN", "--output", "model"),
        ("report", "RUN", "--output", "page.html"),
        ("analyze", "RUN", "--output", "analysis"),
    ],
    ids=lambda each: " ".join(each[:1] + each[2:3]),
)
def test_every_command_that_loads_a_run_takes_a_checkpoint(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = [str(finished()) if each == "RUN" else each for each in arguments]
    refused = command(*line, "--checkpoint", "3")
    assert refused.exit_code == 2, refused.output
    said = f"{finished()}: no checkpoint of step 3: give one that is there: 2, 4, final"
    assert said in refused.stderr and len(refused.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", ["evaluate", "analyze"])
def test_a_model_has_no_checkpoints(verb, tmp_path):
    more = ("--output", tmp_path / "new") if verb == "analyze" else ()
    refused = command(verb, "embedded:student", "--checkpoint", "best", *more)
    assert refused.exit_code == 2
    assert "--checkpoint best: embedded:student is not a run folder: omit --checkpoint" in refused.stderr


def test_the_weights_of_the_step_that_is_named_are_loaded():
    run = finished()
    loaded = trained.load(run, trained.find(run, "2"), silent)
    kept = mx.load(str(run / "checkpoints" / "step-000002" / adapters.ADAPTER_FILE))
    weights = adapters.trainable_weights(loaded.module)
    assert weights.keys() == kept.keys()
    assert all(bool(mx.array_equal(weights[name], kept[name])) for name in kept)


def test_the_loaded_model_holds_the_run_s_weights(run, student):
    finish(run, student, 20)
    weights = adapters.trainable_weights(trained.load(run, trained.find(run), silent).module)
    assert weights and all(bool((weight == 1).all()) for weight in weights.values())


@pytest.mark.parametrize("what", ["nothing", "a recipe alone", "a damaged checkpoint", "a damaged result"])
def test_what_is_no_trained_run_is_refused_in_one_line(run, student, what):
    if what == "nothing":
        (run / RECIPE).unlink()
    if what == "a damaged checkpoint":
        (save_checkpoint(run, student, 20) / adapters.ADAPTER_FILE).write_bytes(b"")
    if what == "a damaged result":
        finish(run, student, 20)
        (run / RESULT).write_text("{")
    with pytest.raises(Refusal, match=str(run)) as refusal:
        trained.find(run)
    assert "\n" not in str(refusal.value)


def test_damaged_weights_are_refused(run, student):
    file = finish(run, student, 20) / adapters.ADAPTER_FILE
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(Refusal, match="damaged"):
        trained.load(run, trained.find(run), silent)


def test_a_student_whose_files_have_changed_since_is_refused(run, student, tmp_path):
    save_checkpoint(run, student, 20)
    changed = shutil.copytree(student.folder, tmp_path / "changed")
    config = changed / "config.json"
    config.write_text(config.read_text() + "\n")
    (run / RECIPE).write_text(recipe_file.dump(Recipe(student=Student(path=str(changed), rank=2))))
    with pytest.raises(Refusal, match="not the model that"):
        trained.load(run, trained.find(run), silent)
