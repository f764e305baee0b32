"""Keeps a Mac from idle sleep while a run trains: a sleeping Mac doesn't train."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PROGRAM = "caffeinate"  # comes with macOS


@contextmanager
def kept_awake(wanted: bool, say: Callable[[str], None]) -> Iterator[None]:
    """During the body the Mac doesn't go to sleep by itself; it still does when its lid is closed.

    Does nothing on other machines, or where `caffeinate` can't be run.
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
    """Start a child that ends with this process, however that ends. Ctrl-C in the terminal doesn't reach the child."""
    program, nothing = shutil.which(PROGRAM), subprocess.DEVNULL
    if program is None:
        return None
    line = [program, "-i", "-w", str(os.getpid())]
    try:
        return subprocess.Popen(line, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True)
    except OSError:
        return None
