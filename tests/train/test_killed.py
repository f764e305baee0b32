"""Before whichever file operation a run is killed, resuming it gives the run that nobody interrupted."""

import contextlib
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import mlx.core as mx
import pytest

import toy_runs
from toy_runs import (
    go_on,
    same_run,
    train,
)
from vgs_mlx.evaluate import Answer
from vgs_mlx.models import adapters
from vgs_mlx.train import loop, run_folder
from vgs_mlx.train import optimizer as adamw

CHEAP = (
    "student.rank=1", "student.targets=[q_proj]", "rollout.prompts_per_step=1", "train.steps=3",
    "train.evaluate_rows=1", "train.evaluate_every=2", "train.checkpoint_every=1", "train.keep_checkpoints=1",
)  # fmt: skip
OPERATIONS = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree")


class Killed(BaseException):
    """Stands for kill -9: nothing in the package catches it."""


class Fuse:
    """Raises `Killed` just before the n-th operation that changes a file in a folder; counts them all."""

    def __init__(self) -> None:
        self.folder, self.left, self.count = None, -1, 0

    def light(self, folder: Path | None, left: int = -1) -> None:
        self.folder, self.left, self.count = folder, left, 0

    def hear(self, event: str, arguments: tuple) -> None:
        reads = event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if self.folder is None or event not in OPERATIONS or reads or not self._inside(arguments):
            return
        self.count += 1
        if self.count == self.left:
            self.folder = None  # the dead do nothing more
            raise Killed(event)

    def _inside(self, arguments: tuple) -> bool:
        path = arguments[0]
        below = isinstance(path, str | Path) and str(path).startswith(str(self.folder))
        in_a_removal = isinstance(path, str) and not os.path.isabs(path) and arguments[-1] not in (-1, None)
        return below or (in_a_removal and len(arguments) == 2)


@pytest.fixture(scope="module")
def fuse():
    """Python's audit hooks can't be taken out again, so there is one for all tests."""
    made = Fuse()
    sys.addaudithook(made.hear)
    yield made
    made.light(None)


@pytest.fixture
def without_models(monkeypatch):
    """The loop with all its files, but with random gradients and given answers in place of what models compute."""

    def step(student, teacher, prompts, recipe, optimizer, progress):
        weights = adapters.trainable_weights(student.module)
        noise = mx.random.key(
            hash((progress.step, prompts[0].example.id, tuple(progress.norm_scales))) % 2**32
        )
        adamw.update(
            optimizer,
            student,
            {name: mx.random.normal(each.shape, key=noise) for name, each in weights.items()},
        )
        progress.norm_scales = [*progress.norm_scales, 1 / (1 + progress.step)][-4:]
        progress.step += 1
        return SimpleNamespace(finite=True)

    def answer(student, examples, *_, **__):
        return [[Answer(each, "\u2028 is no line end", False, True, 5, None)] for each in examples]

    monkeypatch.setattr(loop, "run_step", step)
    monkeypatch.setattr(loop.metrics, "row", lambda step, *_: {"step": step, "note": "\x85 neither"})
    monkeypatch.setattr(loop.evaluation, "answer", answer)
    monkeypatch.setattr(toy_runs.QUIET, "training", lambda *_: contextlib.nullcontext(lambda row: None))


def killed(fuse: Fuse, folder: Path, after: int) -> bool:
    """Start a run that is killed at its n-th file operation; False if it had ended by then."""
    made_ready = toy_runs.ready(*CHEAP)
    run_folder.create(folder, made_ready.recipe)
    fuse.light(folder, after)
    try:
        loop.run(made_ready, folder, toy_runs.QUIET)
    except Killed:
        return True
    finally:
        fuse.light(None)
    return False


def test_whichever_file_operation_a_kill_comes_before_resuming_gives_the_same_run(
    fuse, without_models, tmp_path
):
    whole = train(tmp_path / "whole", *CHEAP)
    after = 1
    while killed(fuse, run := tmp_path / str(after), after):
        go_on(run, *CHEAP)
        assert same_run(run, whole), f"killed before operation {after}"
        assert toy_runs.checkpoints(run) == toy_runs.checkpoints(whole), f"killed before operation {after}"
        assert not [name for name in toy_runs.names(run) if name.startswith(".")]
        after += 1
    assert after > 40  # the fuse did burn at every write
