"""Which of a run's weights count, and that they are put into the model that was trained."""

import json
import shutil
from pathlib import Path

import mlx.core as mx
import pytest
from mlx.optimizers import AdamW

from vgs_mlx import recipe_file, trained
from vgs_mlx.errors import Refusal
from vgs_mlx.models import adapters
from vgs_mlx.models.loading import load_model
from vgs_mlx.recipe import Recipe, Student
from vgs_mlx.resources import tiny_model
from vgs_mlx.train import checkpoint
from vgs_mlx.train.identity import fingerprint
from vgs_mlx.train.run_folder import FINAL, RECIPE, RESULT
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


def save_checkpoint(run: Path, student, step: int) -> Path:
    identity = {"student": fingerprint(student.folder)}
    settings = Student(path=student.name, rank=2)
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
