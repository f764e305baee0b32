"""The student's confidence in the right answer after each reasoning step, and each step's visual dependence (PDCR)."""

from collections.abc import Sequence

import numpy as np

from vgs_mlx.models.base import LoadedModel
from vgs_mlx.models.logprobs import taken_logprobs
from vgs_mlx.models.rows import Continued, Encodings, encode, evaluate
from vgs_mlx.objective.dense_rewards import returns
from vgs_mlx.train.rewards.reasoning_steps import Steps
from vgs_mlx.types import Rollout


def confidence_gains(
    student: LoadedModel,
    rollouts: Sequence[Rollout],
    steps: Sequence[Steps],
    discount: float,
    encodings: Encodings,
    size: int,
) -> list[np.ndarray]:
    """The discounted return of every step of every rollout, nats.

    For the confidence after step k, the reasoning is closed there and the right answer put into the box. The confidence
    is the sum of the log-probs of the answer's tokens. `size` sequences are scored at a time.
    """
    tokenizer = student.processor.tokenizer
    sequences, answers = [], []
    for rollout, each in zip(rollouts, steps, strict=True):
        opening = tokenizer(each.closing, add_special_tokens=False)["input_ids"]
        answer = tokenizer(rollout.prompt.example.answer, add_special_tokens=False)["input_ids"]
        for stop in (0, *(stop for _, stop in each.spans)):
            ids = [*rollout.completion[:stop].tolist(), *opening, *answer]
            sequences.append(Continued(rollout.prompt.student["with_image"], np.array(ids, dtype=np.int32)))
            answers.append(len(answer))
    logprobs = _in_batches(student, sequences, encodings, size)
    confidences = np.array([each[-count:].sum() for each, count in zip(logprobs, answers, strict=True)])
    edges = np.cumsum([len(each.spans) + 1 for each in steps])[:-1]
    return [returns(part, discount) for part in np.split(confidences, edges)]


def visual_dependence(
    student: LoadedModel,
    rollouts: Sequence[Rollout],
    steps: Sequence[Steps],
    encodings: Encodings,
    size: int,
) -> list[np.ndarray]:
    """V_k = log p(step | picture, ...) − log p(step | white picture, ...) of every step, nats."""
    views = {
        name: [Continued(rollout.prompt.student[name], rollout.completion) for rollout in rollouts]
        for name in ("with_image", "white")
    }
    white = evaluate(encode(student, [view for view, _ in views["white"]]))
    seen = _in_batches(student, views["with_image"], encodings, size)
    unseen = _in_batches(student, views["white"], white, size)
    return [
        np.array([(left - right)[start:stop].sum() for start, stop in each.spans])
        for left, right, each in zip(seen, unseen, steps, strict=True)
    ]


def _in_batches(
    model: LoadedModel, sequences: Sequence[Continued], encodings: Encodings, size: int
) -> list[np.ndarray]:
    """The log-prob of every token of every sequence."""
    found = []
    for start in range(0, len(sequences), size):
        batch = sequences[start : start + size]
        flat = np.array(taken_logprobs(model, batch, encodings))
        found += np.split(flat, np.cumsum([len(each.completion) for each in batch])[:-1])
    return found
