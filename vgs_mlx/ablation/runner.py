"""Runs a grid's cells, each in a process of its own: its memory is freed, and its failure stops no other run."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from vgs_mlx.ablation.board import Board
from vgs_mlx.ablation.jobs import Job, State, finished
from vgs_mlx.errors import Refusal
from vgs_mlx.machine import stopping
from vgs_mlx.planning.report import RUNS_AT_ONCE
from vgs_mlx.recipe import file as recipe_file
from vgs_mlx.runs import folder as run_folder

POLL = 0.5  # seconds between two looks at the processes
# negative: the signal came while the process was still importing
INTERRUPTED = (*stopping.EXIT_CODES.values(), *(-number for number in stopping.SIGNALS))
LINES_SHOWN = 6  # of a failed run's log


@dataclass(frozen=True)
class Process:
    """A run in progress."""

    popen: subprocess.Popen
    log: IO[bytes]
    began: int  # where this attempt begins in the log, bytes
    start: float


def run(jobs: Sequence[Job], at_once: int, board: Board) -> dict[Job, State]:
    """Run what isn't finished, `at_once` runs at a time, and return how each ended. After Ctrl-C or SIGTERM, runs that
    had not started are `waiting`.
    """
    states: dict[Job, State] = {job: "done" if finished(job) else "waiting" for job in jobs}
    running: dict[Job, Process] = {}
    together = min(at_once, list(states.values()).count("waiting"))
    try:
        with board.showing(jobs, states):
            while "waiting" in states.values() or running:
                if len(running) < at_once and (job := _next(states)):
                    running[job] = _start(job, at_once, together)
                    states[job] = "running"
                    board.say(f"start    {job.name}")
                    continue
                _collect(running, states, board)
                board.show()
                time.sleep(POLL)
    except KeyboardInterrupt:
        board.say("stopping: every run finishes its step and saves (again: stop at once)")
        _stop(running)
        _collect(running, states, board)
    finally:
        for (
            process
        ) in running.values():  # only after an unexpected error: without this pipe they save and stop
            process.popen.stdin.close()
    return states


def _next(states: Mapping[Job, State]) -> Job | None:
    """The first waiting run that no other process works on, such as a worker whose parent was just killed."""
    return next((job for job, state in states.items() if state == "waiting" and _free(job.folder)), None)


def _free(folder: Path) -> bool:
    if not folder.is_dir():
        return True
    try:
        with run_folder.held(folder):
            return True
    except Refusal:
        return False


def _start(job: Job, at_once: int, together: int) -> Process:
    """Start a run, one of up to `together`, each with its share of the memory."""
    job.folder.parent.mkdir(parents=True, exist_ok=True)
    run_folder.write_text(job.recipe_file, recipe_file.dump(job.recipe))
    # side by side, processes with one BLAS thread each do far more than processes that all use every thread
    few = {"OPENBLAS_NUM_THREADS": "1"} if at_once > 1 else {}
    log = job.log.open("ab")
    began = log.tell()
    # in a session of its own, Ctrl-C in the terminal reaches it only once, through _stop
    popen = subprocess.Popen(
        worker(job.recipe_file, job.folder), stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT,
        start_new_session=True, env={**few, **os.environ, RUNS_AT_ONCE: str(together)},
    )  # fmt: skip
    return Process(popen, log, began, time.monotonic())


def _collect(running: dict[Job, Process], states: dict[Job, State], board: Board) -> None:
    """Remove the processes that have ended, and print how each of them did."""
    for job, process in list(running.items()):
        code = process.popen.poll()
        if code is None:
            continue
        del running[job]
        process.popen.stdin.close()
        process.log.close()
        seconds = time.monotonic() - process.start
        if code == 0 and finished(job):
            states[job] = "done"
            board.say(f"done     {job.name}: accuracy {board.accuracy(job):.3f}, {seconds:.0f} s")
        elif code in INTERRUPTED:
            states[job] = "stopped"
            board.say(f"stopped  {job.name}")
        else:
            states[job] = "failed"
            board.say(f"FAILED   {job.name}: exit code {code}; its last lines ({job.log}):")
            for line in _last_lines(job.log, process.began):
                board.say(f"           {line}")


def _stop(running: Mapping[Job, Process]) -> None:
    """Ask every process to save and stop, and wait; at each further Ctrl-C, ask again."""
    while True:
        try:
            for process in running.values():
                with suppress(ProcessLookupError):
                    process.popen.send_signal(signal.SIGINT)
            for process in running.values():
                process.popen.wait()
            return
        except KeyboardInterrupt:
            continue


def _last_lines(log: Path, began: int) -> list[str]:
    with log.open("rb") as stream:
        stream.seek(began)
        text = stream.read().decode("utf-8", errors="replace")
    return [line.rstrip() for line in text.splitlines() if line.strip()][-LINES_SHOWN:]


def worker(recipe: Path, folder: Path) -> list[str]:
    """The command line of a run's process: this Python, with the module path of this process."""
    code = f"import sys; sys.path[:] = {sys.path!r}; from vgs_mlx.commands import grid_run; grid_run.main()"
    return [sys.executable, "-c", code, str(recipe), str(folder)]
