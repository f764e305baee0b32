"""Ctrl-C and SIGTERM: a command stops where it stands, or at the next place where nothing is lost.

SIGTERM is what `kill`, a job scheduler and a shutdown send. It does what Ctrl-C does, and only the exit code differs.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

SIGNALS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
"""128 and the signal's number, as shells have it."""

_last = signal.SIGINT  # the signal that came last


class Terminated(KeyboardInterrupt):
    """SIGTERM came: raised where Ctrl-C raises `KeyboardInterrupt`, and caught by whatever catches that."""


class BrokenOff(KeyboardInterrupt):
    """The first signal came inside `Stop.at_once`."""


def exit_code() -> int:
    """The exit code of a command that was interrupted."""
    return EXIT_CODES[_last]


@contextmanager
def at_once() -> Iterator[None]:
    """Both signals raise in the body: a whole command, or a process of its own."""

    def stop(number: int, _: FrameType | None) -> None:
        _raise(number)

    with _handled(stop):
        yield


@dataclass
class Stop:
    """Whether a body that puts signals off was asked to stop."""

    asked: bool = False
    breakable: bool = False

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """A part of the body that only looks: the first signal breaks it off, one that came before lets it not begin.

        Raises `BrokenOff`.
        """
        if self.asked:
            raise BrokenOff
        self.breakable = True
        try:
            if self.asked:  # it came between the two lines above
                raise BrokenOff
            yield
        finally:
            self.breakable = False
        if self.asked:  # what it raised was lost, in a callback of C for one
            raise BrokenOff


@contextmanager
def put_off(finishing: str, breaking: str) -> Iterator[Stop]:
    """The first signal is only remembered, and said with one of the two texts; the second raises.

    The body asks `Stop.asked` where it may end, and marks with `Stop.at_once` what may be broken off.
    """
    stop = Stop()

    def remember(number: int, _: FrameType | None) -> None:
        if stop.asked:
            _raise(number)
        _note(number)
        stop.asked = True
        words = breaking if stop.breakable else finishing
        # no print: the signal may have come in the middle of another one
        os.write(2, f"\n{SIGNALS[number]}: {words} (again: stop at once)\n".encode())
        if stop.breakable:
            raise BrokenOff

    with _handled(remember):
        yield stop


def _raise(number: int) -> None:
    _note(number)
    raise Terminated if number == signal.SIGTERM else KeyboardInterrupt


def _note(number: int) -> None:
    global _last
    _last = signal.Signals(number)


@contextmanager
def _handled(handler) -> Iterator[None]:
    """Both signals go to the handler during the body. Python gives them to the main thread alone.

    A shell's background job ignores Ctrl-C: here it is heard, or `kill -INT` would be lost on it.
    """
    _note(signal.SIGINT)
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, handler) for number in SIGNALS}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier or signal.SIG_DFL)  # None: set by C, and not Python's to put back
