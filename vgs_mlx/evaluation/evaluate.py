"""How often a model answers right: greedy (Acc@1) or the mean over k samples, with and without the picture."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vgs_mlx.data import shapes
from vgs_mlx.data.prompts import render
from vgs_mlx.evaluation.statistics import accuracy_interval
from vgs_mlx.grading import Verdict, grade_example
from vgs_mlx.models.base import LoadedModel
from vgs_mlx.models.rows import encode
from vgs_mlx.models.rows import evaluate as evaluated
from vgs_mlx.recipe.options import Data, Recipe
from vgs_mlx.rollout.batches import batches
from vgs_mlx.rollout.sample import Sampling, sample
from vgs_mlx.types import Example

SEED_STREAM = 1_000_003  # so that evaluation and training steps draw different random numbers

Grader = Callable[[str, Example], Verdict]


@dataclass(frozen=True)
class Answer:
    """One graded completion."""

    example: Example
    completion: str
    right: bool
    ended: bool
    tokens: int
    scene_f1: float | None  # of the objects described; None where the row has no facts
    rule: str = ""  # of the grader that decided


@dataclass(frozen=True)
class AnswerSettings:
    """How a model answers."""

    data: Data  # how rows become prompts
    sampling: Sampling
    batch_size: int  # completions sampled at the same time, at most
    samples: int = 1  # answers to each row
    with_image: bool = True
    seed: int = 0


def settings_of(
    recipe: Recipe, *, samples: int = 1, temperature: float = 0.0, with_image: bool = True
) -> AnswerSettings:
    """How a recipe's model answers: greedily, with the picture, unless told otherwise."""
    rollout, sampling = recipe.rollout, Sampling(recipe.rollout.max_completion_length, temperature)
    return AnswerSettings(recipe.data, sampling, rollout.batch_size, samples, with_image, recipe.seed)


def answer(
    model: LoadedModel,
    examples: Sequence[Example],
    how: AnswerSettings,
    *,
    numbers: Sequence[int] | None = None,
    grader: Grader = grade_example,
    progress: Callable[[int], None] = lambda count: None,
) -> list[list[Answer]]:
    """Graded answers of the model to each example. Calls `progress` with the number of examples done.

    An example's answers depend on the seed and on the example's number: its place in `examples`, unless `numbers`
    says otherwise.
    """
    answers: list[list[Answer]] = [[] for _ in examples]
    numbers = range(len(examples)) if numbers is None else numbers
    for batch in batches(len(examples), how.samples, how.batch_size):
        group = [examples[place] for place, _ in batch]
        prompts = [render(model.processor, each, how.data) for each in group]
        views = [prompt.student["with_image" if how.with_image else "text_only"] for prompt in prompts]
        seeds = [[(how.seed, SEED_STREAM, numbers[place], j) for j in drawn] for place, drawn in batch]
        completions = sample(model, views, seeds, evaluated(encode(model, views)), how.sampling)
        for (place, _), row in zip(batch, completions, strict=True):
            answers[place] += [
                graded(model.processor, examples[place], each.ids, each.ended, grader) for each in row
            ]
        progress(batch[-1][0] + 1)
    return answers


def graded(
    processor: Any, example: Example, ids: np.ndarray, ended: bool, grader: Grader = grade_example
) -> Answer:
    """Decode a completion and compare its last boxed answer with the example's."""
    text = processor.tokenizer.decode(ids.tolist(), skip_special_tokens=True).strip()
    score = shapes.scene_f1(text, example.facts) if example.facts else None
    verdict = grader(text, example)
    return Answer(example, text, verdict.right, ended, len(ids), score, verdict.rule)


def summary(answers: Sequence[Sequence[Answer]]) -> dict[str, Any]:
    """Accuracy with its 95 % interval, by question kind, and the other means, as plain values for JSON.

    One answer a prompt: Wilson's interval. Several: the normal interval of the mean of the prompts' means, or
    Wilson's over the prompts where these means are all equal, so that their spread is unknown.
    """
    by_kind: dict[str, list[Sequence[Answer]]] = defaultdict(list)
    for row in answers:
        by_kind[row[0].example.kind].append(row)
    flat = [each for row in answers for each in row]
    scores = [each.scene_f1 for each in flat if each.scene_f1 is not None]
    figures: dict[str, Any] = {"prompts": len(answers), "samples": len(answers[0]), **_accuracy(answers)}
    figures["by_kind"] = {
        kind: {"prompts": len(rows), **_accuracy(rows)} for kind, rows in sorted(by_kind.items())
    }
    figures["completion_length"] = _mean(each.tokens for each in flat)
    figures["cut_off_share"] = _mean(not each.ended for each in flat)
    if scores:
        figures["scene_f1"] = _mean(scores)
    return figures


def _accuracy(answers: Sequence[Sequence[Answer]]) -> dict[str, Any]:
    means = np.array([np.mean([each.right for each in row]) for row in answers])
    accuracy = float(means.mean())
    if all(len(row) == 1 for row in answers) or np.all(means == means[0]):
        low, high = accuracy_interval(round(float(means.sum())), len(means))
    else:
        half = 1.96 * float(means.std(ddof=1)) / math.sqrt(len(means))
        low, high = max(0.0, accuracy - half), min(1.0, accuracy + half)
    return {"accuracy": accuracy, "low": low, "high": high}


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
