"""What both fuzzers share: chance by seed and number, damage to bytes, a time limit, what a refusal must look like."""

import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager

LONGEST_LINE = 1_500  # characters of a refusal's line
PATIENCE = 10
FLIPS = 8  # bits at most, of one damage


class TimeUp(BaseException):
    """A case took too long. Not an `Exception`: nothing may take it for a damaged file."""


def chance(seed: int, *parts: object) -> random.Random:
    """The random numbers of one case: the same in every process, whatever cases came before."""
    return random.Random(" ".join(map(str, (seed, *parts))))


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raises `TimeUp` in the body, which runs in the main thread, when its time is up.

    The processor's time, for a busy machine is nobody's fault; and, where it waits, `PATIENCE` times that by the clock.
    """

    def up(*_) -> None:
        raise TimeUp(f"took more than {seconds:g} s")

    limits = (
        (signal.ITIMER_PROF, signal.SIGPROF, seconds),
        (signal.ITIMER_REAL, signal.SIGALRM, PATIENCE * seconds),
    )
    before = [signal.signal(each, up) for _, each, _ in limits]
    for timer, _, limit in limits:
        signal.setitimer(timer, limit)
    try:
        yield
    finally:
        for (timer, each, _), handler in zip(limits, before, strict=True):
            signal.setitimer(timer, 0)
            signal.signal(each, handler)


def flipped(content: bytes, draw: random.Random, first: int = 0, last: int | None = None) -> bytes:
    """The bytes with a few bits turned over, all of them in content[first:last]."""
    damaged = bytearray(content)
    end = len(damaged) if last is None else min(last, len(damaged))
    for _ in range(draw.randint(1, FLIPS)):
        if end > first:
            damaged[draw.randrange(first, end)] ^= 1 << draw.randrange(8)
    return bytes(damaged)


def cut(content: bytes, draw: random.Random) -> bytes:
    """The bytes without their end."""
    return content[: draw.randrange(len(content))] if content else content


def fault_of_line(line: str) -> str | None:
    """Why a user can't read a message as the one line that it should be; None for a good one."""
    if not line.strip():
        return "says nothing"
    if len(line) > LONGEST_LINE:
        return f"is {len(line):,} characters long"
    strange = next((each for each in line if not each.isprintable()), None)
    return strange and f"holds the character U+{ord(strange):04X}"
