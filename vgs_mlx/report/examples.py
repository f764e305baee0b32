"""Held-out examples with the answers of the student before and after training and, if there is one, the teacher.

Models are loaded one after another, so that a machine that trained them can also show them. All answers are greedy.
"""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from PIL import Image

from vgs_mlx.device import backend, release
from vgs_mlx.errors import Refusal
from vgs_mlx.grading import grade_example
from vgs_mlx.models.base import LoadedModel
from vgs_mlx.models.loading import find_folder, load_model, load_processor
from vgs_mlx.models.logprobs import chunks
from vgs_mlx.models.rows import Continued, encode
from vgs_mlx.objective.divergence import token_logprobs
from vgs_mlx.objective.visual import visual_dependency_score
from vgs_mlx.planning import report as planning
from vgs_mlx.planning.plan import lengths_of
from vgs_mlx.planning.report import DoesNotFit
from vgs_mlx.planning.sizes import read_size
from vgs_mlx.recipe.options import Recipe, Rollout
from vgs_mlx.report.tokens import Token, tokens
from vgs_mlx.rollout.collect import greedy
from vgs_mlx.rollout.sample import Completion
from vgs_mlx.runs import trained
from vgs_mlx.runs.identity import PLACES
from vgs_mlx.runs.rows import first_held_out
from vgs_mlx.runs.screen import Screen
from vgs_mlx.train.setup import render_prompt
from vgs_mlx.types import Example, Prompt

BEFORE, AFTER, TEACHER = "Student before", "Student after", "Teacher"
NO_TEACHER = (
    "This run has no teacher: only the student's answers are shown, and their tokens have no colours, since a visual "
    "dependency score is how far the picture moves a teacher."
)
Answers = dict[str, list[Completion]]
"""Who answered -> an answer to each prompt."""
LARGEST_SIDE = 640  # pixels; larger pictures are scaled down
JPEG_QUALITY = 85


@dataclass(frozen=True)
class ShownPicture:
    """A picture that is embedded in the page."""

    uri: str  # data:image/...
    alt: str
    width: int
    height: int


@dataclass(frozen=True)
class Said:
    """One answer."""

    who: str
    right: bool
    ended: bool  # False: cut off at the maximum length
    tokens: tuple[Token, ...]  # none where no teacher could score them
    text: str = ""  # the whole answer


@dataclass(frozen=True)
class Shown:
    """One example: the question, its pictures, and the answers."""

    question: str
    expected: str
    kind: str
    pictures: tuple[ShownPicture, ...]
    said: tuple[Said, ...]


@dataclass(frozen=True)
class Examples:
    """The examples that a page shows, and notes about what it omits."""

    shown: tuple[Shown, ...]
    notes: tuple[str, ...]

    @property
    def scored(self) -> bool:
        """Whether a teacher scored the tokens, so that they have colours."""
        return any(said.tokens for each in self.shown for said in each.said)


def collect(
    runs: Sequence[tuple[str, Path]],
    recipe: Recipe,
    count: int,
    screen: Screen,
    checkpoint: str | None = None,
    force: bool = False,
) -> Examples:
    """The first `count` held-out rows, answered by the student before training, after each run (who, folder), and by
    the teacher, if the recipe names one. Without a teacher the tokens of the answers have no scores.

    `checkpoint` selects which of a run's weights answer (see `trained.find`), and the page names it. All runs share
    `recipe`'s models and data. Where models or data can't be loaded, there are no examples, and a note says why.
    Raises `DoesNotFit` where the memory is too small, unless forced.
    """
    try:
        trained.refuse_missing(runs[0][1], recipe, *PLACES)
        folder = find_folder(recipe.student.path, "student.path")
        if recipe.teacher.path:
            find_folder(recipe.teacher.path, "teacher.path")  # before anything is loaded
        processor = load_processor(folder, "student.path")
        examples = first_held_out(recipe, processor, count, screen, [run for _, run in runs])
        prompts = [render_prompt(processor, example, recipe) for example in examples]
        _check_memory(recipe, prompts, screen, force)
        students, notes = _students_answers(runs, recipe, prompts, screen, checkpoint)
        said, more_notes = _scored(students, recipe, prompts, processor.tokenizer, screen)
        shown = [_shown(example, tuple(answers)) for example, *answers in zip(examples, *said, strict=True)]
    except DoesNotFit:
        raise
    except (Refusal, OSError) as problem:
        return Examples((), (f"Answers omitted: {problem}",))
    return Examples(tuple(shown), (*notes, *more_notes))


def _students_answers(
    runs: Sequence[tuple[str, Path]],
    recipe: Recipe,
    prompts: Sequence[Prompt],
    screen: Screen,
    checkpoint: str | None,
) -> tuple[Answers, list[str]]:
    """The answers of the untrained student and of each run that can be loaded; a note about each of the others."""
    untrained = partial(load_model, recipe.student.path, "student.path", say=screen.say)
    answers, notes = {BEFORE: _answered(untrained, prompts, recipe.rollout)}, []
    for who, run in runs:
        try:
            weights = trained.find(run, checkpoint)
            who = f"{who} ({checkpoint}: step {weights.step})" if checkpoint else who
            load = partial(trained.load, run, weights, screen.say)
            answers[who] = _answered(load, prompts, recipe.rollout)
        except Refusal as problem:
            notes.append(f"{who}: not shown. {problem}")
    return answers, notes


def _scored(
    students: Answers, recipe: Recipe, prompts: Sequence[Prompt], tokenizer: Any, screen: Screen
) -> tuple[list[list[Said]], list[str]]:
    """The students' answers and the teacher's own, scored by the teacher, each a column of one answer a prompt."""
    answers, teacher, notes = dict(students), None, []
    if recipe.teacher.path:
        teacher = load_model(recipe.teacher.path, "teacher.path", bits=recipe.teacher.bits, say=screen.say)
        answers[TEACHER] = answer(teacher, prompts, recipe.rollout)
    else:
        notes.append(NO_TEACHER)
    # the student's tokenizer reads all answers: a probe at every start makes sure that the teacher's is the same
    said = [
        [
            _said(who, tokenizer, teacher, *each, recipe.objective.chunk_size)
            for each in zip(prompts, given, strict=True)
        ]
        for who, given in answers.items()
    ]
    return said, notes


def _check_memory(recipe: Recipe, prompts: Sequence[Prompt], screen: Screen, force: bool) -> None:
    """Before any weight is read. Models answer one after another, so the largest counts."""
    student, teacher = (
        read_size(str(find_folder(path, f"{role}.path")), f"{role}.path") if path else None
        for role, path in (("student", recipe.student.path), ("teacher", recipe.teacher.path))
    )
    seen = lengths_of(prompts)
    planned = planning.of_report(recipe, student, teacher, seen, backend(), prompts=len(prompts))
    otherwise = "give --no-examples, or --force to try anyway"
    planning.check(planned, "letting the models answer", force, screen.say, otherwise)


def _answered(
    load: Callable[[], LoadedModel], prompts: Sequence[Prompt], settings: Rollout
) -> list[Completion]:
    """A model's answers. The model and its memory are freed before the next one is loaded."""
    answers = answer(load(), prompts, settings)
    release()
    return answers


def answer(model: LoadedModel, prompts: Sequence[Prompt], settings: Rollout) -> list[Completion]:
    """A model's greedy answers to the prompts, with their pictures; `settings.batch_size` at a time."""
    return greedy(model, prompts, settings.max_completion_length, settings.batch_size)


def score(
    teacher: LoadedModel, prompt: Prompt, completion: np.ndarray, chunk_size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The teacher at each token of a completion, three arrays (T,): VDS in nats, and the token's log-probability with
    the picture and without."""
    views = (
        chunks(teacher, [Continued(view, completion)], encode(teacher, [view]), chunk_size)
        for view in (prompt.teacher["with_image"], prompt.teacher["text_only"])
    )
    ids, scored = mx.array(completion), []
    for (window, seeing), (_, blind) in zip(*views, strict=True):
        taken = ids[window]
        scores = visual_dependency_score(seeing, blind)
        scored.append(mx.stack([scores, token_logprobs(seeing, taken), token_logprobs(blind, taken)]))
        mx.eval(scored[-1])
    return tuple(np.array(mx.concatenate(scored, axis=1)))


def shown_picture(picture: Image.Image, alt: str) -> ShownPicture:
    """A picture as a data URI: PNG where that is small, as for drawings; JPEG otherwise."""
    small = picture.copy()
    small.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
    encoded = {
        "png": _encoded(small, "PNG", optimize=True),
        "jpeg": _encoded(small, "JPEG", quality=JPEG_QUALITY),
    }
    kind = "png" if len(encoded["png"]) <= 2 * len(encoded["jpeg"]) else "jpeg"
    uri = f"data:image/{kind};base64,{base64.b64encode(encoded[kind]).decode()}"
    return ShownPicture(uri, alt, *small.size)


def _encoded(picture: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def _said(
    who: str,
    tokenizer: Any,
    teacher: LoadedModel | None,
    prompt: Prompt,
    completion: Completion,
    chunk_size: int,
) -> Said:
    decode: Callable[[list[int]], str] = tokenizer.decode
    text = tokenizer.decode(completion.ids.tolist(), skip_special_tokens=True)
    shown: tuple[Token, ...] = ()
    if teacher is not None:
        scores = score(teacher, prompt, completion.ids, chunk_size)
        shown = tokens(decode, completion.ids, teacher.end_ids, *scores)
    return Said(who, grade_example(text, prompt.example).right, completion.ended, shown, text)


def _shown(example: Example, said: tuple[Said, ...]) -> Shown:
    what = f": {', '.join(example.facts)}" if example.facts else f" {example.id}"
    pictures = tuple(
        shown_picture(each.open(), f"The picture of the question{what}") for each in example.pictures
    )
    return Shown(example.question, example.expected, example.kind, pictures, said)
