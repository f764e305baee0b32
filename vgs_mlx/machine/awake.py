"""Keeps a Mac from idle sleep while a run trains: asleep it would stand still for as long as nobody comes by."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PROGRAM = "caffeinate"  # comes with macOS


@contextmanager
def kept_awake(wanted: bool, say: Callable[[str], None]) -> Iterator[None]:
    """During the body the machine doesn't go to sleep by itself; it still does when its lid is closed.

    Nothing anywhere but on a Mac, and nothing where that can't be had.
    """
    child = _begin() if wanted and sys.platform == "darwin" else None
    if child is None:
        yield
        return
    say("awake    this Mac is kept from idle sleep while the run trains (train.keep_awake)")
    try:
        yield
    finally:
        child.terminate()
        child.wait()


def _begin() -> subprocess.Popen | None:
    """The child ends with this process, whatever ends that; Ctrl-C in the terminal is not for it."""
    program, nothing = shutil.which(PROGRAM), subprocess.DEVNULL
    if program is None:
        return None
    line = [program, "-i", "-w", str(os.getpid())]
    try:
        return subprocess.Popen(line, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True)
    except OSError:
        return None
