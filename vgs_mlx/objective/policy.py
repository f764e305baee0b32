"""GRPO: group-normalised advantages and the clipped surrogate, without a KL term."""

from collections.abc import Sequence

import mlx.core as mx
import numpy as np

STEADY = 1e-6
"""Added to a group's standard deviation, so that a group of equal rewards has the advantage 0, not NaN."""


def group_advantages(rewards: np.ndarray, groups: Sequence[int]) -> np.ndarray:
    """(reward − the group's mean) / the group's standard deviation (population), (R,) for R rollouts.

    `groups` names the prompt of every rollout. All 0 in a group of equal rewards.
    """
    rewards, labels = np.asarray(rewards, dtype=np.float64), np.asarray(groups)
    advantages = np.zeros_like(rewards)
    for label in np.unique(labels):
        here = labels == label
        advantages[here] = (rewards[here] - rewards[here].mean()) / (rewards[here].std() + STEADY)
    return advantages


def clipped_surrogate(
    logprobs: mx.array, sampling_logprobs: mx.array, advantages: mx.array, clip: float
) -> mx.array:
    """min(r A, clamp(r, 1 − clip, 1 + clip) A), r = p(y) / p_sampling(y); (N,), to be maximised."""
    ratio = mx.exp(logprobs - sampling_logprobs)
    return mx.minimum(ratio * advantages, mx.clip(ratio, 1 - clip, 1 + clip) * advantages)


def clipped_surrogate_gradient(
    logprobs: mx.array, sampling_logprobs: mx.array, advantages: mx.array, clip: float
) -> mx.array:
    """∂ surrogate / ∂ logprobs, (N,): r A where the minimum is the unclipped product, else 0."""
    ratio = mx.exp(logprobs - sampling_logprobs)
    clipped = mx.where(advantages > 0, ratio > 1 + clip, ratio < 1 - clip)
    return mx.where(clipped, 0.0, ratio * advantages)
