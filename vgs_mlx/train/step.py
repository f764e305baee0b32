"""One step of the algorithm: answers, scores, steered gradient, update. Writes no files."""

import itertools
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx
import mlx.optimizers as optim
import numpy as np

from vgs_mlx.models.base import LoadedModel
from vgs_mlx.models.rows import Encodings, encode, evaluate
from vgs_mlx.objective.objectives import Objective
from vgs_mlx.objective.steering import Tree, norm, scaled, steer
from vgs_mlx.objective.terms import Options
from vgs_mlx.recipe.objective import (
    measures_norm_scale,
    measuring,
    one_pass,
    resolved,
    sampler,
    updates_per_step,
)
from vgs_mlx.recipe.options import Recipe
from vgs_mlx.rollout.collect import collect, given_answers
from vgs_mlx.runs.progress import Progress
from vgs_mlx.train import gradients
from vgs_mlx.train import optimizer as adamw
from vgs_mlx.train.rewards import advantages as rewards
from vgs_mlx.types import Prompt, Rollout

NORM_SCALES_KEPT = 4  # measurements of η that `interval` averages


def between_measurements() -> Progress:
    """A progress whose next step measures η only if every step does."""
    return Progress(step=1, norm_scales=[1.0])


@dataclass(frozen=True)
class Collected:
    """The answers that a step learns from."""

    rollouts: list[Rollout]
    encodings: Encodings  # the student's, of the prompts' views
    rewarded: rewards.Rewarded | None  # where the objective has rewards


@dataclass(frozen=True)
class Update:
    """The result of one update of the student."""

    gradients: gradients.Gradients
    measured: dict[str, float]  # η, gradient norms, cosines
    finite: bool  # False: the update was skipped


@dataclass(frozen=True)
class StepResult:
    """The result of one step: one update, or several from one batch of rollouts (GRPO)."""

    rollouts: list[Rollout]
    updates: list[Update]
    rewarded: rewards.Rewarded | None  # where the objective has rewards
    seconds: dict[str, float]  # by phase

    @property
    def finite(self) -> bool:
        return all(update.finite for update in self.updates)


@np.errstate(invalid="ignore", over="ignore")  # updates that are not finite are skipped and reported
def run_step(
    student: LoadedModel,
    teacher: LoadedModel | None,
    prompts: Sequence[Prompt],
    recipe: Recipe,
    optimizer: optim.AdamW,
    progress: Progress,
) -> StepResult:
    """Collect answers to the prompts, compute steered gradients, update the student, advance `progress`."""
    start = time.perf_counter()
    collected = collect_answers(student, teacher, prompts, recipe, progress)
    sampled = time.perf_counter()
    updates = [
        _update(
            student,
            compute_gradients(student, teacher, collected, window, recipe, progress),
            recipe,
            optimizer,
            progress,
        )
        for window in _updates(collected, recipe)
    ]
    finite = all(update.finite for update in updates)
    progress.skipped_in_a_row = 0 if finite else progress.skipped_in_a_row + 1
    progress.step += 1
    seconds = _seconds(updates, sampled - start, time.perf_counter() - start)
    return StepResult(collected.rollouts, updates, collected.rewarded, seconds)


def asked(recipe: Recipe, progress: Progress) -> Objective:
    """The next step's objective. It includes the steering term where η is measured without steering."""
    return measuring(recipe) if measures(recipe, progress) else resolved(recipe)


def encode_views(model: LoadedModel, prompts: Sequence[Prompt], objective: Objective) -> Encodings:
    """The views of every prompt that the student needs, encoded: the vision tower runs once for each view."""
    views = {"with_image"} | objective.student_views
    return evaluate(encode(model, [each.student[view] for each in prompts for view in sorted(views)]))


def collect_answers(
    student: LoadedModel,
    teacher: LoadedModel | None,
    prompts: Sequence[Prompt],
    recipe: Recipe,
    progress: Progress,
) -> Collected:
    """The step's answers: sampled, with their rewards if the objective has any, or the data set's own (sft)."""
    objective = asked(recipe, progress)
    encodings = encode_views(student, prompts, objective)
    source = sampler(recipe)
    if source == "student":
        rollouts = collect(student, prompts, recipe.rollout, encodings, recipe.seed, progress.step)
    elif source is None:
        rollouts = given_answers(student, prompts)
    else:
        theirs = evaluate(encode(teacher, [prompt.teacher["with_image"] for prompt in prompts]))
        rollouts = collect(teacher, prompts, recipe.rollout, theirs, recipe.seed, progress.step, "teacher")
    rewarded = rewards.advantages(student, rollouts, recipe, encodings) if objective.rewarded else None
    return Collected(rollouts, encodings, rewarded)


def compute_gradients(
    student: LoadedModel,
    teacher: LoadedModel | None,
    collected: Collected,
    window: slice,
    recipe: Recipe,
    progress: Progress,
) -> gradients.Gradients:
    """The gradient trees of the rollouts in `window`: one for each role where η is measured, else one."""
    settings, rewarded, objective = recipe.objective, collected.rewarded, asked(recipe, progress)
    weighing = gradients.Weighing(
        objective=objective,
        steering_coef=settings.steering_coef,
        preservation_coef=settings.preservation_coef,
        reduction=settings.reduction,
        chunk_size=settings.chunk_size,
        microbatch_size=recipe.train.microbatch_size,
        max_tokens=recipe.train.max_tokens_per_microbatch,
        grad_checkpoint=recipe.train.grad_checkpoint,
        separate=measures(recipe, progress),
        options=Options(settings.jsd_weight, recipe.grpo.clip),
        one_pass=one_pass(recipe, objective),
    )
    return gradients.compute(
        student,
        teacher,
        collected.rollouts[window],
        weighing,
        None if recipe.student.train_vision else collected.encodings,
        None if rewarded is None else np.concatenate(rewarded.by_token[window]),
    )


def measures(recipe: Recipe, progress: Progress) -> bool:
    """Whether η is measured at the next step. If it is used and there is no measurement yet, it always is."""
    if not measures_norm_scale(recipe):
        return False
    settings = recipe.objective
    if progress.step % settings.norm_scale_every == 0:
        return True
    return resolved(recipe).steers and (settings.norm_scale == "exact" or not progress.norm_scales)


def _updates(collected: Collected, recipe: Recipe) -> list[slice]:
    """Which rollouts belong to each of the step's updates."""
    count = updates_per_step(recipe)
    edges = [len(collected.rollouts) * number // count for number in range(count + 1)]
    return [slice(*edge) for edge in itertools.pairwise(edges)]


def _update(
    student: LoadedModel,
    found: gradients.Gradients,
    recipe: Recipe,
    optimizer: optim.AdamW,
    progress: Progress,
) -> Update:
    tree, measured = _steer(found, recipe, progress)
    finite = all(map(math.isfinite, measured.values())) and all(
        math.isfinite(values.sum()) for values in found.terms.values()
    )
    if finite:
        if "norm_scale_exact" in measured:
            progress.norm_scales = [*progress.norm_scales, measured["norm_scale_exact"]][-NORM_SCALES_KEPT:]
        tree = _clip(tree, measured["gradient_norm"], recipe.train.clip_norm)
        adamw.update(optimizer, student, tree)
    return Update(found, measured, finite)


def _steer(found: gradients.Gradients, recipe: Recipe, progress: Progress) -> tuple[Tree, dict[str, float]]:
    """The steered tree and its measurements. Removes the trees from `found`: the update needs their memory."""
    settings, trees = recipe.objective, found.trees
    found.trees = {}
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
        if not resolved(recipe).steers:  # only watched
            tree, measured["norm_scale"] = trees["standard"], 1.0
    else:
        scale = _known_norm_scale(recipe, progress)
        tree = scaled(trees["total"], scale)
        measured = {"norm_scale": scale}
    return tree, {**measured, "gradient_norm": float(norm(tree))}


def _known_norm_scale(recipe: Recipe, progress: Progress) -> float:
    """η where it isn't measured: 1 for an objective that doesn't steer, the recipe's number, or the mean so far."""
    settings = recipe.objective
    if not resolved(recipe).steers:
        return 1.0
    if not isinstance(settings.norm_scale, str):
        return settings.norm_scale
    return sum(progress.norm_scales) / len(progress.norm_scales) if progress.norm_scales else 1.0


def _clip(tree: Tree, size: float, limit: float | None) -> Tree:
    return tree if limit is None or size <= limit else scaled(tree, limit / size)


def _seconds(updates: Sequence[Update], rollouts: float, step: float) -> dict[str, float]:
    """Seconds by phase; `rest` is the time outside all phases."""
    phases = {
        name: sum(update.gradients.seconds[name] for update in updates) for name in ("teacher", "student")
    }
    return {"rollouts": rollouts, **phases, "step": step, "rest": step - rollouts - sum(phases.values())}
