"""How far figures may differ, and whether they do. Pure: NumPy in, lines out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

Kind = Literal["float32", "rounded", "stored"]
"""What rounds: float32 arithmetic; float32 whose products keep about 10 bits (TF32); bfloat16 and 4-bit weights."""

SEED = 2606  # of the sketches: no other random numbers here may have the same seed
BUCKETS = 32  # numbers that stand for a large array

LIMITS: dict[Kind, dict[str, float]] = {
    # another order of summation moves these by about 1e-6
    "float32": {"logits": 1e-4, "terms": 1e-3, "gate": 0.01, "scale": 1e-3, "gradients": 1e-3, "update": 0.02},
    # products of numbers cut to 10 bits move terms and gradients by 0.002
    "rounded": {"logits": 0.01, "terms": 0.02, "gate": 0.02, "scale": 0.01, "gradients": 0.02, "update": 0.1},
    # two ways to round to bfloat16 (attention and positions in float32, and not) move logits by 0.006, terms by 0.02,
    # gradients by 0.02, the update by 0.16; float32 is as far. One token more in the gate moves the preservation.
    "stored": {
        "logits": 0.02, "terms": 0.08, "gate": 0.02, "scale": 0.05, "gradients": 0.08, "gradients: preservation": 0.3,
        "update": 0.5,
    },
}  # fmt: skip
"""By group or by prefix of a name: relative distances; for the gate, the share of tokens."""


@dataclass(frozen=True)
class Line:
    """One comparison: the value that was found, and its limit."""

    part: str
    name: str
    value: float
    limit: float
    problem: str = ""  # why there is no value

    @property
    def agrees(self) -> bool:
        return not self.problem and self.value <= self.limit  # never true of nan

    @property
    def excess(self) -> float:
        """The value as a share of the limit; infinite where there is no valid value."""
        share = self.value / self.limit if self.limit else self.value and np.inf
        return share if not self.problem and not np.isnan(share) else np.inf

    @property
    def text(self) -> str:
        return f"{self.part}: {self.name}" + (
            f": {self.problem}" if self.problem else f": {self.value:.2g}, at most {self.limit:g}"
        )


def compare(
    part: str, ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray], limits: Mapping[str, float]
) -> list[Line]:
    """A line for each figure of `theirs`; one that is missing on either side is a problem."""
    lines = []
    for name in dict.fromkeys([*theirs, *ours]):
        if name not in ours or name not in theirs:
            missing = "there is nothing to compare it with" if name in ours else "was not computed"
            lines.append(Line(part, name, np.nan, 0.0, missing))
            continue
        measure = differing if group(name) == "gate" else distance
        lines.append(Line(part, name, measure(ours[name], theirs[name]), limit_of(name, limits)))
    return lines


def group(name: str) -> str:
    """`logits` of `logits: student, with_image`."""
    return name.partition(":")[0]


def limit_of(name: str, limits: Mapping[str, float]) -> float:
    """The limit of the longest prefix of the name that has one."""
    return limits[max((each for each in limits if name.startswith(each)), key=len)]


def distance(ours: np.ndarray, theirs: np.ndarray) -> float:
    """‖ours − theirs‖ / ‖theirs‖; infinite where the shapes differ, or where only `theirs` is all zeros."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if ours.shape != theirs.shape:
        return np.inf
    apart, size = np.linalg.norm(ours - theirs), np.linalg.norm(theirs)
    if size == 0:
        return 0.0 if apart == 0 else np.inf
    return float(apart / size)


def differing(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The share of places that are not equal; all of them where the shapes differ."""
    return float((ours != theirs).mean()) if ours.shape == theirs.shape else 1.0


def worst_by_group(lines: Iterable[Line]) -> list[Line]:
    """For each part and group, the line that is nearest to its limit, or farthest beyond it."""
    groups: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        groups.setdefault((line.part, group(line.name)), []).append(line)
    return [max(each, key=lambda line: line.excess) for each in groups.values()]


def sketched(figures: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Figures with every large array replaced by its sketch. The gate stays whole: its tokens are counted."""
    return {
        name: values if values.size <= BUCKETS or group(name) == "gate" else sketch(values)
        for name, values in figures.items()
    }


def sketch(values: np.ndarray) -> np.ndarray:
    """Sums of an array's values in BUCKETS buckets, each value with a sign; buckets and signs are random but fixed.

    Linear, and with about the array's own norm: the distance of two sketches is that of the arrays within about 20 %.
    """
    words = np.random.PCG64(SEED).random_raw(values.size)
    signs = np.where(words >> np.uint64(63), 1.0, -1.0)
    buckets = (words % np.uint64(BUCKETS)).astype(np.int64)
    return np.bincount(buckets, weights=signs * values.ravel().astype(np.float64), minlength=BUCKETS)
