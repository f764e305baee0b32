"""Before whichever file operation a run is killed or finds the disk full, resuming it gives the undisturbed run."""

import contextlib
import errno
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import mlx.core as mx
import pytest

import toy_runs
from fuse import FUSE, Act
from toy_runs import GOOD, go_on, same_run, train
from vgs_mlx.commands import distill as distillation
from vgs_mlx.errors import Refusal
from vgs_mlx.evaluation.evaluate import Answer
from vgs_mlx.exporting import earlier_run
from vgs_mlx.models import adapters
from vgs_mlx.runs import folder as run_folder
from vgs_mlx.train import loop, watch
from vgs_mlx.train import optimizer as adamw

CHEAP = (
    "student.rank=1", "student.targets=[q_proj]", "rollout.prompts_per_step=1", "train.steps=3",
    "train.evaluate_rows=1", "train.evaluate_every=2", "train.checkpoint_every=1", "train.keep_checkpoints=1",
    "train.watch_every=2",
)  # fmt: skip


class Killed(BaseException):
    """Stands for kill -9: nothing in the package catches it."""


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

    def total(student) -> float:
        """0 until the student has been trained: LoRA's second factor starts at 0."""
        weights = adapters.trainable_weights(student.module).items()
        return sum(each.abs().sum().item() for name, each in weights if name.endswith("lora_b"))

    def answer(student, examples, *_, **__):
        """Wrong before the first step, right after each: the best evaluation is that of step 2."""
        return [
            [Answer(each, "\u2028 is no line end", total(student) > 0, True, 5, None)] for each in examples
        ]

    def look(ready, folder, step):
        if step == 0:
            run_folder.write_text(folder / watch.FILE, json.dumps([[3]] * len(ready.data.held_out)))
        run_folder.append(folder / run_folder.TERMS, {"step": step, "total": total(ready.student)})

    monkeypatch.setattr(loop, "run_step", step)
    monkeypatch.setattr(loop.metrics, "row", lambda step, *_: {"step": step, "note": "\x85 neither"})
    monkeypatch.setattr(loop.evaluation, "answer", answer)
    monkeypatch.setattr(loop.watch, "look", look)
    monkeypatch.setattr(toy_runs.QUIET, "training", lambda *_: contextlib.nullcontext(lambda row: None))


def stopped(folder: Path, after: int, act: Act) -> bool:
    """Start a run that is stopped at its n-th file operation; False if it had ended by then."""
    made_ready = toy_runs.ready(*CHEAP)
    run_folder.create(folder, made_ready.recipe)
    try:
        with FUSE.lit(folder, after, act):
            distillation._train(made_ready, folder, toy_runs.QUIET)
    except Killed:
        return True
    except Refusal as refusal:
        assert f"{folder}: can't be written (No space left on device)" in str(refusal)
        assert f"go on with: vgs-mlx distill --resume --output {folder}" in str(refusal)
        left = [name for name in toy_runs.names(folder) if name.endswith(".writing")]
        assert left == [], f"half-written at operation {after}"
        return True
    return False


def killed(_: str) -> None:
    raise Killed


def full(_: str) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("act", [killed, full])
def test_whichever_file_operation_a_kill_or_a_full_disk_comes_before_resuming_gives_the_same_run(
    act, without_models, tmp_path
):
    whole = train(tmp_path / "whole", *CHEAP)
    assert toy_runs.checkpoints(whole) == ["step-000002", "step-000003"]  # the best, and the newest
    after = 1
    while stopped(run := tmp_path / str(after), after, act):
        go_on(run, *CHEAP)
        assert same_run(run, whole), f"stopped before operation {after}"
        assert (run / run_folder.TERMS).read_bytes() == (whole / run_folder.TERMS).read_bytes()
        assert toy_runs.checkpoints(run) == toy_runs.checkpoints(whole), f"stopped before operation {after}"
        assert not [name for name in toy_runs.names(run) if name.startswith(".")]
        after += 1
    assert after > 40  # the fuse did burn at every write


def test_a_kill_before_the_first_step_leaves_a_run_that_goes_on_with_all_that_explains_it(
    tmp_path, monkeypatch
):
    """Its student is an earlier run's, and its rows have pictures and faults: all that is written before step 0."""
    rows = toy_runs.data_file(tmp_path / "data", *[GOOD] * 4, GOOD | {"image": "gone.png"})
    earlier = toy_runs.finished(*CHEAP)
    sets = (f"data.source={rows}", "data.held_out=0.5", "data.on_bad_row=skip", *CHEAP)
    options = [*toy_runs.options(*sets), "--set", f"student.path={earlier}"]
    monkeypatch.setattr(distillation.setup, "load", lambda *_: toy_runs.ready(*sets))
    monkeypatch.setattr(distillation.loop, "run", interrupted)
    monkeypatch.setattr(earlier_run, "write_model", lambda *given: (given[-1] / "weights").write_text("all"))
    run, whole = tmp_path / "run", tmp_path / "whole"
    assert toy_runs.command("distill", "--output", run, *options).exit_code == 130
    run.rename(whole)
    monkeypatch.setattr(
        run_folder, "gone_on_failure", lambda *_: contextlib.nullcontext()
    )  # the dead clean nothing
    after = 1
    while started_and_killed(run, after, options):
        there = (run / run_folder.RECIPE).exists()
        again = ["--resume", "--output", run] if there else ["--output", run, *options]
        said = toy_runs.command("distill", *again)
        assert said.exit_code == 130, f"killed before operation {after}: {said.output}"
        assert contents(run) == contents(whole), f"killed before operation {after}"
        shutil.rmtree(run)
        after += 1
    assert after > 15


def started_and_killed(run: Path, after: int, options: list[str]) -> bool:
    """Start a run that is killed at its n-th file operation; False if it trained before that."""
    with contextlib.suppress(Killed), FUSE.lit(run, after, killed):
        toy_runs.command("distill", "--output", run, *options)
    return FUSE.burnt


def interrupted(*_):
    raise KeyboardInterrupt


def contents(folder: Path) -> dict[str, bytes]:
    return {name: content for name, (_, content) in toy_runs.state_of(folder).items()}
