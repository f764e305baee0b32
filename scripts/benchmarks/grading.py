"""How fast answers are graded: plain forms, the graded cases of the tests by kind, and what a hostile answer costs."""

import random
import time
from collections.abc import Sequence

from vgs_mlx.grading import grade

COLOURS = ("red", "blue", "top left", "a small triangle")
HOSTILE = (
    ("9^{9^{9^9}}", r"\sqrt{2}"),
    ("((((x+1)^{99})^{99})^{99})^{99}", "x+1"),
    (r"10^{10^{100}}", "2^{9^9}+1"),
)


def plain(count: int) -> list[tuple[str, str]]:
    """Pairs of what a model boxes and a right answer: letters, numbers, quantities and words; half are right."""
    rng = random.Random(0)

    def pair() -> tuple[str, str]:
        number = rng.randrange(10_000)
        other = number if rng.random() < 0.5 else number + 1
        forms = (
            (rng.choice("ABCD"), rng.choice("ABCD")),
            (f"({rng.choice('ABCD')})", rng.choice("ABCD")),
            (f"{number:,}", str(other)),
            (f"{number / 100}", f"{other / 100}"),
            (f"{number} cm", str(other)),
            (f"{number % 100}%", f"{other % 100}"),
            (rng.choice(COLOURS), rng.choice(COLOURS)),
            (f"{number % 12 + 1}:{number % 60:02d}", f"{other % 12 + 1}:{other % 60:02d}"),
        )
        return rng.choice(forms)

    return [pair() for _ in range(count)]


def rate(pairs: Sequence[tuple[str, str]]) -> float:
    """Answers graded a second."""
    begin = time.perf_counter()
    for given, right in pairs:
        grade(f"<reason>It is there.</reason> \\boxed{{{given}}}", right)
    return len(pairs) / (time.perf_counter() - begin)


def hostile() -> dict[str, float]:
    """Seconds of the clock for each answer that would never end."""
    grade(r"\boxed{\sqrt{8}}", r"2\sqrt{2}")  # starts the worker
    found = {}
    for given, right in HOSTILE:
        begin = time.perf_counter()
        grade(f"\\boxed{{{given}}}", right)
        found[given] = time.perf_counter() - begin
    return found
