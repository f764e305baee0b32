"""A standard distillation step as a user would build it from the parts of mlx-vlm and MLX.

mlx-vlm's batch generator samples, with one prefill for each completion (given several rows, it keeps only the first
row's deepstack features). Then come a row for each completion with its own copy of the picture, the public call of both
models, all their logits at once, reverse KL, `value_and_grad`, and AdamW.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np

from benchmarks import sampling
from vgs_mlx.data.prompts import render
from vgs_mlx.models.base import LoadedModel
from vgs_mlx.recipe.options import Recipe
from vgs_mlx.types import Example, View


def step(
    student: LoadedModel,
    teacher: LoadedModel,
    examples: Sequence[Example],
    settings: Recipe,
    optimizer: optim.AdamW,
) -> tuple[list[list[int]], float]:
    """Sample, score and update the student; the completions and the mean reverse KL of their tokens, nats."""
    rollout = settings.rollout
    rendered = [render(student.processor, each, settings.data) for each in examples]
    repeated = [each for each in rendered for _ in range(rollout.completions_per_prompt)]
    views = [each.student["with_image"] for each in repeated]
    drawn = sampling.stock(views, student, rollout.max_completion_length, _sampler(student))
    rows = whole_rows(views, drawn)
    theirs = whole_rows([each.teacher["with_image"] for each in repeated], drawn)
    target = nn.log_softmax(theirs.logits(teacher), axis=-1)

    def loss(_: nn.Module) -> mx.array:
        logprobs = nn.log_softmax(rows.logits(student), axis=-1)
        return (mx.exp(logprobs) * (logprobs - target)).sum(axis=-1).mean()

    value, gradients = nn.value_and_grad(student.module, loss)(student.module)
    optimizer.init(student.module.trainable_parameters())  # includes frozen parts, as the gradients do
    optimizer.update(student.module, gradients)
    mx.eval(value, student.module.trainable_parameters(), optimizer.state)
    return drawn, value.item()


@dataclass(frozen=True)
class WholeRows:
    """A row for each completion, and the positions of the states that predict its tokens."""

    ids: mx.array  # (B, L), padded on the right, where a causal model doesn't see it
    pixels: mx.array
    grid: mx.array
    predicting: tuple[mx.array, mx.array]  # rows and columns (N,)

    def logits(self, model: LoadedModel) -> mx.array:
        """The logits of the completions' tokens, (N, V), selected from those of all positions."""
        whole = model.module(self.ids, self.pixels, image_grid_thw=self.grid).logits
        return whole[self.predicting][..., : model.vocabulary]


def whole_rows(views: Sequence[View], drawn: Sequence[Sequence[int]]) -> WholeRows:
    """The rows of these prompts and their completions."""
    width = max(len(view.ids) + len(tokens) for view, tokens in zip(views, drawn, strict=True))
    ids, places = np.zeros((len(views), width), dtype=np.int32), []
    for row, (view, tokens) in enumerate(zip(views, drawn, strict=True)):
        prompt = len(view.ids)
        ids[row, : prompt + len(tokens)] = [*view.ids, *tokens]
        places += [(row, column) for column in range(prompt - 1, prompt - 1 + len(tokens))]
    return WholeRows(
        mx.array(ids),
        mx.array(np.concatenate([view.media["pixel_values"] for view in views])),
        mx.array(np.concatenate([view.media["image_grid_thw"] for view in views])),
        tuple(mx.array(np.array(places, dtype=np.int32).T)),
    )


def _sampler(student: LoadedModel) -> Callable[[mx.array], mx.array]:
    """Draws from the ids that an answer may contain: a picture's placeholder would need a picture."""

    def draw(logprobs: mx.array) -> mx.array:
        return mx.random.categorical(
            mx.where(student.support(), logprobs[..., : student.vocabulary], -mx.inf)
        )

    return draw
