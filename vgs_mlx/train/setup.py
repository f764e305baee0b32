"""From a recipe to everything a run needs, checked: what can be refused early is refused before weights load."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from mlx.utils import tree_flatten

from vgs_mlx import device
from vgs_mlx.data.datasets import DataSet
from vgs_mlx.data.prompts import image_tokens, render, text_tokens
from vgs_mlx.errors import Refusal
from vgs_mlx.models import adapters, probes
from vgs_mlx.models.base import LoadedModel
from vgs_mlx.models.loading import find_folder, load_model, load_processor, read_config
from vgs_mlx.models.picture_cache import PictureCache
from vgs_mlx.models.rows import encode, evaluate
from vgs_mlx.planning.plan import Lengths
from vgs_mlx.recipe import Recipe
from vgs_mlx.recipe_objective import needs_teacher, resolved
from vgs_mlx.rollout.sample import Sampling, sample
from vgs_mlx.train import rewards
from vgs_mlx.train.checkpoint import Identity
from vgs_mlx.train.data import LOOKED_AT, load_data
from vgs_mlx.train.identity import identify
from vgs_mlx.train.screen import Screen
from vgs_mlx.types import Example, Prompt

PROBED = 4  # prompts, and the longest completions (in tokens) that the probes look at
PROBED_LENGTH = 32


@dataclass(frozen=True, eq=False)
class Ready:
    """A run that may start."""

    recipe: Recipe
    student: LoadedModel
    teacher: LoadedModel | None  # None where the objective asks nothing of one
    data: DataSet
    identity: Identity

    def prompt(self, row: int) -> Prompt:
        """Training row `row` in both views."""
        return self.render(self.data.train[row])

    def render(self, example: Example) -> Prompt:
        """An example in the views that the recipe needs."""
        return render_prompt(self.student.processor, example, self.recipe)


def load(
    recipe: Recipe,
    screen: Screen,
    check: Callable[[Lengths, dict[str, Path]], None] | None = None,
    run: Path | None = None,
) -> Ready:
    """Processors, data, `check` (of the longest prompt), models, adapters, probes, in order. Raises `Refusal`.

    `run` is the folder whose rows these are, if it is there already: its pictures must be those that it started with.
    """
    device.wire()
    refuse_contradictions(recipe)
    folders = {role: find_folder(path, f"--{role}") for role, path in _paths(recipe).items()}
    for role, folder in folders.items():
        read_config(folder, f"--{role}")
    processors = {role: load_processor(folder, f"--{role}") for role, folder in folders.items()}
    if "teacher" in processors:
        probes.same_language(processors["student"], processors["teacher"])
    data = load_data(recipe, processors["student"], screen, run)
    if resolved(recipe).rewarded:
        example = data.train[0]
        rewards.reward_function(recipe.grpo)(
            example, f"\\boxed{{{example.answer}}}"
        )  # a trial: it may not work
    if check:
        check(longest_prompt(processors["student"], data, recipe), folders)
    student = load_model(recipe.student.path, "--student", say=screen.say)
    adapters.prepare(student, recipe.student, recipe.seed)
    screen.say(_model_line("student", student, recipe.student.train))
    teacher = None
    if "teacher" in processors:
        teacher = load_model(recipe.teacher.path, "--teacher", bits=recipe.teacher.bits, say=screen.say)
        screen.say(_model_line("teacher", teacher, None))
    else:
        screen.say(f"teacher  none: objective.name={recipe.objective.name} asks nothing of one")
    ready = Ready(recipe, student, teacher, data, identify(recipe, student, teacher, data))
    probe(ready, screen)
    return with_picture_cache(with_packing(ready, screen))


def refuse_contradictions(recipe: Recipe) -> None:
    """What no single key is wrong about. Raises `Refusal`."""
    objective, rollout = resolved(recipe), recipe.rollout
    if recipe.objective.watch_norm_scale and not (objective.steers or objective.watchable):
        raise Refusal(
            "objective.watch_norm_scale=true: goes with an objective that has no steering or preservation part of its "
            "own: set it to false"
        )
    if objective.on_policy:
        probes.sampling_is_on_policy(rollout, may_truncate=objective.rewarded and not objective.mixed)
    if objective.rewarded:
        rewards.reward_function(recipe.grpo)
        updates = recipe.grpo.updates_per_rollout
        if rollout.prompts_per_step % updates:
            raise Refusal(
                f"grpo.updates_per_rollout={updates}: rollout.prompts_per_step={rollout.prompts_per_step} prompts "
                "don't split into so many updates: make one a multiple of the other"
            )
        if rollout.completions_per_prompt < 2:
            raise Refusal(
                "rollout.completions_per_prompt=1: grpo compares the answers to a prompt: give 2 or more"
            )
    elif recipe.objective.mix:
        raise Refusal(
            f"objective.mix={recipe.objective.mix}: goes with objective.name=grpo, not {recipe.objective.name}: "
            "set objective.mix=0"
        )


def longest_prompt(processor: Any, data: DataSet, recipe: Recipe) -> Lengths:
    """The longest text and the most image tokens among the first rows; not always of one row."""
    text, image, settings = 1, 1, recipe.data
    for example in data.train[:LOOKED_AT]:
        text = max(text, text_tokens(processor, example, settings.system_prompt))
        image = max(image, image_tokens(processor, example, settings.max_pixels))
    return Lengths(text, image)


def render_prompt(processor: Any, example, recipe: Recipe) -> Prompt:
    """An example as a prompt in both views, as the recipe has it."""
    settings = recipe.data
    return render(
        processor,
        example,
        system_prompt=settings.system_prompt,
        max_pixels=settings.max_pixels,
        text_view=recipe.objective.text_view,
        more=_more_views(recipe),
    )


def _more_views(recipe: Recipe) -> set[str]:
    """The views beside the usual two that the objective or its reward reads."""
    objective = resolved(recipe)
    white = {"white"} if objective.rewarded and recipe.grpo.reward == "pdcr" else set()
    return white | (objective.teacher_views & {"degraded"})


def probe(ready: Ready, screen: Screen) -> None:
    """The probes that need weights, on a few of the student's own short completions."""
    prompts = [ready.prompt(row) for row in range(min(PROBED, len(ready.data.train)))]
    completions = _short_completions(ready, prompts)
    for model in _models(ready):
        probes.causality(model, prompts[0], completions[0])
        probes.padding(model, prompts, completions)
        if ready.recipe.objective.text_view == "omit":
            probes.text_view(model, prompts[0], completions[0])
    if ready.teacher is None:
        screen.say("probes   all passed")
        return
    share = probes.picture_reaction(ready.teacher, prompts, completions)
    screen.say(
        f"probes   all passed; the picture moves the teacher at {share:.0%} of positions (VDS > 0.05 nats)"
    )
    if share == 0:
        screen.say(
            "WARNING  the teacher does not react to the picture at all on these prompts: VGS then is the standard "
            "loss. Is it the right teacher, and are the pictures the right ones?"
        )


def with_packing(ready: Ready, screen: Screen) -> Ready:
    """The same, with completions that share a row with their prompt wherever a model computes that right."""
    prompts = [ready.prompt(row) for row in range(min(2, len(ready.data.train)))]
    completions = _short_completions(ready, prompts)
    packed = [replace(model, packs=probes.packing(model, prompts, completions)) for model in _models(ready)]
    roles = ("student", "teacher")[: len(packed)]
    apart = [role for role, model in zip(roles, packed, strict=True) if not model.packs]
    if apart:
        screen.say(
            f"packing  not for the {' and the '.join(apart)}: "
            "each completion gets a row of its own (slower, same result)"
        )
    else:
        screen.say(
            "packing  completions share one row with their prompt: its picture and text are computed once"
        )
    return replace(ready, **dict(zip(roles, packed, strict=True)))


def with_picture_cache(ready: Ready) -> Ready:
    """The same, with one cache of picture features for all vision towers that don't train, if the recipe wants it."""
    cache = PictureCache(round(ready.recipe.train.picture_cache_gb * 1e9))
    keeping = {"teacher"} if ready.recipe.student.train_vision else {"student", "teacher"}
    models = {role: vars(ready)[role] for role in keeping if cache.limit and vars(ready)[role]}
    return replace(ready, **{role: replace(model, pictures=cache) for role, model in models.items()})


def _models(ready: Ready) -> list[LoadedModel]:
    return [ready.student] if ready.teacher is None else [ready.student, ready.teacher]


def _short_completions(ready: Ready, prompts: list[Prompt]) -> list[np.ndarray]:
    views = [prompt.with_image for prompt in prompts]
    length = min(PROBED_LENGTH, ready.recipe.rollout.max_completion_length)
    drawn = sample(
        ready.student, views, [[(ready.recipe.seed, row)] for row in range(len(views))],
        evaluate(encode(ready.student, views)), Sampling(length),
    )  # fmt: skip
    return [row[0].ids for row in drawn]


def _model_line(role: str, model: LoadedModel, train: str | None) -> str:
    def size(tree) -> int:
        return sum(each.size for _, each in tree_flatten(tree))

    trained = ""
    if train:
        trained = f", {train}: {size(model.module.trainable_parameters()):,} weights train"
    gigabytes = sum(each.nbytes for _, each in tree_flatten(model.module.parameters())) / 1e9
    return f"{role:8} {model.name}: {gigabytes:.2f} GB in memory{trained}"


def _paths(recipe: Recipe) -> dict[str, str]:
    paths = {"student": recipe.student.path}
    return {**paths, "teacher": recipe.teacher.path} if needs_teacher(recipe) else paths
