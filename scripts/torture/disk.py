"""A disk that is full or read-only at each write of a run: one line says so and how to go on; then nothing is lost.

Every operation that changes the run's folder is one moment (see tests/fuse.py). Before each the disk becomes full, or
read-only, and stays so. On a real disk each number of pages that is too few for the run is one moment more: it
becomes full within files that MLX writes. What must hold:

* the command ends with exit code 2 and one line with the folder and the command to go on with, or it lacked nothing;
* nothing half-written is left, unless the disk may not even be cleaned up;
* going on at once is refused in one line as well, unless it lacked nothing;
* with room, going on gives the undisturbed run, byte for byte.

The commands are the real ones, in this process, on models that are loaded already. See disks.py for what is real.
"""

import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from torture import made
from torture.comparing import differences
from torture.disks import PAGE, Disk, RealDisk, disk
from torture.outcome import Outcome, outcome

# isort: split
from click.testing import Result

import toy_runs
from fuse import FUSE
from vgs_mlx.commands import distill as distillation
from vgs_mlx.runs import folder as run_folder

SETTINGS = (
    "student.rank=2", "student.targets=[q_proj]", "rollout.prompts_per_step=1", "train.steps=3",
    "train.evaluate_rows=1", "train.evaluate_every=2", "train.checkpoint_every=1", "train.keep_checkpoints=1",
    "train.watch_every=2", "rollout.max_completion_length=4", "data.held_out=0.3", "data.on_bad_row=skip",
)  # fmt: skip
KINDS = ("full", "read-only")


@dataclass(frozen=True)
class Moment:
    """When the disk becomes what."""

    kind: str  # full or read-only before the n-th operation, or small: n pages from the start
    number: int

    def __str__(self) -> str:
        return f"{self.number} pages" if self.kind == "small" else f"{self.kind} at operation {self.number}"


def run(count: int | None, seed: int, folder: Path, *, real: bool = True) -> Outcome:
    """Every moment there is, or `count` of them drawn at random. `real` False: simulated even where a real one may be.

    The first moments of all are those of the start, before the run can be resumed.
    """
    rng = random.Random(seed)
    rows = made.with_bad_rows(made.write_rows(folder / "data", 5, rng))
    sets = (*SETTINGS, f"data.source={rows}")
    with (
        disk(folder / "disk", real=real) as place,
        patch.object(distillation.setup, "load", lambda *_: toy_runs.ready(*sets)),
    ):
        moments = _moments(place, whole := folder / "whole", sets)
        every, chosen = len(moments), rng.sample(moments, min(count or len(moments), len(moments)))
        failures, refusals = [], 0
        for moment in chosen:
            refused, fault = _tortured(place, moment, whole, sets)
            refusals += refused
            if fault:
                failures.append(f"{moment}: {fault}")
    return outcome(
        f"{len(chosen)} of {every} moments on {place.name}: refused in {refusals}, lacked nothing in "
        f"{len(chosen) - refusals}; {len(failures)} went wrong",
        failures,
    )


def _moments(place: Disk, whole: Path, sets: tuple[str, ...]) -> list[Moment]:
    """All of them, counted in the undisturbed run, which is left in `whole`."""
    run, most = place.folder / "run", 0

    def note(_: str) -> None:
        nonlocal most
        most = max(most, place.used())

    with FUSE.lit(run, 1, note, lasts=True):
        said = toy_runs.command("distill", "--output", run, *toy_runs.options(*sets))
    if said.exit_code:
        raise RuntimeError(f"the undisturbed run failed: {said.output}")
    shutil.move(run, whole)
    moments = [Moment(kind, number) for kind in KINDS for number in range(1, FUSE.count + 1)]
    pages = range(1, most // PAGE) if isinstance(place, RealDisk) else ()
    return moments + [Moment("small", number) for number in pages]


def _tortured(place: Disk, moment: Moment, whole: Path, sets: tuple[str, ...]) -> tuple[bool, str]:
    """Whether a run was refused at that moment, and what is wrong ("" for nothing). The disk is empty afterwards."""
    run = place.folder / "run"
    said = _started(place, moment, run, sets)
    refused, faults = said.exit_code != 0, []
    if refused:
        faults += _faults(said, run, tidy=moment.kind != "read-only")
        again = _gone_on(place, moment, run, sets)
        if again.exit_code:
            faults += [f"going on at once: {fault}" for fault in _faults(again, run, tidy=False)]
    place.roomy()
    if refused:
        said = toy_runs.command(*_command(run, sets))
        if said.exit_code:
            faults.append(f"going on with room ended with {said.exit_code}: {_end(said)}")
    faults += differences(run, whole, made_as=run) if run.exists() else ["no run"]
    shutil.rmtree(run, ignore_errors=True)
    return refused, "; ".join(faults)


def _started(place: Disk, moment: Moment, run: Path, sets: tuple[str, ...]) -> Result:
    """A run whose disk becomes what the moment says."""
    if moment.kind == "small":
        place.small(moment.number)
        return toy_runs.command(*_command(run, sets))
    act = place.full() if moment.kind == "full" else place.read_only()
    with FUSE.lit(run, moment.number, act, lasts=place.lasts):
        return toy_runs.command(*_command(run, sets))


def _gone_on(place: Disk, moment: Moment, run: Path, sets: tuple[str, ...]) -> Result:
    """The same command again, or going on, on the disk as it is."""
    if isinstance(place, RealDisk):
        return toy_runs.command(*_command(run, sets))
    act = place.full() if moment.kind == "full" else place.read_only()
    with FUSE.lit(run, 1, act, lasts=True):
        return toy_runs.command(*_command(run, sets))


def _command(run: Path, sets: tuple[str, ...]) -> list[str | Path]:
    """What a user gives: a run that is there is gone on with."""
    if (run / run_folder.RECIPE).exists():
        return ["distill", "--resume", "--output", run]
    return ["distill", "--output", run, *toy_runs.options(*sets)]


def _faults(said: Result, run: Path, *, tidy: bool) -> list[str]:
    """What is wrong with a refusal; `tidy`: nothing half-written may be left."""
    lines, faults = said.stderr.splitlines(), []
    if said.exit_code != 2 or len(lines) != 1:
        faults.append(f"ended with {said.exit_code}: {_end(said)}")
    elif str(run) not in lines[0]:
        faults.append(f"the folder is not named: {lines[0]}")
    elif not (
        f"--resume --output {run}" in lines[0] or "another folder" in lines[0] or "writable" in lines[0]
    ):
        faults.append(f"it isn't said how to go on: {lines[0]}")
    if tidy:
        left = [name for name in toy_runs.names(run) if name.endswith(".writing")] if run.exists() else []
        faults += [f"{name} is half-written" for name in left]
        if run.exists() and not (run / run_folder.RECIPE).exists():
            faults.append("a folder is left that is not a run folder")
    return faults


def _end(said: Result) -> str:
    """The last line of what was said, or the error that nobody caught."""
    if said.exception and not isinstance(said.exception, SystemExit):
        return repr(said.exception)
    return (said.stderr.splitlines() or [""])[-1]
