"""Ctrl-C and SIGTERM: a command stops at once, or at the next place where nothing is lost.

`kill`, job schedulers and shutdowns send SIGTERM. It does what Ctrl-C does, but with another exit code.
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
"""128 plus the signal's number, as in shells."""

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
    """Both signals raise in the body, which is a whole command or process."""

    def stop(number: int, _: FrameType | None) -> None:
        _raise(number)

    with _handled(stop):
        yield


@dataclass
class Stop:
    """Whether the body of `put_off` was asked to stop."""

    asked: bool = False
    breakable: bool = False

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """A part of the body that changes nothing: the first signal breaks it off, and after a signal it doesn't begin.

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
        if self.asked:  # its exception was lost, as in a callback from C
            raise BrokenOff


@contextmanager
def put_off(finishing: str, breaking: str) -> Iterator[Stop]:
    """The first signal is only remembered, and one of the two texts printed; the second raises.

    The body checks `Stop.asked` where it can end, and marks with `Stop.at_once` what can be broken off.
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

    A shell's background job ignores Ctrl-C; here it is handled, or `kill -INT` would do nothing.
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
