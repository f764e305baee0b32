"""Tokens in bins of equal frequency by their visual dependency; bin 0 depends least on the picture (Fig. 3, 4)."""

import numpy as np

BINS = 10
GROUPS = {"low": range(3), "middle": range(3, 7), "high": range(7, 10)}
"""Groups of the ten bins, as in Fig. 4."""


def edges(scores: np.ndarray, count: int = BINS) -> np.ndarray:
    """The inner limits of `count` bins that hold equally many tokens, (count − 1,) nats, ascending."""
    return np.quantile(scores.astype(np.float64), np.arange(1, count) / count)


def bins(scores: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """The bin of each token, (N,) from 0 to len(limits); a token at a limit belongs to the bin below it."""
    return np.searchsorted(limits, scores.astype(np.float64), side="left")
