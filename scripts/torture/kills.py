"""kill -9 of runs, once or twice each, at random moments; resumed, each must become the undisturbed run.

What is real: the command line, the process, the models, the files and the signal; every tenth run is a fresh
interpreter. What is shared is the imports, see processes.py. What is not shown is a power cut, in which what the
system hasn't written yet is lost too.

A third of the kills comes at any moment of the command, a third while it trains, and a third as soon as something is
being written. Every third run is killed again while it resumes. Then it is resumed to its end as its user would: from
what is there, or by the same command again if the kill came before there was a run.
"""

import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torture import made
from torture.comparing import differences
from torture.outcome import Outcome, outcome
from torture.processes import Running, forked, fresh
from vgs_mlx.runs import folder as run_folder

RUNS = 60
MOST_SECONDS = 180  # of any command here
LATEST_WRITE = 12  # that is waited for
TRIES = 6  # to kill a command before it has ended
TRAINS = b"   step     loss"  # what a command says when it begins to train
LORA = (*made.LORA, "train.steps=4", "train.evaluate_every=2")
SETTINGS = {
    "lora": (*LORA, "train.checkpoint_every=1", "train.keep_checkpoints=1"),
    "full": ("student.train=full", "objective.name=standard", "train.steps=3", "train.checkpoint_every=2"),
    "watched": (*LORA, "train.watch_every=2", "train.checkpoint_every=2", "train.evaluate_blind=true"),
    "grpo": (*LORA, "objective.name=grpo", "grpo.updates_per_rollout=1", "train.checkpoint_every=1"),
    "own-rows": (*LORA, "data.on_bad_row=skip", "train.picture_cache_gb=0.001", "train.checkpoint_every=2"),
    "vision": (*LORA, "student.train_vision=true", "objective.name=adaptive", "train.checkpoint_every=3"),
    "dora": (*LORA, "student.train=dora", "objective.norm_scale_every=2", "train.schedule=cosine"),
    "earlier": (*LORA, "train.steps=2"),  # its student is that of the first run here
    "sft": (*LORA, "objective.name=sft", "objective.answers=teacher", "train.checkpoint_every=1"),
}


@dataclass(frozen=True)
class Whole:
    """An undisturbed run."""

    options: list[str]
    folder: Path
    seconds: float  # that it took
    loading: float  # of them, until it had measured what it began with


@dataclass(frozen=True)
class Kill:
    """What a kill met."""

    moment: str
    steps: int  # done by then; -1 where there was no run yet
    half_written: bool  # whether something was being written


def run(count: int | None, seed: int, folder: Path) -> Outcome:
    """Kill `count` runs (60)."""
    rng, count, begin = random.Random(seed), count or RUNS, time.perf_counter()
    rows = made.with_bad_rows(made.write_rows(folder / "data", 8, rng))
    names = list(SETTINGS)[:count]
    wholes = {name: _whole(name, folder, rows) for name in names}
    failures, kills = [], []
    for number in range(count):
        name, place = names[number % len(names)], folder / str(number)
        found, fault = _tortured(wholes[name], place, rng, number)
        kills += found
        if fault:
            failures.append(f"{place} ({name}; {', then '.join(each.moment for each in found)}): {fault}")
        else:
            shutil.rmtree(place)
    return outcome(_line(count, kills, len(failures), time.perf_counter() - begin), failures)


def _line(count: int, kills: list[Kill], failed: int, seconds: float) -> str:
    def place(kill: Kill) -> str:
        return ("before there was a run", "before the first step", "later")[min(kill.steps, 1) + 1]

    places = ", ".join(f"{number} {where}" for where, number in Counter(map(place, kills)).most_common())
    half = sum(each.half_written for each in kills)
    return (
        f"{count} runs killed, {len(kills) - count} of them again while they resumed ({places}; "
        f"{half} while something was being written); {failed} did not become the undisturbed run; {seconds:.0f} s"
    )


def _whole(name: str, folder: Path, rows: Path) -> Whole:
    first = folder / next(iter(SETTINGS)) / "run"
    own = {"own-rows": (f"data.source={rows}", "data.held_out=0.5"), "earlier": (f"student.path={first}",)}
    run, log = folder / name / "run", folder / f"{name}.log"
    run.parent.mkdir()
    options = made.options(*SETTINGS[name], *own.get(name, ()))
    begin = time.perf_counter()
    running = forked(["distill", "--output", str(run), *options], log)
    _until(running, (run / run_folder.EVALUATIONS).exists)
    loading = time.perf_counter() - begin
    if (code := running.code(MOST_SECONDS)) != 0:
        raise RuntimeError(f"{name}: the undisturbed run ended with {code}: {log.read_text()}")
    return Whole(options, run, time.perf_counter() - begin, loading)


def _tortured(whole: Whole, place: Path, rng: random.Random, number: int) -> tuple[list[Kill], str]:
    """Kill a run once or twice and resume it to its end: what the kills met, and what is wrong ("" for nothing)."""
    place.mkdir()
    run, log = place / "run", place / "log"
    kills = []
    for again in range(2 if number % 3 == 2 else 1):
        own = number % 10 == 9 and not again
        kill = _killed(whole, run, log, rng, fresh if own else forked)
        if kill is None:
            return kills, f"had ended before every one of {TRIES} kills"
        kills.append(kill)
    ending = forked(_command(whole, run), log)
    code = ending.code(MOST_SECONDS)
    if code is None:
        ending.kill()
    if code != 0:
        return kills, f"going on {'hangs' if code is None else f'ended with {code}'}; see {log}"
    return kills, "; ".join(differences(run, whole.folder))


def _killed(
    whole: Whole, run: Path, log: Path, rng: random.Random, start: Callable[[list[str], Path], Running]
) -> Kill | None:
    """Start a run or go on with it, and kill it; None if it ended before each of some tries."""
    before = run.with_name("before")
    for attempt in range(TRIES):
        if run.exists():
            shutil.copytree(run, before)
        running = start(_command(whole, run), log)
        moment = _wait(running, whole, run, rng, attempt, timed=start is forked)
        if running.kill() == -signal.SIGKILL:
            shutil.rmtree(before, ignore_errors=True)
            return Kill(moment, _steps(run), bool(_half_written(run)))
        shutil.rmtree(run)
        if before.exists():
            before.rename(run)
    return None


def _wait(running: Running, whole: Whole, run: Path, rng: random.Random, attempt: int, *, timed: bool) -> str:
    """Until the moment of the kill, or the command's end; in words, which moment that is.

    Each attempt is earlier, and the last ones wait for nothing that may not come: what is left to do may be little.
    """
    aim = 2 if timed and attempt > TRIES // 2 else rng.randrange(3 if timed else 2)
    earlier = 2**attempt
    if aim == 2:
        seconds = rng.uniform(0, whole.seconds) / earlier
        running.code(seconds)
        return f"killed after {seconds:.3f} s"
    if aim == 1:
        said = running.log.stat().st_size if running.log.exists() else 0
        _until(running, lambda: running.log.exists() and TRAINS in running.log.read_bytes()[said:])
        seconds = rng.uniform(0, whole.seconds - whole.loading) / earlier
        running.code(seconds)
        return f"killed {seconds:.3f} s after it began to train"
    writes = rng.randint(1, max(1, LATEST_WRITE // earlier))
    seen: set[tuple[str, int]] = set()
    _until(running, lambda: seen.update(_half_written(run)) or len(seen) >= writes)
    return f"killed at write {writes}"


def _until(running: Running, condition: Callable[[], bool]) -> None:
    """Wait until something holds, or the command has ended."""
    end = time.monotonic() + MOST_SECONDS
    while not condition() and running.code(0.0005) is None and time.monotonic() < end:
        pass


def _command(whole: Whole, run: Path) -> list[str]:
    """What a user gives after a kill: it is resumed if there is a run, else started again."""
    if (run / run_folder.RECIPE).exists():
        return ["distill", "--resume", "--output", str(run)]
    return ["distill", "--output", str(run), *whole.options]


def _steps(run: Path) -> int:
    if not (run / run_folder.RECIPE).exists():
        return -1
    return len(run_folder.rows(run / run_folder.METRICS))


def _half_written(run: Path) -> set[tuple[str, int]]:
    """What is being written or removed, as name and inode: a name that comes again is another file."""
    found = set()
    for folder in (run, run / run_folder.CHECKPOINTS):
        for file in folder.glob(".*"):
            try:
                found.add((file.name, file.stat().st_ino))
            except FileNotFoundError:  # gone by now
                continue
    return found
