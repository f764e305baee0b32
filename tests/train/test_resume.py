"""A run that was killed or stopped, and went on, is the run that nobody interrupted: the same bytes of weights."""

import random
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

import toy_runs
from toy_runs import (
    command,
    copied,
    final_weights,
    finished,
    go_on,
    metrics,
    options,
    recorded_steps,
    same_run,
    spawned,
    state_of,
    train,
    wait_for,
)
from vgs_mlx.commands import distill as distillation
from vgs_mlx.errors import Refusal
from vgs_mlx.runs import checkpoint
from vgs_mlx.runs import folder as run_folder
from vgs_mlx.train import loop

STEPS = ("train.steps=5",)


@pytest.mark.parametrize(
    ("sets", "rows"), [(STEPS, 1), (("student.train=full", *STEPS), 3)], ids=["lora", "full"]
)
def test_after_kill_9_at_a_random_moment_resuming_gives_the_same_bytes(sets, rows, tmp_path):
    """Before the first checkpoint, written after step 2 (LoRA), and after it (full weights)."""
    run = tmp_path / "run"
    process = spawned("distill", "--output", run, *options(*sets))
    wait_for(lambda: recorded_steps(run) >= rows, process)
    delay = random.SystemRandom().uniform(0, 0.3)
    try:
        process.wait(delay)
    except subprocess.TimeoutExpired:
        process.kill()
    process.communicate()
    done = recorded_steps(run)
    half_written(run, done + 1)
    resumed = command("distill", "--resume", "--output", run)
    assert resumed.exit_code == 0, resumed.output
    assert same_run(run, finished(*sets)), f"killed {delay:.3f} s after row {rows}, {done} rows there"
    assert [name for name in toy_runs.checkpoints(run) if name.startswith(".")] == []


def half_written(run: Path, step: int) -> None:
    """What a kill in the middle of writing a checkpoint leaves, and one in the middle of a row."""
    beside = run / run_folder.CHECKPOINTS / f".step-{step:06d}.writing"
    beside.mkdir(parents=True, exist_ok=True)
    (beside / "adapters.safetensors").write_bytes(b"half a fi")
    with (run / run_folder.METRICS).open("ab") as stream:
        stream.write('{"step": 99, "name": "é'.encode()[:-1])


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path):
    run = tmp_path / "a run"
    process = spawned("distill", "--output", run, *options(*STEPS, "train.checkpoint_every=100"))
    wait_for(lambda: recorded_steps(run) >= 1, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert "Ctrl-C: finishing this step, then saving" in errors
    done = recorded_steps(run)
    assert f"Step {done} is saved; go on with: vgs-mlx distill --resume --output '{run}'" in errors
    assert toy_runs.checkpoints(run) == [f"step-{done:06d}"]
    go_on(run, *STEPS, "train.checkpoint_every=100")
    assert same_run(run, finished(*STEPS))


def test_ctrl_c_before_training_leaves_nothing(tmp_path, monkeypatch):
    def press(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(distillation.setup, "load", press)
    stopped = command("distill", "--output", tmp_path / "new" / "run", *options())
    assert stopped.exit_code == 130
    assert toy_runs.names(tmp_path) == []


def test_ctrl_c_twice_stops_at_once_and_says_how_to_go_on(tmp_path, monkeypatch):
    def press(*_):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(loop, "run_step", press)
    monkeypatch.setattr(distillation.setup, "load", lambda *_: toy_runs.ready())
    stopped = command("distill", "--output", tmp_path / "run", *options())
    assert stopped.exit_code == 130
    assert f"go on with: vgs-mlx distill --resume --output {tmp_path / 'run'}" in stopped.stderr
    monkeypatch.undo()
    go_on(tmp_path / "run")
    assert same_run(tmp_path / "run", finished())


def test_resuming_a_finished_run_changes_nothing_and_says_so(tmp_path):
    run = copied(finished(), tmp_path / "run")
    before = state_of(run)
    for sets in ((), ("--set", "train.steps=4"), ("--set", "train.steps=3")):
        resumed = command("distill", "--resume", "--output", run, *sets)
        assert resumed.exit_code == 0
        assert "finished at step 4, nothing changed" in resumed.stdout
        assert state_of(run) == before


def test_with_more_steps_a_finished_run_goes_on_and_equals_a_longer_one(tmp_path):
    run = copied(finished(), tmp_path / "run")
    resumed = command("distill", "--resume", "--output", run, "--set", "train.steps=6")
    assert resumed.exit_code == 0, resumed.output
    longer = finished("train.steps=6")
    assert final_weights(run) == final_weights(longer)
    assert metrics(run) == metrics(longer)
    assert toy_runs.read_json(run / run_folder.RESULT)["steps"] == 6
    assert run_folder.opened(run).train.steps == 6
    again = command("distill", "--resume", "--output", run)
    assert "finished at step 6, nothing changed" in again.stdout


def test_fewer_steps_than_are_done_are_refused(tmp_path):
    run = copied(finished(), tmp_path / "run")
    (run / run_folder.RESULT).unlink()
    before = state_of(run)
    with pytest.raises(Refusal, match=r"train\.steps=3: the run is at step 4 already"):
        go_on(run, "train.steps=3")
    assert state_of(run) == before


def test_a_damaged_result_is_written_anew(tmp_path):
    run = copied(finished(), tmp_path / "run")
    (run / run_folder.RESULT).write_text("{")
    assert loop.finished_steps(run) is None
    go_on(run)
    assert loop.finished_steps(run) == 4
    assert same_run(run, finished())


def test_the_last_measurements_of_the_norm_scale_survive(tmp_path):
    """Measured at steps 1 and 3, used at 2 and 4; the mean of both measurements is what step 4 uses."""
    sets = ("train.checkpoint_every=1",)
    rows = metrics(finished(*sets))
    measured = [row["norm_scale_exact"] for row in rows]
    assert [each is not None for each in measured] == [True, False, True, False]
    assert rows[3]["norm_scale"] == pytest.approx((measured[0] + measured[2]) / 2, rel=1e-6)
    run = copied(finished(*sets), tmp_path / "run")
    for each in (run / run_folder.FINAL, run / run_folder.CHECKPOINTS / "step-000004"):
        shutil.rmtree(each)
    newest = checkpoint.newest(run)
    assert newest.name == "step-000003"
    assert checkpoint.verified_state(newest)["progress"]["norm_scales"] == [measured[0], measured[2]]
    go_on(run, *sets)
    assert metrics(run) == rows


def test_the_order_of_rows_and_the_random_numbers_go_on_where_they_were(tmp_path):
    """A run of more than one epoch, stopped inside the second, draws what it would have drawn."""
    sets = ("data.source=shapes:5", "train.steps=4", "train.checkpoint_every=3")
    run = copied(finished(*sets), tmp_path / "run")
    for each in (run / run_folder.FINAL, run / run_folder.CHECKPOINTS / "step-000004"):
        shutil.rmtree(each)
    go_on(run, *sets)
    assert same_run(run, finished(*sets))


def test_a_cosine_that_is_stretched_is_said(tmp_path):
    run = train(tmp_path / "run", "train.schedule=cosine", "train.steps=1")
    resumed = command("distill", "--resume", "--output", run, "--set", "train.steps=2")
    assert "cosine of 1 steps" in resumed.stdout


def test_other_changes_than_more_steps_are_refused_and_change_nothing(tmp_path):
    run = copied(finished(), tmp_path / "run")
    before = state_of(run)
    for change in ("train.learning_rate=1e-2", "seed=1", "student.rank=8", "data.held_out=9"):
        refused = command("distill", "--resume", "--output", run, "--set", change)
        assert refused.exit_code == 2
        assert f"--set {change.split('=')[0]}: a resumed run keeps its recipe" in refused.stderr
    assert state_of(run) == before


def test_a_run_is_one_process_s_alone(tmp_path):
    run = copied(finished(), tmp_path / "run")
    with run_folder.held(run):
        refused = command("distill", "--resume", "--output", run, "--set", "train.steps=6")
    assert refused.exit_code == 2
    assert "another vgs-mlx is working on this run" in refused.stderr
    with run_folder.held(run):
        pass  # free again
