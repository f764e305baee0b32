"""The uncertainty of an accuracy, and of a difference between two models (or runs) asked the same rows."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

AT_ONCE = 4_000_000  # resampled rows held in memory at the same time


class Interval(NamedTuple):
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float


def accuracy_interval(right: int, n: int) -> tuple[float, float]:
    """The 95 % interval of an accuracy, `right` out of `n` (Wilson, 1927). (0, 1) where nothing was asked."""
    if not 0 <= right <= n:
        raise ValueError(f"{right} right answers out of {n}")
    if n == 0:
        return 0.0, 1.0
    z = 1.959963984540054  # the normal distribution's 97.5 % quantile
    share = right / n
    middle = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def paired_bootstrap(
    left: np.ndarray, right: np.ndarray, *, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """The mean of left - right over rows, with the 2.5 % and 97.5 % quantiles of its bootstrap distribution.

    `left` and `right` are one score a row, (N,), in the same row order. Rows are drawn with replacement, a row's
    two scores staying together, so what is common to both (an easy row) cancels out. The same seed gives the same
    interval. It has no width where all rows differ by the same amount, as a single row does. Raises ValueError for
    scores that aren't pairs.
    """
    return average_paired_bootstrap([(left, right)], resamples=resamples, seed=seed)


def average_paired_bootstrap(
    sets: Sequence[tuple[np.ndarray, np.ndarray]], *, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """As `paired_bootstrap`, for the plain average over several sets of rows, (left, right) each.

    Rows are drawn within each set, so that a small set weighs as much as a large one, in every draw.
    """
    rng = np.random.default_rng(seed)
    differences = [np.subtract(*_pairs(left, right)) for left, right in sets]
    drawn = np.mean([_resampled_means(each, resamples, rng) for each in differences], axis=0)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(float(np.mean([each.mean() for each in differences])), float(low), float(high))


def _resampled_means(values: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """The means of `resamples` draws with replacement, each of as many values as there are."""
    means = np.empty(resamples)
    step = max(1, AT_ONCE // len(values))
    for start in range(0, resamples, step):
        part = means[start : start + step]
        part[:] = values[rng.integers(0, len(values), (len(part), len(values)))].mean(axis=1)
    return means


def mcnemar(left: np.ndarray, right: np.ndarray) -> float:
    """McNemar's exact two-sided p for 0/1 scores, (N,): could a fair coin have decided the rows that differ?

    Of n rows that one side alone has right, k are the rarer kind: p = 2·P(Binomial(n, ½) <= k), at most 1. Rows
    on which both agree say nothing. 1 where no row differs; 5 against 0 gives 2/32. Raises ValueError for scores
    that aren't pairs of 0 and 1.
    """
    left, right = _pairs(left, right)
    if not np.isin([left, right], [0, 1]).all():
        raise ValueError("McNemar's test needs scores of 0 and 1")
    only_left, only_right = int(np.sum(left > right)), int(np.sum(left < right))
    differing, term, tail = only_left + only_right, 1, 0
    for k in range(min(only_left, only_right) + 1):
        tail += term
        term = term * (differing - k) // (k + 1)  # C(n, k+1) from C(n, k), exact in whole numbers
    return min(1.0, 2 * tail / 2**differing) if differing else 1.0


def _pairs(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    left, right = np.asarray(left, dtype=np.float64), np.asarray(right, dtype=np.float64)
    if left.ndim != 1 or left.shape != right.shape or not len(left):
        raise ValueError(f"scores of the same rows are needed, not {left.shape} and {right.shape}")
    if not (np.isfinite(left).all() and np.isfinite(right).all()):
        raise ValueError("a score is not a number")
    return left, right


class Spread(NamedTuple):
    """The mean of a few measurements, their sample standard deviation, and the mean's 95 % interval."""

    mean: float
    sd: float | None  # None for one measurement
    low: float | None  # None, as is high, where the measurements don't differ: one, or all alike
    high: float | None
    count: int


T_QUANTILES = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
"""The 97.5 % quantiles of Student's t for 1, 2, ... 30 degrees of freedom; beyond, the last one (4 % too wide at most
for the normal's 1.960, which it tends to)."""


def spread(values: Sequence[float]) -> Spread:
    """Mean ± t·sd/√n (Student's t) of a few runs that differ in their seed: what another seed might give.

    1, 2, 3 give 2 ± 2.48. Runs that are all alike give no interval: they don't show how far another may differ.
    """
    mean, count = float(np.mean(values)), len(values)
    if np.allclose(values, values[0], rtol=1e-9, atol=1e-12):  # except for rounding
        return Spread(mean, 0.0 if count > 1 else None, None, None, count)
    sd = float(np.std(values, ddof=1))
    half = T_QUANTILES[min(count - 1, len(T_QUANTILES)) - 1] * sd / count**0.5
    return Spread(mean, sd, mean - half, mean + half, count)
