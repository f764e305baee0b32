"""An objective is a declaration: which loss terms it has, and what each weighs at each token."""

from dataclasses import dataclass

import mlx.core as mx
import numpy as np

GATE_QUANTILE = 0.7
"""The preservation term acts on tokens whose VDS lies above this quantile of the update batch (Eq. 16)."""

Coefficients = dict[str, mx.array]
"""Term -> its weight at every token, (N,)."""


@dataclass(frozen=True)
class Objective:
    """L = η (L_standard + γ L_steering + λ L_preservation); a part that is None is absent."""

    steering: str | None = None  # the term that γ weighs, at every token
    preservation: str | None = None  # the term that λ weighs, at tokens with a high VDS


OBJECTIVES = {
    "standard": Objective(),  # Eq. 4
    "vgs": Objective(steering="visual", preservation="language"),  # Eq. 13-18
}


def active(objective: Objective, steering_coef: float, preservation_coef: float) -> Objective:
    """The objective without the parts whose coefficient is 0, so that nobody computes them."""
    return Objective(
        steering=objective.steering if steering_coef else None,
        preservation=objective.preservation if preservation_coef else None,
    )


def dependency_gate(scores: mx.array) -> mx.array:
    """1 where a token's VDS lies above the batch's quantile, else 0: float32 (N,).

    `scores` must be those of all tokens of the update batch, so that the gate doesn't depend on its split.
    """
    threshold = float(np.quantile(np.array(scores, dtype=np.float64), GATE_QUANTILE))
    return (scores > threshold).astype(mx.float32)


def parts(objective: Objective, weights: mx.array, gate: mx.array | None) -> dict[str, Coefficients]:
    """The objective's parts, each as its terms' weights at every token, without γ and λ.

    One gradient tree per part is what steering and the measuring of η need.
    """
    found: dict[str, Coefficients] = {"standard": {"standard": weights}}
    if objective.steering:
        found["steering"] = {objective.steering: weights}
    if objective.preservation:
        found["preservation"] = {objective.preservation: weights * gate}
    return found


def total(
    found: dict[str, Coefficients], steering_coef: float, preservation_coef: float
) -> dict[str, Coefficients]:
    """The parts merged into one, γ and λ included: one gradient tree is enough when η isn't measured."""
    factors = {"standard": 1.0, "steering": steering_coef, "preservation": preservation_coef}
    merged: Coefficients = {}
    for part, coefficients in found.items():
        for term, weights in coefficients.items():
            merged[term] = merged.get(term, 0.0) + factors[part] * weights
    return {"total": merged}
