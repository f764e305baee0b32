"""A checkpoint is whole or not there, is recognised when damaged or of another run, and holds all of a run."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

import toy_runs
from random_models import random_model
from toy_runs import command, copied, final_weights, finished, go_on, state_of
from vgs_mlx.commands import distill
from vgs_mlx.errors import Refusal
from vgs_mlx.models import adapters
from vgs_mlx.recipe.options import Student, Train
from vgs_mlx.resources import tiny_model
from vgs_mlx.runs import checkpoint
from vgs_mlx.runs import folder as run_folder
from vgs_mlx.runs.identity import fingerprint, identify
from vgs_mlx.train import optimizer as adamw
from vgs_mlx.train.step import Progress

IDENTITY = {"student": "one", "recipe seed": 0}
LORA = Student(rank=2)


def student(settings=LORA, seed=0):
    model = random_model(seed)
    adapters.prepare(model, settings, seed=seed)
    return model


def save(run, step, model=None, best=None, settings=LORA, identity=IDENTITY):
    model = model or student(settings)
    progress = Progress(step, [0.5, 0.25], 1, best, best)
    return checkpoint.save(run, model, adamw.make(Train(), model), progress, settings, identity)


def unfinished(folder, *sets) -> Path:
    """A run that was killed after its last checkpoint (step 4; step 2 is the one before)."""
    run = copied(finished(*sets), folder)
    (run / run_folder.RESULT).unlink()
    shutil.rmtree(run / run_folder.FINAL)
    return run


@pytest.fixture
def quick(monkeypatch):
    """Commands take models that are loaded already."""
    monkeypatch.setattr(distill.setup, "load", lambda *_: toy_runs.ready())


def flip(file: Path, place: int) -> None:
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)


DAMAGES = {
    "a weight's bit": ("adapters.safetensors", lambda file: flip(file, -1)),
    "the weights' header": ("adapters.safetensors", lambda file: flip(file, 20)),
    "a bit of the optimiser": ("optim.safetensors", lambda file: flip(file, -9)),
    "weights cut off": ("adapters.safetensors", lambda file: file.write_bytes(file.read_bytes()[:1000])),
    "no weights": ("adapters.safetensors", Path.unlink),
    "no optimiser": ("optim.safetensors", Path.unlink),
    "no state": ("state.json", Path.unlink),
    "half a state": ("state.json", lambda file: file.write_text(file.read_text()[:200])),
    "an empty state": ("state.json", lambda file: file.write_text("")),
    "a state of another kind": ("state.json", lambda file: file.write_text("[]")),
    "a digit of the state": (
        "state.json",
        lambda file: file.write_text(file.read_text().replace('"step": 4', '"step": 5')),
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_refused_before_models_load_and_the_previous_one_named(
    damage, tmp_path, monkeypatch
):
    monkeypatch.setattr(distill.setup, "load", lambda *_: pytest.fail("loaded"))
    run = unfinished(tmp_path / "run")
    name, harm = DAMAGES[damage]
    harm(run / "checkpoints" / "step-000004" / name)
    before = state_of(run)
    refused = command("distill", "--resume", "--output", run)
    assert refused.exit_code == 2, refused.output
    assert "step-000004: damaged" in refused.stderr and name in refused.stderr
    assert "to resume from the previous one, step-000002" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert state_of(run) == before


def test_following_the_advice_about_damage_gives_the_same_run(quick, tmp_path):
    run = unfinished(tmp_path / "run")
    for expected in ("resume from the previous one, step-000002", "start over from step 0"):
        newest = checkpoint.newest(run)
        flip(newest / "optim.safetensors", -1)
        refused = command("distill", "--resume", "--output", run)
        advised = re.search(r"delete (\S+) to (.+)$", refused.stderr)
        assert advised[2] == expected
        assert Path(advised[1]) == newest
        shutil.rmtree(advised[1])
    assert command("distill", "--resume", "--output", run).exit_code == 0
    assert toy_runs.same_run(run, finished())


def test_going_on_from_the_previous_one_gives_the_same_run(tmp_path):
    run = unfinished(tmp_path / "run")
    shutil.rmtree(checkpoint.newest(run))
    go_on(run)
    assert toy_runs.same_run(run, finished())


def test_a_recipe_changed_by_hand_is_refused_with_the_key_and_both_values(tmp_path, monkeypatch):
    run = unfinished(tmp_path / "run")
    monkeypatch.setattr(distill.setup, "load", ready_for)
    file = run / run_folder.RECIPE
    right = file.read_text()
    file.write_text(right.replace("learning_rate: 0.0001", "learning_rate: 0.01"))
    before = state_of(run)
    refused = command("distill", "--resume", "--output", run)
    assert refused.exit_code == 2
    assert (
        "belongs to another run: recipe train.learning_rate was 0.0001 and is 0.01 now: put it back"
        in refused.stderr
    )
    assert "the previous one, step-000002" in refused.stderr
    assert state_of(run) == before
    file.write_text(right)
    assert command("distill", "--resume", "--output", run).exit_code == 0
    assert final_weights(run) == final_weights(finished())


def ready_for(recipe, *_):
    """What a real load makes of a recipe."""
    found = toy_runs.ready()
    identity = identify(recipe, found.student, found.teacher, found.data)
    return replace(found, recipe=recipe, identity=identity)


@pytest.mark.parametrize("key", ["recipe objective.steering_coef", "recipe seed"])
def test_a_checkpoint_of_another_run_is_refused(key, tmp_path, monkeypatch):
    run = unfinished(tmp_path / "run")
    before = state_of(run)
    ours = toy_runs.ready()
    with pytest.raises(
        Refusal, match=f"step-000004: belongs to another run: {key} was .* and is 'other' now"
    ):
        toy_runs.loop.run(replace(ours, identity={**ours.identity, key: "other"}), run, toy_runs.QUIET)
    assert state_of(run) == before


def test_a_checkpoint_copied_from_another_run_is_refused_and_deleting_it_helps(tmp_path):
    run = unfinished(tmp_path / "run")
    foreign = save(run, 3, identity={**toy_runs.ready().identity, "data ids": "other"})
    foreign.rename(run / "checkpoints" / "step-000009")
    with pytest.raises(Refusal, match="the previous one, step-000004"):
        go_on(run)
    shutil.rmtree(run / "checkpoints" / "step-000009")
    go_on(run)
    assert toy_runs.same_run(run, finished())


def rewrite_state(folder, **changes) -> None:
    """Another version's state: whole, with its own checksum. None takes a part out."""
    state = {**json.loads((folder / "state.json").read_text()), **changes}
    state = {key: value for key, value in state.items() if value is not None and key != "checksum"}
    (folder / "state.json").write_text(json.dumps({**state, "checksum": checkpoint._checksum(state)}))


PROGRESS = {"step": 1, "norm_scales": [0.5], "skipped_in_a_row": 0, "best_accuracy": None, "best_step": None}


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"progress": {**PROGRESS, "tokens": 3}}, "progress with tokens"),
        (
            {"progress": {key: value for key, value in PROGRESS.items() if key != "best_step"}},
            "progress without best_step",
        ),
        ({"progress": {**PROGRESS, "step": "1"}}, "other values of step"),
        ({"progress": {**PROGRESS, "norm_scales": {"1": 0.5}}}, "other values of norm_scales"),
        ({"progress": []}, "state.json without progress"),
        ({"progress": None}, "state.json without progress"),
        ({"identity": None, "sha256": None}, "state.json without identity, sha256"),
    ],
)
@pytest.mark.parametrize("versions", ['{"vgs-mlx": "0.9.1"}', "{", "[]", None])
def test_a_checkpoint_of_another_version_is_refused_with_the_version_that_goes_on(
    changes, what, versions, tmp_path
):
    folder = save(tmp_path, 1)
    rewrite_state(folder, **changes)
    if versions:
        (tmp_path / "versions.json").write_text(versions)
    model = student(seed=3)
    before = adapters.trainable_weights(model.module)
    with pytest.raises(Refusal) as refused:
        checkpoint.load(folder, model, adamw.make(Train(), model), IDENTITY)
    wrote = "vgs-mlx 0.9.1" if versions == '{"vgs-mlx": "0.9.1"}' else "another version of vgs-mlx"
    fix = "resume it with that version, or start a new run"
    assert str(refused.value) == f"{folder}: written by {wrote}, with {what}: {fix}"
    after = adapters.trainable_weights(model.module)
    assert all(mx.array_equal(value, after[name]) for name, value in before.items())


def test_adapters_of_another_shape_are_refused(tmp_path):
    folder = save(tmp_path, 1)
    with pytest.raises(Refusal, match="its weights belong to another model: "):
        adapters.load_weights(student(Student(rank=2, targets=("q_proj",))).module, folder)
    with pytest.raises(Refusal, match=r"has shape \(2, 16\), the model needs \(3, 16\)"):
        adapters.load_weights(student(Student(rank=3)).module, folder)


WAYS = [LORA, Student(train="dora", rank=2), Student(train="full"), Student(rank=2, train_vision=True)]


@pytest.mark.parametrize("settings", WAYS, ids=["lora", "dora", "full", "vision"])
def test_what_is_saved_is_what_is_loaded(settings, tmp_path):
    model, other = student(settings, seed=1), student(settings, seed=2)
    optimizer = adamw.make(Train(learning_rate=0.1), model)
    noise = {
        name: mx.random.normal(each.shape) for name, each in adapters.trainable_weights(model.module).items()
    }
    adamw.update(optimizer, model, noise)
    progress = Progress(7, [0.1, 1 / 3], 2, 0.625, 5)
    folder = checkpoint.save(tmp_path, model, optimizer, progress, settings, IDENTITY)
    fresh = adamw.make(Train(learning_rate=0.1), other)
    assert checkpoint.load(folder, other, fresh, IDENTITY) == progress
    for left, right in (
        (adapters.trainable_weights(model.module), adapters.trainable_weights(other.module)),
        tuple(dict(tree_flatten(each.state)) for each in (optimizer, fresh)),
    ):
        assert left.keys() == right.keys()
        assert all(mx.array_equal(value, right[name]) for name, value in left.items())


def test_the_same_checkpoint_is_the_same_bytes_without_any_time_in_it(tmp_path):
    first, second = save(tmp_path / "a", 1), save(tmp_path / "b", 1)
    assert {file.name: file.read_bytes() for file in first.iterdir()} == {
        file.name: file.read_bytes() for file in second.iterdir()
    }
    for file in first.glob("*.safetensors"):
        content = file.read_bytes()
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        assert header["__metadata__"] == {"format": "mlx"}
    assert "optim" in checkpoint.OPTIMIZER_FILE


def test_a_checkpoint_that_fails_half_way_is_not_there(tmp_path, monkeypatch):
    save(tmp_path, 1)

    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(checkpoint, "_write_json", full)
    with pytest.raises(OSError, match="No space"):
        save(tmp_path, 2)
    assert [each.name for each in checkpoint.all_of(tmp_path)] == ["step-000001"]
    monkeypatch.undo()
    save(tmp_path, 2)
    assert toy_runs.checkpoints(tmp_path) == ["step-000001", "step-000002"]


def test_the_newest_ones_and_the_best_are_kept_and_leftovers_go(tmp_path):
    for step in range(1, 7):
        save(tmp_path, step)
    for leftover in (".step-000007.writing", ".step-000003.old"):
        (tmp_path / "checkpoints" / leftover).mkdir()
        (tmp_path / "checkpoints" / leftover / "half").touch()
    checkpoint.prune(tmp_path, 2, best_step=3)
    assert toy_runs.checkpoints(tmp_path) == ["step-000003", "step-000005", "step-000006"]
    checkpoint.prune(tmp_path, 1, best_step=None)
    assert toy_runs.checkpoints(tmp_path) == ["step-000006"]
    checkpoint.prune(tmp_path, 5, best_step=0)
    assert checkpoint.newest(tmp_path).name == "step-000006"


def test_a_run_without_checkpoints_has_no_newest(tmp_path):
    assert checkpoint.newest(tmp_path) is None


def test_a_model_is_recognised_and_told_from_another(tmp_path):
    copy = Path(shutil.copytree(tiny_model("student"), tmp_path / "copy"))
    assert fingerprint(copy) == fingerprint(tiny_model("student"))
    assert fingerprint(copy) != fingerprint(tiny_model("teacher"))
    seen = {fingerprint(copy)}
    file = copy / "model.safetensors"
    content = np.frombuffer(file.read_bytes(), dtype=np.uint8)
    half = len(content) // 2  # as a fine-tuned model: the same names, shapes and sizes, other values
    file.write_bytes(bytes(content[:half]) + bytes(content[half:] ^ 1))
    assert fingerprint(copy) not in seen
    seen.add(fingerprint(copy))
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "vocab_size": 577}))
    assert fingerprint(copy) not in seen
