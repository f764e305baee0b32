"""The row of `metrics.jsonl` for each step: plain numbers, with their meanings and units in METRICS."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from vgs_mlx.grading import grade_example
from vgs_mlx.models.base import LoadedModel
from vgs_mlx.objective.terms import DIAGNOSTICS, TERMS
from vgs_mlx.train.gradients import Gradients
from vgs_mlx.train.step import StepResult

METRICS = {
    "loss": "the objective's loss, nats, without its steering and preservation parts",
    "loss_standard": "mean over tokens of KL(student ‖ teacher) with the picture, nats (Eq. 3)",
    "loss_visual": "mean of KL(student ‖ visual target), nats (Eq. 11)",
    "loss_language": "mean of KL(student ‖ teacher) without the picture, nats (Eq. 6)",
    "loss_preservation": "of the preservation part: its term summed over gated tokens, divided by all tokens",
    "visual_dependency_score": "mean of KL(teacher with ‖ without the picture), nats (Eq. 12)",
    "gate_rate": "share of tokens that the preservation term acts on",
    "entropy": "mean entropy of the student's next-token distribution, nats",
    "norm_scale": "η used (1 if the objective has no steering)",
    "norm_scale_exact": "η measured at this step",
    "gradient_norm": "of the update's gradient, before clipping",
    "gradient_norm_standard": "of ∇L_std",
    "gradient_norm_steering": "of ∇L_vis",
    "gradient_norm_preservation": "of the gated ∇L_lang",
    "cosine_standard_steering": "cos of the angle between ∇L_std and ∇L_vis",
    "positions_computed": "positions of one scoring pass of both models in the views that they need",
    "positions_unpacked": "the same with a separate row for each completion, as in other trainers",
    "completion_length": "mean tokens of a completion",
    "cut_off_share": "share of completions cut off at max_completion_length",
    "peak_memory_gb": "the most memory that arrays took at one time during the step, GB (10^9 bytes)",
    "active_memory_gb": "memory that arrays take after the step, GB",
    "cache_memory_gb": "freed buffers that MLX keeps for later use, beside the arrays, GB: see train.cache_limit_gb",
    "seconds_between": "since the step before, or the start of the process: evaluations, looks, checkpoints",
    "reward": "mean reward of the sampled answers",
    "right_share": "share of sampled completions with the right answer",
}
"""What each metric means. A metric that the objective doesn't need is null."""


def row(step: int, result: StepResult, student: LoadedModel, learning_rate: float) -> dict[str, Any]:
    """The metrics of update `step` (counted from 1)."""
    updates = result.updates
    means = _mean([_term_means(update.gradients) for update in updates])
    losses = _mean([update.gradients.losses for update in updates])
    measured = _mean([update.measured for update in updates])
    gates = [update.gradients.gate for update in updates]
    lengths = [len(rollout.completion) for rollout in result.rollouts]
    values = {
        "step": step,
        "finite": result.finite,
        "loss": losses["standard"],
        **{f"loss_{term}": means.get(term) for term in (*DIAGNOSTICS, *(set(means) & set(TERMS)))},
        "loss_preservation": losses.get("preservation"),
        "visual_dependency_score": means.get("visual_dependency_score"),
        "gate_rate": None if gates[0] is None else float(np.mean([gate.mean() for gate in gates])),
        "entropy": means["entropy"],
        **{name: measured.get(name) for name in METRICS if "norm" in name or "cosine" in name},
        "learning_rate": learning_rate,
        "completion_length": float(np.mean(lengths)),
        "cut_off_share": float(np.mean([not rollout.ended for rollout in result.rollouts])),
        "reward": None if result.rewarded is None else float(result.rewarded.rewards.mean()),
        "right_share": float(np.mean(_right(result, student))),
        "tokens": sum(lengths),
        **{
            f"positions_{name}": sum(update.gradients.positions[name] for update in updates)
            for name in ("computed", "unpacked")
        },
        "tokens_per_second": sum(lengths) / result.seconds["step"],
        "seconds": {name: round(value, 4) for name, value in result.seconds.items()},
        "peak_memory_gb": mx.get_peak_memory() / 1e9,
        "active_memory_gb": mx.get_active_memory() / 1e9,
        "cache_memory_gb": mx.get_cache_memory() / 1e9,
    }
    # a skipped step has values that JSON can't represent
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }


def _term_means(found: Gradients) -> dict[str, float]:
    return {name: float((found.batch.weights * values).sum()) for name, values in found.terms.items()}


def _mean(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each entry over a step's updates."""
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def _right(result: StepResult, student: LoadedModel) -> Sequence[bool]:
    """Whether each final answer is right; where there are rewards, the answers are graded already."""
    if result.rewarded is not None:
        return result.rewarded.right
    decode = student.processor.tokenizer.decode
    texts = [decode(each.completion.tolist(), skip_special_tokens=True) for each in result.rollouts]
    pairs = zip(texts, result.rollouts, strict=True)
    return [grade_example(text, rollout.prompt.example).right for text, rollout in pairs]
