"""How a term is spread over the tokens of an update batch, given the batch's weights and the teacher's scores.

The scores cover all tokens of the update batch, so that nothing depends on how the batch is split.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

LOW_QUANTILE, GATE_QUANTILE = 0.4, 0.7
"""Quantiles of VDS over the update batch (Eq. 16, 25): a token above the second depends highly on the picture."""
HIGH_SHARE = 0.2  # the share of a rollout's tokens that count as high in visual advantage (arXiv 2605.21924)


class Batch(NamedTuple):
    """The N tokens of an update batch: R rollouts laid end to end."""

    weights: np.ndarray  # (N,) each token's share of the batch's mean; they sum to 1
    lengths: list[int]  # (R,)
    prompts: list[int]  # (R,) the prompt that each rollout belongs to
    scores: dict[str, np.ndarray]  # (N,) nats: "visual_dependency_score", "visual_advantage"
    steering_coef: float  # γ


@dataclass(frozen=True)
class Weighting:
    """A way to spread a term over tokens. `score` names the teacher's score that it reads, if any."""

    spread: Callable[[Batch], np.ndarray]
    score: str | None = None


def dependency_gate(scores: np.ndarray) -> np.ndarray:
    """1 where a token's VDS lies above the batch's quantile, else 0, (N,)."""
    threshold = np.quantile(scores.astype(np.float64), GATE_QUANTILE)
    return (scores > threshold).astype(np.float32)


def adaptive_factors(scores: np.ndarray, low: float, high: float) -> np.ndarray:
    """The factor of γ at each token (Eq. 25): 0 up to `low`, 1/2 up to `high`, 1 above."""
    return 0.5 * (scores > low) + 0.5 * (scores > high)


def rollout_weights(advantages: np.ndarray) -> np.ndarray:
    """The weights of one prompt's rollouts from their mean visual advantages (VA-OPD); they sum to 1.

    Softmax (temperature 1) of the z-scores, with the population standard deviation. Equal advantages give equal
    weights; (.045, .03, .02, .01) gives about (.656, .206, .095, .044).
    """
    spread = advantages.std()
    scores = (advantages - advantages.mean()) / spread if spread > 0 else np.zeros_like(advantages)
    exponentials = np.exp(scores - scores.max())
    return exponentials / exponentials.sum()


def grouped_weights(advantages: np.ndarray) -> np.ndarray:
    """The weights of one rollout's tokens (VA-OPD); they sum to 1.

    Half goes to the fifth with the highest visual advantage, half to the rest, each spread evenly. A single token has
    the whole weight.
    """
    count = len(advantages)
    high = min(max(1, round(HIGH_SHARE * count)), count - 1)
    if high < 1:
        return np.ones(count)
    order = np.argsort(-advantages, kind="stable")
    weights = np.full(count, 0.5 / (count - high))
    weights[order[:high]] = 0.5 / high
    return weights


def _gated(batch: Batch) -> np.ndarray:
    return batch.weights * dependency_gate(batch.scores["visual_dependency_score"])


def _adaptive(batch: Batch) -> np.ndarray:
    scores = batch.scores["visual_dependency_score"].astype(np.float64)
    low, high = np.quantile(scores, (LOW_QUANTILE, GATE_QUANTILE))
    return batch.weights * adaptive_factors(scores, low, high)


def _upweighted(batch: Batch) -> np.ndarray:
    """1 + γ on highly dependent tokens, normalised by the sum of weights."""
    gate = dependency_gate(batch.scores["visual_dependency_score"])
    raised = batch.weights * (1 + batch.steering_coef * gate)
    return raised / raised.sum()


def _visual_advantage(batch: Batch) -> np.ndarray:
    """VA-OPD's weights of rollouts and tokens. They replace the batch's own reduction."""
    parts = np.split(batch.scores["visual_advantage"].astype(np.float64), np.cumsum(batch.lengths)[:-1])
    prompts = np.array(batch.prompts)
    weights = np.zeros(len(parts))
    for prompt in np.unique(prompts):
        here = np.flatnonzero(prompts == prompt)
        weights[here] = rollout_weights(np.array([parts[row].mean() for row in here]))
    weights /= len(np.unique(prompts))
    return np.concatenate(
        [weight * grouped_weights(part) for weight, part in zip(weights, parts, strict=True)]
    )


WEIGHTINGS = {
    "everywhere": Weighting(lambda batch: batch.weights),
    "gated": Weighting(_gated, "visual_dependency_score"),  # Eq. 16
    "adaptive": Weighting(_adaptive, "visual_dependency_score"),  # Eq. 24-25
    "upweighted": Weighting(_upweighted, "visual_dependency_score"),
    "visual_advantage": Weighting(_visual_advantage, "visual_advantage"),
}
