"""What a recipe asks of the two models: its objective, who samples, and whether a teacher is needed."""

from dataclasses import replace
from typing import Literal

from vgs_mlx.objective.objectives import Objective, Part, resolve
from vgs_mlx.recipe.options import Recipe

WATCHED = Part(
    "visual", role="steering"
)  # the part that η is measured for where the objective has no steering


def resolved(recipe: Recipe) -> Objective:
    """The recipe's objective without the parts whose coefficient is 0."""
    settings = recipe.objective
    return resolve(
        settings.name, settings.steering_coef, settings.preservation_coef, settings.mix, settings.mix_with
    )


def measuring(recipe: Recipe) -> Objective:
    """The objective of a step that measures η: with the steering term where η is only watched."""
    objective = resolved(recipe)
    if objective.steers:
        return objective
    return replace(objective, parts=(*objective.parts, WATCHED))


def measures_norm_scale(recipe: Recipe) -> bool:
    """Whether some steps measure η."""
    settings = recipe.objective
    return isinstance(settings.norm_scale, str) if resolved(recipe).steers else settings.watch_norm_scale


def updates_per_step(recipe: Recipe) -> int:
    """Updates that a step makes from its rollouts: one, except under GRPO."""
    return recipe.grpo.updates_per_rollout if resolved(recipe).rewarded else 1


def sampler(recipe: Recipe) -> Literal["student", "teacher"] | None:
    """Who samples the answers that a step learns from; None where the rows bring them."""
    if resolved(recipe).on_policy:
        return "student"
    return "teacher" if recipe.objective.answers == "teacher" else None


def needs_teacher(recipe: Recipe) -> bool:
    """Whether a teacher is needed: for its log-probabilities, its answers, or terms that are only watched."""
    watches = measures_norm_scale(recipe) or recipe.train.watch_every is not None
    return bool(resolved(recipe).teacher_views) or sampler(recipe) == "teacher" or watches


def one_pass(recipe: Recipe, objective: Objective) -> bool:
    """Whether the student's body and its loss are differentiated together, in one pass of its body.

    `auto`: where no weight waits for the teacher's scores, for which the teacher's head would run twice. Measured on
    the CPU, one pass to two (`scripts/bench.py scaled`, smaller): 0.9 of the time of both models' passes for
    `standard` and for `vgs` without λ, at the same memory; 1.0 to 1.2 for `vgs` with its gate, at 1.4 to 1.6 of the
    memory.
    """
    return not objective.scores if recipe.train.passes == "auto" else recipe.train.passes == "one"
