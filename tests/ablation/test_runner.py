"""Runs go on side by side, stop together, and survive every way of being stopped."""

import os
import signal
import subprocess
import sys
import time

import pytest
from rich.console import Console

import toy_runs
from toy_runs import command, copied, recorded_steps, same_run, spawned, train, wait_for
from vgs_mlx.ablation import grid_file, jobs, runner
from vgs_mlx.ablation.board import Board
from vgs_mlx.ablation.grid import Cell, Grid
from vgs_mlx.ablation.jobs import jobs_of
from vgs_mlx.commands import ablate, grid_run
from vgs_mlx.errors import Interrupted, Refusal
from vgs_mlx.recipe import file as recipe_file
from vgs_mlx.runs import checkpoint
from vgs_mlx.runs import folder as run_folder

# Stands for a worker: keeps the time, holds the run as a real one does, and ends as its cell's name says.
FAKE = """
import fcntl, json, os, shutil, sys, time, pathlib
recipe, folder = map(pathlib.Path, sys.argv[1:])
with (folder.parent.parent / "times").open("a") as times:
    print("start", folder.parent.name, folder.name, os.environ.get("OPENBLAS_NUM_THREADS"),
          os.environ["VGS_MLX_RUNS_AT_ONCE"], file=times, flush=True)
    print("line of", folder.parent.name, flush=True)
    time.sleep(0.1)
    end = time.monotonic() + 60
    while folder.parent.name.startswith("meets") and time.monotonic() < end:
        if pathlib.Path(times.name).read_text().count("start ") > 1:
            break
        time.sleep(0.02)
    if folder.parent.name == "fails":
        raise SystemExit("no more memory")
    if folder.parent.name == "waits":
        (folder.parent / "ready").touch()
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            sys.exit(130)
    (folder / "final").mkdir(parents=True)
    shutil.copy(recipe, folder / "recipe.yaml")
    (folder / "result.json").write_text(json.dumps({"steps": 200, "accuracy_after": 0.75}))
    print("end", folder.parent.name, folder.name, file=times, flush=True)
"""


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr(runner, "worker", lambda *given: [sys.executable, "-c", FAKE, *map(str, given)])
    monkeypatch.setattr(runner, "POLL", 0.02)
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)


def grid(*names, seeds=1):
    """Cells that differ in a number."""
    settings = [{"objective.steering_coef": place} for place in range(len(names))]
    recipes = [
        recipe_file.build({"objective": {"steering_coef": place}}, "test") for place in range(len(names))
    ]
    cells = [Cell(*each, seeds) for each in zip(names, settings, recipes, strict=True)]
    return Grid(tuple(cells), names[0])


def run(folder, made, at_once=1):
    """How each run ended, by its folder, and what was printed."""
    board = Board(Console(file=(folder / "said").open("w"), width=80))
    states = runner.run(jobs_of(folder, made), at_once, board)
    board.console.file.close()
    ended = {f"{job.cell}/{job.folder.name}": state for job, state in states.items()}
    return ended, (folder / "said").read_text()


def times(folder):
    return [line.split() for line in (folder / "times").read_text().splitlines()]


def test_every_run_runs_once_seed_by_seed_and_never_again(fake, tmp_path):
    made = grid("a", "b", seeds=2)
    states, said = run(tmp_path, made)
    assert set(states.values()) == {"done"} and len(states) == 4
    assert [each[:3] for each in times(tmp_path)] == [
        [what, cell, seed] for seed in ("seed-0", "seed-1") for cell in "ab" for what in ("start", "end")
    ]
    assert "done     b, seed 1: accuracy 0.750" in said
    again, said = run(tmp_path, made)
    assert set(again.values()) == {"done"} and "4 already finished" in said
    assert len(times(tmp_path)) == 8


def test_no_more_runs_than_asked_go_on_side_by_side_with_one_blas_thread_each(fake, tmp_path):
    run(tmp_path, grid("meets", "meets-too", "c"), at_once=2)  # a busy machine is slow to start the second
    going, most = 0, 0
    for each in times(tmp_path):
        going += 1 if each[0] == "start" else -1
        most = max(most, going)
    assert most == 2
    assert {each[3] for each in times(tmp_path) if each[0] == "start"} == {"1"}


def test_each_run_has_its_share_of_the_memory_by_how_many_can_go_on_at_once(fake, tmp_path):
    run(tmp_path, grid("a", "b", "c"), at_once=2)
    run(tmp_path, grid("a", "b", "c", "d"), at_once=3)
    assert [each[4] for each in times(tmp_path) if each[0] == "start"] == ["2", "2", "2", "1"]


def test_a_run_that_fails_is_reported_with_its_last_lines_and_stops_no_other(fake, tmp_path):
    states, said = run(tmp_path, grid("a", "fails", "c"))
    assert states == {"a/seed-0": "done", "fails/seed-0": "failed", "c/seed-0": "done"}
    assert "FAILED   fails, seed 0: exit code 1" in said
    assert "           line of fails\n           no more memory\n" in said


def test_a_run_that_another_process_works_on_is_waited_for(fake, tmp_path):
    made = grid("a", "b")
    (tmp_path / "a" / "seed-0").mkdir(parents=True)
    holder = subprocess.Popen(
        [sys.executable, "-c", f"""
import os, time
from vgs_mlx.runs import folder as run_folder
from pathlib import Path
with run_folder.held(Path({str(tmp_path / "a" / "seed-0")!r})):
    Path({str(tmp_path / "held")!r}).touch()
    while not Path({str(tmp_path / "b" / "seed-0" / "result.json")!r}).exists():
        time.sleep(0.05)
    time.sleep(0.3)
    Path({str(tmp_path / "released")!r}).touch()
"""], cwd=toy_runs.ROOT, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_for((tmp_path / "held").exists, holder)
    states, _ = run(tmp_path, made)
    holder.wait()
    assert set(states.values()) == {"done"}
    assert [each[1] for each in times(tmp_path) if each[0] == "start"] == ["b", "a"]
    assert (tmp_path / "released").stat().st_mtime <= (
        tmp_path / "a" / "seed-0" / "recipe.yaml"
    ).stat().st_mtime


def test_a_finished_run_that_is_not_the_grid_s_is_refused(fake, tmp_path):
    run(tmp_path, grid("b", "a"))
    with pytest.raises(Refusal, match=r"its objective.steering_coef is no longer that of the grid"):
        run(tmp_path, grid("a", "b"))


def started(folder, *vary, seeds):
    """`vgs-mlx ablate` with this grid in `folder`; the fake runs leave nothing to summarise."""
    (folder.parent / "toy.yaml").write_text("train: {steps: 200}\n")
    line = [part for each in vary for part in ("--vary", each)]
    return command("ablate", folder.parent / "toy.yaml", *line, "--seeds", seeds, "--output", folder)


def test_a_grid_that_grows_keeps_its_runs_and_adds_the_new_ones(fake, tmp_path, monkeypatch):
    monkeypatch.setattr(ablate, "_summarise", lambda *_: None)
    output = tmp_path / "out"
    assert started(output, "train.warmup_steps=1,2", seeds=1).exit_code == 0
    kept = {file: state for file, state in toy_runs.state_of(output).items() if "/" in file}
    grown = started(output, "train.warmup_steps=3,1,2", seeds=2)
    assert grown.exit_code == 0 and "6, 2 already finished" in grown.output
    assert len([each for each in times(output) if each[0] == "start"]) == 6
    assert kept.items() <= toy_runs.state_of(output).items()
    assert {cell.name: cell.seeds for cell in grid_file.load(output).cells} == {
        f"train.warmup_steps={each}": 2 for each in (3, 1, 2)
    }
    resumed = command("ablate", "--resume", output)
    assert "6, 6 already finished" in resumed.output
    fewer = started(output, "train.warmup_steps=3,1,2", seeds=1)
    assert fewer.exit_code == 2 and "holds a larger grid" in fewer.output


def test_a_grid_does_not_grow_while_another_process_works_on_it(fake, tmp_path, monkeypatch):
    monkeypatch.setattr(ablate, "_summarise", lambda *_: None)
    output = tmp_path / "out"
    started(output, "train.warmup_steps=1,2", seeds=1)
    before = toy_runs.state_of(output)
    with run_folder.held(output):
        refused = started(output, "train.warmup_steps=1,2", seeds=2)
    assert refused.exit_code == 2 and "another vgs-mlx is working on" in refused.output
    assert toy_runs.state_of(output) == before


def test_ctrl_c_stops_all_and_the_rest_waits(fake, tmp_path, monkeypatch):
    def press(*_):
        if (tmp_path / "waits" / "ready").exists():
            monkeypatch.setattr(runner.time, "sleep", time.sleep)
            raise KeyboardInterrupt

    monkeypatch.setattr(runner, "time", type("Clock", (), {"sleep": press, "monotonic": time.monotonic}))
    states, said = run(tmp_path, grid("waits", "later"))
    assert states == {"waits/seed-0": "stopped", "later/seed-0": "waiting"}
    assert "every run finishes its step and saves" in said and "stopped  waits, seed 0" in said


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_the_grid_stops_its_runs_and_the_exit_code_says_which(
    number, code, fake, tmp_path, monkeypatch
):
    """The fake run of the grid's only cell waits for Ctrl-C, and is resumable as far as a fake one is."""
    monkeypatch.setattr(ablate, "jobs_of", lambda folder, _: jobs_of(folder, grid("waits")))

    def press(*_):
        if (tmp_path / "out" / "waits" / "ready").exists():
            monkeypatch.setattr(runner.time, "sleep", time.sleep)
            signal.raise_signal(number)

    monkeypatch.setattr(runner, "time", type("Clock", (), {"sleep": press, "monotonic": time.monotonic}))
    stopped = started(tmp_path / "out", "train.warmup_steps=1", seeds=1)
    assert stopped.exit_code == code, stopped.output
    assert "every run finishes its step and saves" in stopped.stdout
    assert "0 of 1 runs are done; go on with: vgs-mlx ablate --resume" in stopped.stderr


def test_a_run_that_another_process_terminated_is_stopped_and_not_failed(fake, tmp_path, monkeypatch):
    code = "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"
    monkeypatch.setattr(runner, "worker", lambda *_: [sys.executable, "-c", code])
    states, said = run(tmp_path, grid("a"))
    assert states == {"a/seed-0": "stopped"} and "stopped  a, seed 0" in said


def test_ctrl_c_while_the_last_run_is_collected_is_reported_and_the_command_goes_on(
    fake, tmp_path, monkeypatch
):
    monkeypatch.setattr(ablate, "_summarise", lambda *_: None)
    looks = []

    def press(job):
        looks.append(job)
        if len(looks) == 2:  # the first is before the run
            raise KeyboardInterrupt
        return jobs.finished(job)

    monkeypatch.setattr(runner, "finished", press)
    stopped = started(tmp_path / "out", "train.warmup_steps=1", seeds=1)
    assert stopped.exit_code == 130 and "0 of 1 runs are done; go on with" in stopped.output
    again = started(tmp_path / "out", "train.warmup_steps=1", seeds=1)
    assert again.exit_code == 0 and "1 already finished" in again.output


def test_a_kill_before_the_grid_was_ever_written_does_not_stand_in_the_way(fake, tmp_path, monkeypatch):
    monkeypatch.setattr(ablate, "_summarise", lambda *_: None)
    output = tmp_path / "out"
    output.mkdir()
    (output / ".grid.json.writing").write_text("{")
    assert started(output, "train.warmup_steps=1", seeds=1).exit_code == 0
    assert not (output / ".grid.json.writing").exists()


def test_a_live_table_shows_every_cell_and_seed(fake, tmp_path):
    file = (tmp_path / "screen").open("w")
    board = Board(Console(file=file, force_terminal=True, width=100))
    runner.run(jobs_of(tmp_path, grid("one", "fails", seeds=2)), 1, board)
    file.close()
    table, _, count = (tmp_path / "screen").read_text().split("seed 1")[-1].rpartition("\n2 of")
    assert table.count("0.750") == 2 and table.count("failed") == 2 and count.startswith(" 4 done, 2 failed")


# --- the real thing


def test_killed_and_started_again_a_grid_gives_the_runs_that_nobody_killed(tmp_path):
    """Of two runs the first has finished when the grid starts; the second is killed while it trains."""
    varied = {name: f"objective.name={name}" for name in ("standard", "vgs")}
    common = ("train.checkpoint_every=1", "train.evaluate_blind=true")
    whole = {name: train(tmp_path / name, setting, *common) for name, setting in varied.items()}
    recipe = tmp_path / "toy.yaml"
    recipe.write_text("student: {path: embedded:student}\nteacher: {path: embedded:teacher}\n")
    sets, vary = (*toy_runs.TOY, "train.checkpoint_every=1"), "objective.name=standard,vgs"
    output = tmp_path / "grid"
    runs = {name: output / setting / "seed-0" for name, setting in varied.items()}
    copied(whole["standard"], runs["standard"])
    grid_file.save(output, grid_file.read(recipe, [vary], sets, 1, None)[0])
    kept = toy_runs.state_of(runs["standard"])

    given = ["ablate", recipe, "--vary", vary, "--seeds", "1", "--output", output]
    given += [part for each in sets for part in ("--set", each)]
    process = spawned(*given)
    wait_for(lambda: recorded_steps(runs["vgs"]) >= 1, process)
    process.kill()
    process.wait()
    _wait_until_free(runs["vgs"])
    assert checkpoint.newest(runs["vgs"]).name == f"step-{recorded_steps(runs['vgs']):06d}", (
        "it saved its step"
    )
    assert not (runs["vgs"] / "final").exists(), "killed too late to show anything"

    again = command(*given)
    assert again.exit_code == 0, again.output
    assert "1 already finished" in again.stdout and "McNemar" in again.stdout
    assert toy_runs.state_of(runs["standard"]) == kept
    assert all(same_run(runs[name], whole[name]) for name in varied)
    assert "accuracy-steps.svg" in os.listdir(output / "summary")
    refused = command(*given, "--set", "train.steps=5")
    assert refused.exit_code == 2 and "holds another grid" in refused.output


def _wait_until_free(folder, seconds=60):
    end = time.monotonic() + seconds
    while not runner._free(folder):
        assert time.monotonic() < end, "the worker outlives its parent"
        time.sleep(0.05)


# --- what the command line refuses


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["r.yaml"], "give a recipe and --output DIR"),
        (["--output", "x"], "give a recipe and --output DIR"),
        (["--resume", "x", "--seeds", "2"], "take no grid"),
        (["--resume", "x", "--summary", "x"], "take no grid"),
        (["--resume", "x"], "x: is not the folder of an ablation"),
        (["--summary", "x"], "x: is not the folder of an ablation"),
        (["r.yaml", "--output", "full", "--vary", "train.steps=1,2"], "not empty (it holds notes.txt)"),
        (["r.yaml", "--output", "x", "--vary", "train.steps=0"], "greater than or equal to 1"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_and_nothing_is_written(arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").touch()
    (tmp_path / "r.yaml").write_text("train: {steps: 4}\n")
    before = toy_runs.names(tmp_path)
    refused = command("ablate", *arguments)
    assert refused.exit_code == 2 and said in refused.output
    assert toy_runs.names(tmp_path) == before


def test_a_summary_before_any_run_has_finished_is_refused(tmp_path):
    grid_file.save(tmp_path, grid("a"))
    refused = command("ablate", "--summary", tmp_path)
    assert refused.exit_code == 2 and "no run has finished yet" in refused.output


def test_a_worker_starts_resumes_and_clears_away_what_never_began(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        grid_run.distillation, "start", lambda recipe, _, folder: seen.append((recipe, folder))
    )
    monkeypatch.setattr(grid_run.distillation, "resume", lambda folder, sets: seen.append((folder, sets)))
    monkeypatch.setattr(grid_run, "_stop_with_parent", lambda: None)
    run, recipe = tmp_path / "run", toy_runs.recipe()
    (tmp_path / "r.yaml").write_text(recipe_file.dump(recipe))
    monkeypatch.setattr(sys, "argv", ["-c", str(tmp_path / "r.yaml"), str(run)])
    run.mkdir()
    (run / ".recipe.yaml.writing").touch()
    grid_run.main()
    assert not run.exists()
    run.mkdir()
    (run / run_folder.RECIPE).touch()
    grid_run.main()
    assert seen == [(recipe, run), (run, ())]


@pytest.mark.parametrize(
    ("error", "code"), [(Refusal("no such model"), "no such model"), (Interrupted("saved"), 130)]
)
def test_a_worker_s_exit_code_says_how_it_ended(error, code, tmp_path, monkeypatch):
    def start(*_):
        raise error

    monkeypatch.setattr(grid_run.distillation, "start", start)
    monkeypatch.setattr(grid_run, "_stop_with_parent", lambda: None)
    (tmp_path / "r.yaml").touch()
    monkeypatch.setattr(sys, "argv", ["-c", str(tmp_path / "r.yaml"), str(tmp_path / "run")])
    with pytest.raises(SystemExit) as ended:
        grid_run.main()
    assert ended.value.code == code


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_worker_that_gets_a_signal_ends_with_its_code(number, code, tmp_path, monkeypatch):
    monkeypatch.setattr(grid_run.distillation, "start", lambda *_: signal.raise_signal(number))
    monkeypatch.setattr(grid_run, "_stop_with_parent", lambda: None)
    (tmp_path / "r.yaml").touch()
    monkeypatch.setattr(sys, "argv", ["-c", str(tmp_path / "r.yaml"), str(tmp_path / "run")])
    with pytest.raises(SystemExit) as ended:
        grid_run.main()
    assert ended.value.code == code


def test_a_worker_whose_parent_is_gone_interrupts_itself(tmp_path):
    code = "from vgs_mlx.commands import grid_run; grid_run._stop_with_parent()"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=toy_runs.ROOT, stdin=subprocess.PIPE,
                               stderr=subprocess.PIPE)  # fmt: skip
    assert process.poll() is None
    process.stdin.close()
    assert process.wait(60) in (-signal.SIGINT, 130)
