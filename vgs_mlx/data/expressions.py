"""Whether two mathematical expressions are equal, asked of a worker process that can be stopped.

math-verify keeps its own time with signals, which only work in the main thread and not inside one long
operation; a model that is being trained writes 9^9^9^9 sooner or later.
"""

import atexit
import json
import re
import select
import subprocess
import sys
import threading
from pathlib import Path

from vgs_mlx.errors import Refusal

SECONDS = 5.0  # of the processor's time for one comparison: a busy machine makes no answer wrong
WAIT_SECONDS = 120.0  # for the worker to start, or for an answer, on a very busy machine
LONGEST = 200  # characters; nobody's final answer is longer, and parsing time grows fast

# What would let math-verify see several expressions in one text and take the one it likes.
SEVERAL = re.compile(r"\$|\\[()\[\]]|\\boxed|[\r\n]")
# x, \theta, AB, f(x), x_1
NAME = re.compile(r"\\?[A-Za-z]+'?(_\w|_\{\w{1,9}\})?\s*(\(\s*\\?\w{1,9}\s*\))?\s*")

_lock = threading.Lock()
_worker: subprocess.Popen | None = None


@atexit.register
def stop() -> None:
    """Ends the worker; the next comparison starts another."""
    global _worker
    if _worker is not None:
        _stop(_worker)
    _worker = None


def same_expression(given: str, right: str) -> bool:
    r"""Whether two LaTeX or plain expressions are equal: 2\sqrt{2} and \sqrt{8}, x = 5 and 5, 1, 2 and 2, 1.

    False where either can't be parsed, and where it takes too long. Any thread may call it. Raises a Refusal
    where math-verify is not installed.
    """
    if max(len(given), len(right)) > LONGEST or SEVERAL.search(given) or SEVERAL.search(right):
        return False
    if "=" in given and "=" not in right:
        name, _, given = given.partition("=")  # only a name may stand there: 3 = 5 is no way to say 5
        if not NAME.fullmatch(name.strip()) or "=" in given:
            return False
    with _lock:
        return _ask(json.dumps([given, right]))


def _ask(request: str) -> bool:
    global _worker
    if _worker is None or _worker.poll() is not None:
        _worker = _start()
    try:
        _worker.stdin.write(f"{SECONDS} {request}\n".encode())
        reply = _reply(_worker, WAIT_SECONDS)
        if not reply:  # it ended: its time was up
            stop()
        return reply == "true"
    except OSError:  # too slow (TimeoutError is one), or gone
        stop()
        return False
    except BaseException:  # Ctrl-C: the answer still to come would be taken for the next request's
        stop()
        raise


def _start() -> subprocess.Popen:
    # -P: the modules beside the script must not hide others of the same name. A session of its own: Ctrl-C is
    # for the run alone.
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
