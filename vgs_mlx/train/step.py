"""One update as the algorithm has it: sample, score, steer, update. Returns what happened; writes nothing."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import mlx.core as mx
import mlx.optimizers as optim

from vgs_mlx.models.base import LoadedModel
from vgs_mlx.models.rows import Encodings, encode, evaluate
from vgs_mlx.objective.objectives import OBJECTIVES, active
from vgs_mlx.objective.steering import Tree, norm, scaled, steer
from vgs_mlx.recipe import Recipe
from vgs_mlx.rollout.collect import collect
from vgs_mlx.train import gradients
from vgs_mlx.train import optimizer as adamw
from vgs_mlx.types import Prompt, Rollout

NORM_SCALES_KEPT = 4  # measurements of η that `interval` averages


@dataclass
class Progress:
    """What a run carries from step to step, beside weights and optimiser. All of it is in a checkpoint."""

    step: int = 0  # updates done
    norm_scales: list[float] = field(default_factory=list)  # the last measured ηs, oldest first
    skipped_in_a_row: int = 0  # updates skipped for non-finite values
    best_accuracy: float | None = None
    best_step: int | None = None


@dataclass(frozen=True)
class StepResult:
    """What one step made."""

    rollouts: list[Rollout]
    gradients: gradients.Gradients
    measured: dict[str, float]  # η, gradient norms, cosines
    seconds: dict[str, float]  # by phase
    finite: bool  # False: the update was skipped


def run_step(
    student: LoadedModel,
    teacher: LoadedModel,
    prompts: Sequence[Prompt],
    recipe: Recipe,
    optimizer: optim.AdamW,
    progress: Progress,
) -> StepResult:
    """Sample rollouts for the prompts, compute the steered gradient, update the student, advance `progress`."""
    start = time.perf_counter()
    encodings = encode_views(student, prompts)
    rollouts = collect(student, prompts, recipe.rollout, encodings, recipe.seed, progress.step)
    sampled = time.perf_counter()
    found = compute_gradients(
        student, teacher, rollouts, recipe, encodings, measure=measures(recipe, progress.step)
    )
    tree, measured = _steer(found, recipe, progress)
    finite = math.isfinite(measured["gradient_norm"]) and all(
        math.isfinite(v.sum()) for v in found.terms.values()
    )
    if finite:
        if "norm_scale_exact" in measured:
            progress.norm_scales = [*progress.norm_scales, measured["norm_scale_exact"]][-NORM_SCALES_KEPT:]
        tree = _clip(tree, measured["gradient_norm"], recipe.train.clip_norm)
        adamw.update(optimizer, student, tree)
    progress.skipped_in_a_row = 0 if finite else progress.skipped_in_a_row + 1
    progress.step += 1
    total = time.perf_counter() - start
    seconds = {"rollouts": sampled - start, **found.seconds, "step": total}
    seconds["rest"] = total - (sampled - start) - sum(found.seconds.values())
    return StepResult(rollouts, found, measured, seconds, finite)


def encode_views(model: LoadedModel, prompts: Sequence[Prompt]) -> Encodings:
    """Both views of every prompt, the vision tower run once for each."""
    return evaluate(encode(model, [view for each in prompts for view in (each.with_image, each.text_only)]))


def compute_gradients(
    student: LoadedModel,
    teacher: LoadedModel,
    rollouts: Sequence[Rollout],
    recipe: Recipe,
    encodings: Encodings,
    *,
    measure: bool,
) -> gradients.Gradients:
    """The objective's gradient trees for these rollouts: one for each part where η is measured, else one."""
    settings = recipe.objective
    objective = active(OBJECTIVES[settings.name], settings.steering_coef, settings.preservation_coef)
    weighing = gradients.Weighing(
        objective=objective,
        steering_coef=settings.steering_coef,
        preservation_coef=settings.preservation_coef,
        reduction=settings.reduction,
        chunk_size=settings.chunk_size,
        microbatch_size=recipe.train.microbatch_size,
        grad_checkpoint=recipe.train.grad_checkpoint,
        separate=measure,
    )
    shared = None if recipe.student.train_vision else encodings
    return gradients.compute(student, teacher, rollouts, weighing, shared)


def measures(recipe: Recipe, step: int) -> bool:
    """Whether η is measured at this step (counted from 0)."""
    settings = recipe.objective
    steers = active(OBJECTIVES[settings.name], settings.steering_coef, settings.preservation_coef).steering
    if not steers or not isinstance(settings.norm_scale, str):
        return False
    return settings.norm_scale == "exact" or step % settings.norm_scale_every == 0


def _steer(found: gradients.Gradients, recipe: Recipe, progress: Progress) -> tuple[Tree, dict[str, float]]:
    """The steered tree and its measurements."""
    settings = recipe.objective
    trees = found.trees
    if "steering" in trees:
        earlier = progress.norm_scales[1 - NORM_SCALES_KEPT :] if settings.norm_scale == "interval" else []
        tree, arrays = steer(
            trees["standard"],
            trees["steering"],
            trees.get("preservation", {}),
            mx.array(settings.steering_coef),
            mx.array(settings.preservation_coef),
            mx.array(earlier, dtype=mx.float32),
        )
        measured = {name: float(value) for name, value in arrays.items()}
    else:
        scale = _known_norm_scale(recipe, progress)
        tree = scaled(trees["total"], scale)
        measured = {"norm_scale": scale}
    return tree, {**measured, "gradient_norm": float(norm(tree))}


def _known_norm_scale(recipe: Recipe, progress: Progress) -> float:
    """η where it isn't measured: 1 for an objective that doesn't steer, the recipe's number, or the mean so far."""
    settings = recipe.objective
    if not active(OBJECTIVES[settings.name], settings.steering_coef, settings.preservation_coef).steering:
        return 1.0
    if not isinstance(settings.norm_scale, str):
        return settings.norm_scale
    return sum(progress.norm_scales) / len(progress.norm_scales) if progress.norm_scales else 1.0


def _clip(tree: Tree, size: float, limit: float | None) -> Tree:
    return tree if limit is None or size <= limit else scaled(tree, limit / size)
