"""PDCR and PACR: dense advantages from gains in confidence (Yoon et al., arXiv 2605.13467). Pure NumPy.

A completion is split into steps, with the student's confidence in the right answer after each. A step's advantage is
the weighted sum of the outcome's advantage and its own discounted gain, normalised among the steps of its class.
"""

from collections.abc import Sequence

import numpy as np


def returns(confidences: np.ndarray, discount: float) -> np.ndarray:
    """G_k = Σ_{m ≥ k} discount^{m − k} (c_m − c_{m−1}) from confidences (steps + 1,), nats; (steps,)."""
    gains = np.diff(confidences)
    discounted = np.zeros_like(gains)
    following = 0.0
    for step in range(len(gains) - 1, -1, -1):
        following = gains[step] + discount * following
        discounted[step] = following
    return discounted


def otsu_threshold(values: np.ndarray) -> float:
    """The threshold that splits the values into two classes with the least sum of squared deviations within classes.

    It lies halfway between the classes; values above it belong to the high class. With fewer than two distinct values,
    no value lies above it.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    if len(ordered) < 2 or ordered[0] == ordered[-1]:
        return float(ordered[-1]) if len(ordered) else 0.0
    counts = np.arange(1, len(ordered))
    sums, squares = np.cumsum(ordered), np.cumsum(ordered**2)
    left = squares[:-1] - sums[:-1] ** 2 / counts
    right = (squares[-1] - squares[:-1]) - (sums[-1] - sums[:-1]) ** 2 / (len(ordered) - counts)
    within = np.where(ordered[1:] > ordered[:-1], left + right, np.inf)  # no cut between equal values
    cut = int(np.argmin(within))
    return float((ordered[cut] + ordered[cut + 1]) / 2)


def normalised(values: np.ndarray) -> np.ndarray:
    """The values scaled so that the smallest becomes 0 and the largest 1; all 0 if they are equal."""
    if len(values) == 0 or values.max() == values.min():
        return np.zeros_like(values)
    return (values - values.min()) / (values.max() - values.min())


def step_advantages(
    gains: Sequence[np.ndarray],
    visual: Sequence[np.ndarray] | None,
    outcome: np.ndarray,
    outcome_coef: float,
    process_coef: float,
) -> list[np.ndarray]:
    """λ_O · A_outcome + λ_P · A_class for every step of every rollout.

    `gains` are the discounted returns of each rollout's steps. `visual` is the steps' visual dependence V_k; its Otsu
    threshold over the batch separates perception from reasoning (PDCR). None: a single class (PACR).
    """
    flat = np.concatenate(list(gains))
    if visual is None:
        scaled = normalised(flat)
    else:
        dependence = np.concatenate(list(visual))
        perception = dependence > otsu_threshold(dependence)
        scaled = np.zeros_like(flat)
        for chosen in (perception, ~perception):
            scaled[chosen] = normalised(flat[chosen])
    edges = np.cumsum([len(each) for each in gains])[:-1]
    return [
        outcome_coef * advantage + process_coef * part
        for advantage, part in zip(outcome, np.split(scaled, edges), strict=True)
    ]
