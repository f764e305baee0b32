"""Ctrl-C and SIGTERM lose no step that was done, whatever goes on when they come; resuming goes on exactly."""

import signal
import time

import pytest

import toy_runs
from toy_runs import command, finished, go_on, options, same_run
from vgs_mlx.commands import distill
from vgs_mlx.runs import folder as run_folder
from vgs_mlx.train import loop, watch

EITHER = pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
RARE = ("train.checkpoint_every=100",)


def train(run, *sets):
    return command("distill", "--output", run, *options(*sets))


@pytest.fixture
def ready(monkeypatch):
    """Commands take models that are loaded already."""

    def take(*sets):
        monkeypatch.setattr(distill.setup, "load", lambda *_: toy_runs.ready(*sets))

    return take


def interrupting(monkeypatch, where, name, number, nth, *, then=None) -> list[float]:
    """The nth call of a function sends this process a signal in its midst; the times at which that was."""
    real, calls, pressed = getattr(where, name), [], []

    def called(*given, **options):
        calls.append(name)
        if len(calls) == nth:
            pressed.append(time.monotonic())
            signal.raise_signal(number)
            if then:
                then()
        return real(*given, **options)

    monkeypatch.setattr(where, name, called)
    return pressed


def never():
    pytest.fail("went on")


@EITHER
def test_an_evaluation_is_broken_off_at_once_and_the_steps_before_it_are_kept(
    number, code, tmp_path, ready, monkeypatch
):
    sets = (*RARE, "train.evaluate_every=2")
    ready(*sets)
    # the first call is at step 0
    interrupting(monkeypatch, loop.evaluation, "answer", number, 2, then=never)
    stopped = train(tmp_path / "run", *sets)
    assert stopped.exit_code == code, stopped.output
    assert (
        f"Step 2 is saved; go on with: vgs-mlx distill --resume --output {tmp_path / 'run'}" in stopped.stderr
    )
    assert [row["step"] for row in run_folder.rows(tmp_path / "run" / run_folder.EVALUATIONS)] == [0]
    monkeypatch.undo()
    go_on(tmp_path / "run", *sets)
    assert same_run(tmp_path / "run", finished(*sets))


@EITHER
def test_a_look_at_the_terms_is_broken_off_at_once_and_its_step_is_saved(
    number, code, tmp_path, ready, monkeypatch
):
    sets = (*RARE, "train.watch_every=3", "train.evaluate_every=100")
    ready(*sets)
    interrupting(monkeypatch, watch, "compute_terms", number, 2, then=never)
    stopped = train(tmp_path / "run", *sets)
    assert stopped.exit_code == code, stopped.output
    assert "Step 3 is saved; go on with" in stopped.stderr
    assert toy_runs.checkpoints(tmp_path / "run") == ["step-000003"]
    monkeypatch.undo()
    go_on(tmp_path / "run", *sets)
    whole = finished(*sets)
    assert same_run(tmp_path / "run", whole)
    assert (tmp_path / "run" / run_folder.TERMS).read_bytes() == (whole / run_folder.TERMS).read_bytes()


@EITHER
def test_a_step_is_finished_and_saved_and_not_measured(number, code, tmp_path, ready, monkeypatch):
    sets = (*RARE, "train.evaluate_every=3")
    ready(*sets)
    interrupting(monkeypatch, loop, "run_step", number, 3)
    stopped = train(tmp_path / "run", *sets)
    assert stopped.exit_code == code, stopped.output
    assert "Step 3 is saved" in stopped.stderr
    assert [row["step"] for row in run_folder.rows(tmp_path / "run" / run_folder.EVALUATIONS)] == [0]
    monkeypatch.undo()
    go_on(tmp_path / "run", *sets)
    assert same_run(tmp_path / "run", finished(*sets))


def test_before_the_first_step_nothing_is_saved_and_the_run_can_go_on(tmp_path, ready, monkeypatch):
    ready(*RARE)
    interrupting(monkeypatch, loop.evaluation, "answer", signal.SIGINT, 1, then=never)
    stopped = train(tmp_path / "run", *RARE)
    assert stopped.exit_code == 130
    assert (
        f"No step is saved yet; go on with: vgs-mlx distill --resume --output {tmp_path / 'run'}"
        in stopped.stderr
    )
    monkeypatch.undo()
    go_on(tmp_path / "run", *RARE)
    assert same_run(tmp_path / "run", finished(*RARE))


def test_the_last_evaluation_is_broken_off_and_done_when_the_run_goes_on(tmp_path, ready, monkeypatch):
    sets = (*RARE, "train.evaluate_blind=true")
    ready(*sets)
    interrupting(monkeypatch, loop.evaluation, "answer", signal.SIGTERM, 3, then=never)  # without the picture
    stopped = train(tmp_path / "run", *sets)
    assert stopped.exit_code == 143 and "Step 4 is saved" in stopped.stderr
    assert not (tmp_path / "run" / run_folder.FINAL).exists()
    monkeypatch.undo()
    go_on(tmp_path / "run", *sets)
    assert same_run(tmp_path / "run", finished(*sets))


@EITHER
def test_while_models_load_nothing_is_left(number, code, tmp_path, monkeypatch):
    monkeypatch.setattr(distill.setup, "load", lambda *_: signal.raise_signal(number))
    stopped = train(tmp_path / "new" / "run")
    assert stopped.exit_code == code
    assert stopped.stderr == "\nvgs-mlx: stopped.\n"
    assert toy_runs.names(tmp_path) == []


def test_the_second_sigterm_stops_at_once(tmp_path, ready, monkeypatch):
    ready()
    interrupting(
        monkeypatch, loop, "run_step", signal.SIGTERM, 3, then=lambda: signal.raise_signal(signal.SIGTERM)
    )
    stopped = train(tmp_path / "run")
    assert stopped.exit_code == 143
    assert "Steps after the last checkpoint are lost; go on with" in stopped.stderr
    monkeypatch.undo()
    go_on(tmp_path / "run")
    assert same_run(tmp_path / "run", finished())


def test_signals_are_handled_after_a_command_as_they_were_before(tmp_path, ready, monkeypatch):
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    ready()
    interrupting(monkeypatch, loop, "run_step", signal.SIGINT, 1)
    train(tmp_path / "run")
    assert {number: signal.getsignal(number) for number in before} == before


# --- how long it took


def slow_evaluations(monkeypatch, seconds):
    real = loop.evaluation.answer

    def slow(*given, **options):
        time.sleep(seconds)
        return real(*given, **options)

    monkeypatch.setattr(loop.evaluation, "answer", slow)


def test_the_seconds_are_those_of_all_processes(tmp_path, ready, monkeypatch):
    ready(*RARE)
    slow_evaluations(monkeypatch, 1.0)  # so that the earlier process took long enough to be told of
    interrupting(monkeypatch, loop, "run_step", signal.SIGINT, 2)
    train(tmp_path / "run", *RARE)
    earlier = run_folder.rows(tmp_path / "run" / run_folder.METRICS)
    assert [row["step"] for row in earlier] == [1, 2]
    monkeypatch.undo()
    ready(*RARE)
    resumed = command("distill", "--resume", "--output", tmp_path / "run")
    assert resumed.exit_code == 0, resumed.output
    found = toy_runs.read_json(tmp_path / "run" / run_folder.RESULT)
    before = sum(row["seconds"]["step"] + row["seconds_between"] for row in earlier)
    assert found["seconds"] == pytest.approx(before + found["seconds_of_last_process"], abs=0.01)
    assert (
        f"took     {found['seconds']:.0f} s ({found['seconds_of_last_process']:.0f} s since" in resumed.stdout
    )


def test_the_time_between_steps_is_kept_with_the_step_after_it(tmp_path, monkeypatch):
    """Two evaluations: at the start, and after step 2."""
    slow_evaluations(monkeypatch, 1.0)
    toy_runs.train(
        tmp_path / "run", "train.steps=3", "train.evaluate_every=2", "rollout.max_completion_length=2"
    )
    between = [row["seconds_between"] for row in run_folder.rows(tmp_path / "run" / run_folder.METRICS)]
    assert between[0] > 1.0 and between[2] > 1.0 > between[1] >= 0
    found = toy_runs.read_json(tmp_path / "run" / run_folder.RESULT)
    assert found["seconds"] == pytest.approx(found["seconds_of_last_process"], abs=0.01)
