"""Which phases a command goes through: from a recipe and the sizes of its models to a plan. Only arithmetic.

A plan assumes that every completion reaches its full length, and that every prompt is as long as `Lengths` says.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from vgs_mlx.objective.objectives import ALL_TERMS, Objective
from vgs_mlx.planning import phases, resting, work
from vgs_mlx.planning.footprint import FLOAT, Body, Device, device_of
from vgs_mlx.planning.phases import Draws, Goal, Pair
from vgs_mlx.planning.plan import Lengths, Parts, Phase, Plan
from vgs_mlx.planning.sizes import ModelSize
from vgs_mlx.planning.student import student_gradients
from vgs_mlx.planning.work import FILE_GIB, Work
from vgs_mlx.recipe.objective import (
    measures_norm_scale,
    measuring,
    needs_teacher,
    one_pass,
    resolved,
    sampler,
)
from vgs_mlx.recipe.options import DENSE_REWARDS, Recipe
from vgs_mlx.rollout.batches import completions_at_once, prompts_at_once


@dataclass(frozen=True)
class Answering:
    """How an evaluation has each row answered."""

    samples: int = 1
    temperature: float = 0.0


GREEDY = Answering()


def training(
    recipe: Recipe, student: ModelSize, teacher: ModelSize | None, seen: Lengths, device: str | Device = "cpu"
) -> Plan:
    """The plan of `vgs-mlx distill`: a step, the watching of terms, and the evaluations.

    A teacher that the recipe doesn't need is omitted.
    """
    kind = _kind(device)
    teacher = teacher if needs_teacher(recipe) else None
    frozen = resting.frozen_body(teacher, kind) if teacher else None
    pair = Pair(resting.trained_body(recipe, student, kind), frozen)
    answers = evaluating(recipe, pair.student, seen, recipe.train.evaluate_rows)
    made = (*_step(recipe, pair, seen), *_watch(recipe, pair, seen), answers)
    return Plan(resting.of_training(recipe, student, teacher, kind), made, _tokens(recipe, seen))


def evaluation(
    recipe: Recipe,
    student: ModelSize,
    seen: Lengths,
    device: str | Device = "cpu",
    *,
    trained: bool,
    answering: Answering = GREEDY,
) -> Plan:
    """The plan of `vgs-mlx evaluate` for a run's student with its adapters (`trained`), or for a model as it is."""
    kind = _kind(device)
    if trained:
        resident, body = (
            resting.of_models(recipe, student, None, kind),
            resting.trained_body(recipe, student, kind),
        )
    else:
        resident, body = {"student": resting.of_model(student, kind)}, resting.frozen_body(student, kind)
    return Plan(resident, (evaluating(recipe, body, seen, None, answering),), {})


def export(
    recipe: Recipe,
    student: ModelSize,
    seen: Lengths,
    device: str | Device = "cpu",
    *,
    prompts: int,
    number: int,
) -> Plan:
    """The plan of `vgs-mlx export`, one model at a time; `number`: bytes of a changed weight, in the widest type."""
    kind = _kind(device)
    body, settings = resting.trained_body(recipe, student, kind), recipe.rollout
    trained = resting.of_models(recipe, student, None, kind)
    rows = min(work.compared_at_once(recipe), prompts)
    length = work.longest_compared(recipe)
    draws = Draws(*[min(prompts, settings.batch_size)] * 3, length)
    plain = {"fused model": resting.fused(recipe, student, kind, number)}
    frozen = resting.frozen_body(student, kind)
    largest = FLOAT * student.text.vocabulary * student.text.hidden
    writing = {"weight file": min(FILE_GIB * 2**30, sum(plain.values())), "float32 weight": largest}
    return Plan(
        {},
        (
            phases.sampling("answers", "student", body, seen, draws).beside(trained),
            phases.float32_states("trained scores", body, seen, rows, length).beside(trained),
            Phase("writing", (writing,)),
            phases.float32_states("fused scores", frozen, seen, rows, length).beside(plain),
            phases.two_heads("comparison", frozen, prompts * length, recipe.objective.chunk_size),
        ),
        {},
    )


def analysis(
    recipe: Recipe,
    student: ModelSize,
    teacher: ModelSize,
    seen: Lengths,
    device: str | Device = "cpu",
    *,
    prompts: int,
) -> Plan:
    """The plan of `vgs-mlx analyze` with batches of `prompts`: the gradients of one bin of tokens at a time."""
    kind = _kind(device)
    pair = Pair(resting.trained_body(recipe, student, kind), resting.frozen_body(teacher, kind))
    settings, goal = recipe.rollout, Goal(ALL_TERMS, separate=True)
    batch = Work(recipe, seen, prompts, settings.completions_per_prompt, settings.max_completion_length)
    held = phases.picture_features("student", pair.student, seen, batch.prompts * batch.pictured_views)
    sampled = _sampled(recipe, batch, batch.prompts * batch.pictured_views)
    gradients = resting.trainable(recipe.student, student) * FLOAT
    return Plan(
        resting.of_models(recipe, student, teacher, kind),
        (
            phases.sampling("rollouts", "student", pair.student, seen, sampled),
            phases.teacher_scores("teacher", pair, batch, goal, held),
            student_gradients("student", pair, batch, goal, held, gradients),
        ),
        {},
    )


def report(
    recipe: Recipe,
    student: ModelSize,
    teacher: ModelSize | None,
    seen: Lengths,
    device: str | Device = "cpu",
    *,
    prompts: int,
) -> Plan:
    """The plan of `vgs-mlx report`: both models answer, one after the other, then the teacher scores each answer."""
    kind = _kind(device)
    settings = recipe.rollout
    draws = Draws(*[min(prompts, settings.batch_size)] * 3, settings.max_completion_length)
    body = resting.trained_body(recipe, student, kind)
    trained = resting.of_models(recipe, student, None, kind)
    made = [phases.sampling("student's answers", "student", body, seen, draws).beside(trained)]
    if teacher:
        frozen, resident = (
            resting.frozen_body(teacher, kind),
            resting.of_model(teacher, kind, recipe.teacher.bits),
        )
        for phase in (
            phases.sampling("teacher's answers", "teacher", frozen, seen, draws),
            phases.token_scores("teacher's scores", frozen, seen, draws.length, recipe.objective.chunk_size),
        ):
            made.append(phase.beside({"teacher": resident}))
    return Plan({}, tuple(made), {})


def evaluating(
    recipe: Recipe, body: Body, seen: Lengths, rows: int | None, answering: Answering = GREEDY
) -> Phase:
    """Answers to `rows` held-out rows (None: many), `rollout.batch_size` answers at a time."""
    settings, samples = recipe.rollout, answering.samples
    prompts = prompts_at_once(rows or settings.batch_size, samples, settings.batch_size)
    draws = Draws(
        pictured=prompts,
        prompts=prompts,
        completions=completions_at_once(prompts, samples, settings.batch_size),
        length=settings.max_completion_length,
        temperature=answering.temperature,
    )
    return phases.sampling("evaluation", "student", body, seen, draws)


def _kind(device: str | Device) -> Device:
    return device_of(device) if isinstance(device, str) else device


def _sampled(recipe: Recipe, batch: Work, pictured: int) -> Draws:
    """The completions of a batch of prompts, as the recipe samples them."""
    settings = recipe.rollout
    return Draws(
        pictured=pictured,
        prompts=prompts_at_once(batch.prompts, batch.each, settings.batch_size),
        completions=completions_at_once(batch.prompts, batch.each, settings.batch_size),
        length=batch.length,
        temperature=settings.temperature,
        top_p=settings.top_p,
    )


def _step(recipe: Recipe, pair: Pair, seen: Lengths) -> Iterator[Phase]:
    """A step's phases: answers, rewards, and the gradients and the update of each kind of step."""
    done, step = work.of_update(recipe, seen), work.of_step(recipe, seen)
    held = phases.picture_features("student", pair.student, seen, step.prompts * step.pictured_views)
    yield _answers(recipe, pair, seen, held)
    if resolved(recipe).rewarded and recipe.grpo.reward in DENSE_REWARDS:
        yield phases.dense_rewards("rewards", pair, step, held, white=recipe.grpo.reward == "pdcr")
    gradients = resting.trainable(recipe.student, pair.student.size) * FLOAT
    for label, goal in _objectives(recipe):
        yield phases.teacher_scores(f"teacher{label}", pair, done, goal, held)
        yield student_gradients(f"student{label}", pair, done, goal, held, gradients)
        yield phases.update(f"update{label}", goal, held, gradients)


def _objectives(recipe: Recipe) -> Iterator[tuple[str, Goal]]:
    """The objective of a step and, where other steps hold more, theirs; a label for their phases.

    Where η is only watched, the steps that do. In two passes a step that measures its own η holds all that another
    does, and more; in one pass, one that doesn't differentiates more views together.
    """
    objective, measured = resolved(recipe), measures_norm_scale(recipe)
    yield "", _goal(recipe, objective, separate=objective.steers and measured)
    if measured and not objective.steers:
        yield ", η watched", _goal(recipe, measuring(recipe), separate=True)
    elif measured and one_pass(recipe, objective) and recipe.objective.norm_scale == "interval":
        yield ", η known", _goal(recipe, objective, separate=False)


def _goal(recipe: Recipe, objective: Objective, *, separate: bool) -> Goal:
    return Goal(objective, separate, one_pass(recipe, objective))


def _answers(recipe: Recipe, pair: Pair, seen: Lengths, held: Parts) -> Phase:
    """What a step learns from: the student's or the teacher's samples, or the rows' own answers (pictures only)."""
    step, who = work.of_step(recipe, seen), sampler(recipe)
    views = step.prompts * step.pictured_views
    if who is None:
        return Phase("pictures", (phases.seeing("student", pair.student, seen, views), held))
    draws = _sampled(recipe, step, views if who == "student" else step.prompts)
    if who == "student":
        return phases.sampling("rollouts", "student", pair.student, seen, draws)
    return phases.sampling("rollouts", "teacher", pair.teacher, seen, draws, held)


def _watch(recipe: Recipe, pair: Pair, seen: Lengths) -> Iterator[Phase]:
    """The terms on fixed held-out rollouts, which are sampled before the first step."""
    if recipe.train.watch_every is None:
        return
    looked, settings = work.of_watch(recipe, seen), recipe.rollout
    prompts = prompts_at_once(looked.prompts, settings.completions_per_prompt, settings.batch_size)
    draws = Draws(looked.prompts, prompts, prompts, looked.length, settings.temperature, settings.top_p)
    held = phases.picture_features("student", pair.student, seen, looked.prompts * looked.pictured_views)
    yield phases.sampling("watched rollouts", "student", pair.student, seen, draws)
    yield phases.teacher_scores("watch, teacher", pair, looked, Goal(ALL_TERMS, separate=False), held)
    yield phases.student_terms("watch, student", pair, looked, ALL_TERMS, held)


def _tokens(recipe: Recipe, seen: Lengths) -> dict[str, int]:
    """Upper bounds for a step: tokens sampled, and positions that the student's pass over its views computes."""
    step = work.of_step(recipe, seen)
    one = sum(each.tokens for each in step.rows(resolved(recipe).student_views))
    return {"sampled": step.positions if sampler(recipe) else 0, "computed": one * step.microbatches}
