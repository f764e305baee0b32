"""Which weighted sums of terms are differentiated, and how they are combined into gradient trees.

Some weights depend on the teacher's scores over the whole update batch (a quantile of VDS). Such a term is
differentiated separately, with the batch's plain weights. Its cotangents are multiplied by the missing factors once all
scores are known. That is exact, since a token's cotangent depends only on its own weight. So the teacher's head runs
only once.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import mlx.core as mx
import numpy as np

from vgs_mlx.objective.objectives import (
    Coefficients,
    Objective,
    Part,
    role_coefficients,
    total,
    weights_by_role,
)
from vgs_mlx.objective.visual import Views
from vgs_mlx.objective.weightings import WEIGHTINGS, Batch

Factors = dict[str, np.ndarray | None]
"""Addend -> the factors of its tokens' cotangents, (N,); None for 1."""


@dataclass(frozen=True)
class Wanted:
    """The sums of terms to differentiate, and the trees to build from them.

    `trees` takes the batch with its scores, and returns for each tree the addends to sum and their factors.
    """

    addends: dict[str, Coefficients]
    trees: Callable[[Batch], dict[str, Factors]]


def of_objective(
    objective: Objective, steering_coef: float, preservation_coef: float, separate: bool, batch: Batch
) -> Wanted:
    """A tree for each role (`separate`, without γ and λ), or one tree, "total", of the roles' weighted sum."""
    unknown = [part for part in objective.parts if part.score and part.score not in batch.scores]
    known = replace(objective, parts=tuple(part for part in objective.parts if part not in unknown))
    sums = weights_by_role(known, batch)
    if sums and not separate:
        sums = total(sums, steering_coef, preservation_coef)
    by_role = role_coefficients(steering_coef, preservation_coef)

    def trees(scored: Batch) -> dict[str, Factors]:
        found: dict[str, Factors] = {name: {name: None} for name in sums}
        for part in unknown:
            tree, factor = (part.role, 1.0) if separate else ("total", by_role[part.role])
            spread = factor * part.share * WEIGHTINGS[part.weighting].spread(scored)
            found.setdefault(tree, {})[_own(part)] = spread / batch.weights
        return found

    return Wanted({**sums, **{_own(part): _everywhere(part.term, batch) for part in unknown}}, trees)


def weights_by_tree(wanted: Wanted, batch: Batch) -> dict[str, Coefficients]:
    """The terms' weights in each tree, (N,). The batch's scores must be known."""
    found: dict[str, Coefficients] = {}
    for tree, factors in wanted.trees(batch).items():
        sums = found.setdefault(tree, {})
        for addend, factor in factors.items():
            for term, weights in wanted.addends[addend].items():
                weighed = weights if factor is None else weights * mx.array(factor, dtype=mx.float32)
                sums[term] = sums[term] + weighed if term in sums else weighed
    return found


def weighed(cotangents: Mapping[str, Views], factors: Factors, window: slice) -> Views:
    """The sum of the addends' cotangents (N, D) by view, with each token's cotangent multiplied by its factor."""
    sums: dict[str, mx.array] = {}
    for addend, factor in factors.items():
        for view, states in cotangents[addend]._asdict().items():
            if states is not None:
                times = states if factor is None else _times(states, factor[window])
                sums[view] = sums[view] + times if view in sums else times
    return Views(**sums)


def _times(states: mx.array, factors: np.ndarray) -> mx.array:
    return states * mx.array(factors, dtype=states.dtype)[:, None]


def _own(part: Part) -> str:
    return f"{part.role}, {part.term} {part.weighting}"


def _everywhere(term: str, batch: Batch) -> Coefficients:
    return {term: mx.array(batch.weights, dtype=mx.float32)}
