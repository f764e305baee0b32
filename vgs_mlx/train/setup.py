"""From a recipe to everything a run needs, checked. Whatever can be refused early is refused before weights load."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlx.utils import tree_flatten

from vgs_mlx import device
from vgs_mlx.data import pairing, templates
from vgs_mlx.data.datasets import DataSet
from vgs_mlx.data.prompts import render
from vgs_mlx.errors import Refusal
from vgs_mlx.models import adapters, gradient_probe, probes
from vgs_mlx.models.base import LoadedModel
from vgs_mlx.models.loading import find_folder, load_model, load_processor, read_config
from vgs_mlx.models.picture_cache import PictureCache
from vgs_mlx.models.processing import Processor
from vgs_mlx.models.rows import Encodings, encode, evaluate
from vgs_mlx.objective.objectives import Objective
from vgs_mlx.planning.plan import Lengths
from vgs_mlx.recipe.objective import needs_teacher, resolved
from vgs_mlx.recipe.options import Recipe
from vgs_mlx.rollout.sample import Completion, Sampling, sample
from vgs_mlx.runs.identity import Identity, identify
from vgs_mlx.runs.rows import load_data, longest
from vgs_mlx.runs.screen import LIBRARIES, Screen
from vgs_mlx.train.rewards import advantages as rewards
from vgs_mlx.types import Example, Prompt, Side

PROBED = 4  # prompts that the probes use
PROBED_LENGTH = 24  # tokens of their completions, at most


@dataclass(frozen=True, eq=False)
class Ready:
    """A run that may start."""

    recipe: Recipe
    student: LoadedModel
    teacher: LoadedModel | None  # None where the objective needs none
    data: DataSet
    identity: Identity

    @functools.cached_property
    def objective(self) -> Objective:
        """The recipe's objective, without the parts that the recipe switches off."""
        return resolved(self.recipe)

    def prompt(self, row: int) -> Prompt:
        """Training row `row` in both views."""
        return self.render(self.data.train[row])

    def render(self, example: Example) -> Prompt:
        """An example in the views that the recipe needs."""
        return render_prompt(self.student.processor, example, self.recipe, self.objective)


def load(
    recipe: Recipe,
    screen: Screen,
    check: Callable[[Lengths, dict[str, Path]], None] | None = None,
    run: Path | None = None,
) -> Ready:
    """Load processors and data, call `check` on the longest prompt, then load models and adapters, and probe them.

    `run` is the run's folder, if it exists already: the pictures must be the same as at its start. Raises `Refusal`.
    """
    device.wire()
    refuse_contradictions(recipe)
    folders = {role: find_folder(path, f"--{role}") for role, path in _paths(recipe).items()}
    processor = _processor(recipe, folders, screen)
    data = load_data(recipe, processor, screen, run)
    if resolved(recipe).rewarded:
        example = data.train[0]  # try the reward: it may not work
        rewards.reward_function(recipe.grpo)(example, f"\\boxed{{{example.answer}}}")
    if check:
        check(longest(processor, data, recipe), folders)
    student, teacher = _student(recipe, screen), _teacher(recipe, screen)
    identity = identify(recipe, student, teacher, data)
    ready = Ready(recipe, student, teacher, data, identity)
    with screen.working("probing whether the gradients will be right"):
        probe(ready, screen)
    return with_picture_cache(ready)


def _processor(recipe: Recipe, folders: dict[Side, Path], screen: Screen) -> Processor:
    """The student's processor. The teacher's, if there is one, must read prompts alike. Raises `Refusal`."""
    for role, folder in folders.items():
        read_config(folder, f"--{role}")
    with screen.working(LIBRARIES):
        processors = {role: load_processor(folder, f"--{role}") for role, folder in folders.items()}
    options, student = recipe.data.template_options, processors["student"]
    templates.refuse_unknown(student, options)
    if "teacher" in processors:
        pairing.same_language(student, processors["teacher"], options)
    if line := templates.reasoning_line(student, options):
        screen.say(f"template {line}")
    return student


def _student(recipe: Recipe, screen: Screen) -> LoadedModel:
    with screen.working("loading the student"):
        student = load_model(recipe.student.path, "--student", say=screen.say)
        adapters.prepare(student, recipe.student, recipe.seed)
    screen.say(_model_line("student", student, recipe.student.train))
    return student


def _teacher(recipe: Recipe, screen: Screen) -> LoadedModel | None:
    if not needs_teacher(recipe):
        screen.say(f"teacher  none: objective.name={recipe.objective.name} needs no teacher")
        return None
    with screen.working("loading the teacher"):
        teacher = load_model(recipe.teacher.path, "--teacher", bits=recipe.teacher.bits, say=screen.say)
    screen.say(_model_line("teacher", teacher, None))
    return teacher


def refuse_contradictions(recipe: Recipe) -> None:
    """Refuse keys that are valid alone but contradict each other. Raises `Refusal`."""
    objective, rollout, train = resolved(recipe), recipe.rollout, recipe.train
    if train.warmup_steps >= train.steps:
        raise Refusal(
            f"train.warmup_steps={train.warmup_steps}: the learning rate would never reach its peak in "
            f"train.steps={train.steps} steps: give fewer warm-up steps than steps, such as "
            f"train.warmup_steps={train.steps // 10}"
        )
    if recipe.objective.watch_norm_scale and not (objective.steers or objective.watchable):
        raise Refusal(
            "objective.watch_norm_scale=true: needs an objective that has no steering or preservation part of its own: "
            "set it to false"
        )
    if objective.on_policy:
        probes.sampling_is_on_policy(rollout, may_truncate=objective.rewarded and not objective.mixed)
    if objective.rewarded:
        rewards.reward_function(recipe.grpo)
        updates = recipe.grpo.updates_per_rollout
        if rollout.prompts_per_step % updates:
            raise Refusal(
                f"grpo.updates_per_rollout={updates}: rollout.prompts_per_step={rollout.prompts_per_step} prompts "
                "don't divide evenly into that many updates: make the prompts a multiple of the updates"
            )
        if rollout.completions_per_prompt < 2:
            raise Refusal(
                "rollout.completions_per_prompt=1: grpo compares the answers to a prompt: give 2 or more"
            )
    elif recipe.objective.mix:
        raise Refusal(
            f"objective.mix={recipe.objective.mix}: needs objective.name=grpo, not {recipe.objective.name}: "
            "set objective.mix=0"
        )


def render_prompt(
    processor: Any, example: Example, recipe: Recipe, objective: Objective | None = None
) -> Prompt:
    """An example as a prompt in the views that the recipe needs; `objective`: the recipe's, where already resolved."""
    more = _more_views(recipe, resolved(recipe) if objective is None else objective)
    return render(processor, example, recipe.data, text_view=recipe.objective.text_view, more=more)


def _more_views(recipe: Recipe, objective: Objective) -> set[str]:
    """The views besides the usual two that the objective or its reward reads."""
    white = {"white"} if objective.rewarded and recipe.grpo.reward == "pdcr" else set()
    return (objective.student_views | objective.teacher_views | white) - set(probes.VIEWS)


def probe(ready: Ready, screen: Screen) -> None:
    """The probes that need weights, on a few of the student's own short completions.

    Raises `Refusal` for a model that would learn or teach wrongly.
    """
    prompts = [ready.prompt(row) for row in range(min(PROBED, len(ready.data.train)))]
    encodings = _probed_views(ready.student, prompts, "student")
    drawn = _short_completions(ready, prompts, encodings)
    completions = [each.ids for each in drawn]
    reaction = None
    for role, model in _models(ready).items():
        if role == "teacher":
            encodings = _probed_views(model, prompts, role)
        trial = probes.attempt(model, prompts, completions, encodings, role)
        probes.causality(trial)
        probes.padding(trial)
        if ready.recipe.objective.text_view == "omit":
            probes.text_view(trial)
        probes.continuation(trial)
        if role == "student":
            probes.sampling(trial, [each.sampling_logprobs for each in drawn])
            gradient_probe.gradients(trial, checkpointed=ready.recipe.train.grad_checkpoint)
        if role == "teacher":
            reaction = probes.picture_reaction(trial)
    _say_probed(reaction, screen)


def _say_probed(reaction: float | None, screen: Screen) -> None:
    moves = (
        ""
        if reaction is None
        else f"; the picture moves the teacher at {reaction:.0%} of positions (VDS > 0.05 nats)"
    )
    screen.say(f"probes   all passed{moves}")
    if reaction == 0:
        screen.say(
            "WARNING  the teacher does not react to the picture at all on these prompts: VGS is then the standard "
            "loss. Check that the teacher and the pictures are the right ones."
        )


def with_picture_cache(ready: Ready) -> Ready:
    """The same with one cache of picture features for all frozen vision towers, if the recipe asks for one."""
    cache = PictureCache(round(ready.recipe.train.picture_cache_gb * 1e9))
    keeping = {"teacher"} if ready.recipe.student.train_vision else {"student", "teacher"}
    models = {role: vars(ready)[role] for role in keeping if cache.limit and vars(ready)[role]}
    return replace(ready, **{role: replace(model, pictures=cache) for role, model in models.items()})


def _probed_views(model: LoadedModel, prompts: list[Prompt], side: Side) -> Encodings:
    return evaluate(encode(model, [prompt.views(side)[view] for prompt in prompts for view in probes.VIEWS]))


def _models(ready: Ready) -> dict[Side, LoadedModel]:
    return {"student": ready.student, **({"teacher": ready.teacher} if ready.teacher else {})}


def _short_completions(ready: Ready, prompts: list[Prompt], encodings: Encodings) -> list[Completion]:
    length = min(PROBED_LENGTH, ready.recipe.rollout.max_completion_length)
    seeds = [[(ready.recipe.seed, row)] for row in range(len(prompts))]
    views = [prompt.student["with_image"] for prompt in prompts]
    return [row[0] for row in sample(ready.student, views, seeds, encodings, Sampling(length))]


def _model_line(role: str, model: LoadedModel, train: str | None) -> str:
    def size(tree) -> int:
        return sum(each.size for _, each in tree_flatten(tree))

    trained = ""
    if train:
        trained = f", {train}: {size(model.module.trainable_parameters()):,} weights train"
    gigabytes = sum(each.nbytes for _, each in tree_flatten(model.module.parameters())) / 1e9
    return f"{role:8} {model.name}: {gigabytes:.2f} GB in memory{trained}"


def _paths(recipe: Recipe) -> dict[Side, str]:
    paths: dict[Side, str] = {"student": recipe.student.path}
    return {**paths, "teacher": recipe.teacher.path} if needs_teacher(recipe) else paths
