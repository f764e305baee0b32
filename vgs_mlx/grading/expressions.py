"""Whether two mathematical expressions are equal, decided by a worker process that can be stopped.

math-verify limits its time with signals, which only work in the main thread and not inside one long operation. A model
that is being trained writes 9^9^9^9 sooner or later.
"""

import atexit
import json
import select
import subprocess
import sys
import threading
from pathlib import Path

from vgs_mlx.errors import Refusal

SECONDS = 5.0  # CPU time for one answer, all its parts together: a busy machine makes no answer wrong
WAIT_SECONDS = 120.0  # for the worker to start or to answer, on a very busy machine

_lock = threading.Lock()
_worker: subprocess.Popen | None = None


class Comparisons:
    """The comparisons that one answer needs. When their time is up, every further one is False."""

    def __init__(self) -> None:
        self.left = SECONDS

    def same(self, given: str, right: str) -> bool:
        r"""Whether two LaTeX expressions are equal: 2\sqrt{2} and \sqrt{8}, x+1 and 1+x.

        False if one can't be parsed, or if it takes too long. Any thread may call it. Raises `Refusal` if
        math-verify is not installed.
        """
        if self.left <= 0:
            return False
        with _lock:
            same, seconds = _ask(json.dumps([given, right]), self.left)
        self.left -= seconds
        return same


@atexit.register
def stop() -> None:
    """End the worker; the next comparison starts another."""
    global _worker
    if _worker is not None:
        _stop(_worker)
    _worker = None


def _ask(request: str, limit: float) -> tuple[bool, float]:
    """The worker's answer, and the CPU seconds it took."""
    global _worker
    if _worker is None or _worker.poll() is not None:
        _worker = _start()
    try:
        _worker.stdin.write(f"{limit} {request}\n".encode())
        reply = _reply(_worker, WAIT_SECONDS)
        if reply:
            same, _, seconds = reply.partition(" ")
            return same == "true", float(seconds)
        stop()  # it ended because its time was up
    except OSError:  # too slow (TimeoutError is an OSError), or gone
        stop()
    except BaseException:  # Ctrl-C: the pending answer would be taken for the next request's
        stop()
        raise
    return False, limit


def _start() -> subprocess.Popen:
    # -P: modules beside the script must not hide others of the same name. A session of its own: Ctrl-C must reach
    # the run alone.
    command = [sys.executable, "-P", str(Path(__file__).with_name("expression_worker.py"))]
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    worker = subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=nothing, bufsize=0, start_new_session=True
    )
    try:
        greeting = _reply(worker, WAIT_SECONDS)
    except TimeoutError:
        greeting = f"no sign of life in {WAIT_SECONDS:.0f} s"
    if greeting != "ready":
        _stop(worker)
        raise Refusal(f"expressions can't be graded: {greeting or 'the worker process ended at once'}")
    return worker


def _reply(worker: subprocess.Popen, seconds: float) -> str:
    """The worker's next line, "" when it has ended. Raises TimeoutError."""
    if not select.select([worker.stdout], [], [], seconds)[0]:
        raise TimeoutError
    return worker.stdout.readline().decode().strip()


def _stop(worker: subprocess.Popen) -> None:
    worker.kill()
    worker.communicate()  # closes the pipes and waits
