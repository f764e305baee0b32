"""The angles between the loss components' gradients, by the visual dependency of tokens (Fig. 3)."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vgs_mlx.analysis import token_groups
from vgs_mlx.models.base import LoadedModel
from vgs_mlx.objective.binning import bins, edges
from vgs_mlx.objective.objectives import OBJECTIVES
from vgs_mlx.objective.steering import cosine, norm
from vgs_mlx.recipe.options import Recipe
from vgs_mlx.rollout.collect import collect
from vgs_mlx.train.step import encode_views
from vgs_mlx.train.watch import compute_terms
from vgs_mlx.types import Prompt, Rollout

FILE = "geometry.json"  # in a run folder

TERMS = ("standard", "visual", "language")
PAIRS = {
    "angle_lang_vis": ("language", "visual"),
    "angle_std_vis": ("standard", "visual"),
    "angle_std_lang": ("standard", "language"),
}
FREQUENT = 12  # most frequent tokens, listed for each bin
SEED_STREAM = 2**31  # other random numbers than those of training


@dataclass(frozen=True)
class Measured:
    """A batch of rollouts: the terms at its tokens, and the norms and angles of the gradients in each bin."""

    rollouts: list[Rollout]
    terms: dict[str, np.ndarray]  # (N,)
    norms: list[dict[str, float]]  # by bin: term -> ‖∇ mean of the term over the bin's tokens‖
    angles: list[dict[str, float]]  # by bin: name of PAIRS -> degrees


def measure(
    student: LoadedModel,
    teacher: LoadedModel,
    batches: Sequence[Sequence[Prompt]],
    recipe: Recipe,
    count: int,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """Sample rollouts for every batch of prompts; bin all their tokens by VDS into `count` equal-frequency bins;
    measure the gradients of each term's mean over each bin's tokens, batch by batch. Plain values for JSON.

    Gradients are those of the student's trainable weights. Angles in degrees, terms and VDS in nats.
    `progress` is called with the number of finished batches. Memory, beside the models and the activations of one
    micro-batch: the gradient trees of one bin (three, and one in the making), and the hidden states of a batch in
    all views.
    """
    rolled = [_rollouts(student, prompts, recipe, number) for number, prompts in enumerate(batches)]
    known = [compute_terms(student, teacher, each, recipe) for each in rolled]
    limits = edges(np.concatenate([terms["visual_dependency_score"] for terms in known]), count)
    measured = []
    for rollouts, terms in zip(rolled, known, strict=True):
        measured.append(_measured(student, teacher, rollouts, recipe, terms, limits))
        progress(len(measured))
    tokenizer = student.processor.tokenizer
    return {
        "batches": len(batches),
        "bins": [_bin(measured, number, limits, tokenizer) for number in range(count)],
    }


def _rollouts(student: LoadedModel, prompts: Sequence[Prompt], recipe: Recipe, number: int) -> list[Rollout]:
    encodings = encode_views(student, prompts, OBJECTIVES["standard"])
    return collect(student, prompts, recipe.rollout, encodings, recipe.seed, SEED_STREAM + number)


def _measured(
    student: LoadedModel,
    teacher: LoadedModel,
    rollouts: list[Rollout],
    recipe: Recipe,
    terms: dict[str, np.ndarray],
    limits: np.ndarray,
) -> Measured:
    """Norms and angles bin by bin; a bin without tokens in this batch has none. Trees are freed before the next bin."""
    numbers = bins(terms["visual_dependency_score"], limits)
    norms: list[dict[str, float]] = [{} for _ in range(len(limits) + 1)]
    angles: list[dict[str, float]] = [{} for _ in norms]
    for number, trees in token_groups.gradients(student, teacher, rollouts, recipe, numbers):
        norms[number] = {term: float(norm(trees[term])) for term in TERMS}
        angles[number] = _angles(trees)
        del trees
    return Measured(rollouts, terms, norms, angles)


def _angles(trees: dict[str, Any]) -> dict[str, float]:
    """The angle between the gradients of each two terms, in degrees."""
    cosines = {name: float(cosine(trees[left], trees[right])) for name, (left, right) in PAIRS.items()}
    return {name: float(np.degrees(np.arccos(np.clip(value, -1.0, 1.0)))) for name, value in cosines.items()}


def _bin(measured: Sequence[Measured], number: int, limits: np.ndarray, tokenizer: Any) -> dict[str, Any]:
    """The row of one bin, over all batches."""
    chosen = [bins(each.terms["visual_dependency_score"], limits) == number for each in measured]
    terms = {
        name: np.concatenate([each.terms[name][here] for each, here in zip(measured, chosen, strict=True)])
        for name in (*TERMS, "visual_dependency_score")
    }
    ids = np.concatenate(
        [
            np.concatenate([rollout.completion for rollout in each.rollouts])[here]
            for each, here in zip(measured, chosen, strict=True)
        ]
    )
    frequent = Counter(ids.tolist()).most_common(FREQUENT)
    scores = terms.pop("visual_dependency_score")
    return {
        "bin": number,
        "tokens": len(ids),
        "vds_low": float(scores.min()) if len(ids) else None,
        "vds_high": float(scores.max()) if len(ids) else None,
        **{name: _spread([each.angles[number].get(name) for each in measured]) for name in PAIRS},
        **{f"norm_{term}": _spread([each.norms[number].get(term) for each in measured]) for term in TERMS},
        **{f"mean_{term}": float(values.mean()) if len(ids) else None for term, values in terms.items()},
        "frequent": [[tokenizer.decode([token]), count] for token, count in frequent],
    }  # fmt: skip


def _spread(values: Sequence[float | None]) -> dict[str, float | None]:
    """Mean and sample standard deviation over the batches that have a value."""
    there = [value for value in values if value is not None]
    deviation = float(np.std(there, ddof=1)) if len(there) > 1 else None
    return {"mean": float(np.mean(there)) if there else None, "sd": deviation}
