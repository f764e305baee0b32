"""From cotangents of hidden states to a gradient tree of the student's weights, through its body."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import mlx.core as mx
import numpy as np

from vgs_mlx.models import adapters
from vgs_mlx.models.base import LoadedModel
from vgs_mlx.models.recomputing import recomputing
from vgs_mlx.models.rows import Encodings
from vgs_mlx.objective.steering import Tree
from vgs_mlx.objective.visual import Views
from vgs_mlx.train.forward import forward
from vgs_mlx.train.microbatches import windows
from vgs_mlx.types import Rollout


@dataclass(frozen=True, eq=False)
class Body:
    """The student's body, and how it is differentiated."""

    student: LoadedModel
    encodings: Encodings | None  # None: the vision tower trains, so it runs inside the differentiated pass
    grad_checkpoint: bool

    def recomputing(self) -> AbstractContextManager[None]:
        """A context for building a graph of the body that is differentiated; applies gradient checkpointing."""
        layers = self.student.family.layers(self.student.module)
        return recomputing(layers) if self.grad_checkpoint else nullcontext()


def backward(
    student: LoadedModel, batch: Sequence[Rollout], cotangents: Views, encodings: Encodings | None
) -> Tree:
    """The gradient tree of Σ cotangent · hidden state over the views that have a cotangent.

    Views are processed one after the other, so that only one view's activations exist at a time.
    """
    tree: Tree = {}
    for view, cotangent in zip(Views._fields, cotangents, strict=True):
        if cotangent is not None:
            pulled = _backward(student, batch, view, cotangent, encodings)
            mx.eval(pulled)
            accumulate(tree, pulled)
    return tree


def zeros(student: LoadedModel) -> Tree:
    """A gradient tree of zeros."""
    trainable = adapters.trainable_weights(student.module)
    return {name: mx.zeros_like(value) for name, value in trainable.items()}


def accumulate(sums: Tree, more: Tree, scale: float = 1.0) -> None:
    """Add `more` to `sums` in place, and multiply the result by `scale`. `more` is empty afterwards.

    This goes weight by weight, so that a third tree never exists: a tree of all weights is as large as the model.
    """
    for name in list(more):
        value = more.pop(name)
        value = sums.pop(name) + value if name in sums else value
        sums[name] = value if scale == 1.0 else scale * value
        del value
        mx.async_eval(sums[name])
    mx.eval(sums)


def _backward(
    student: LoadedModel,
    batch: Sequence[Rollout],
    view: str,
    cotangent: mx.array,
    encodings: Encodings | None,
) -> Tree:
    weights = adapters.trainable_weights(student.module)
    batch, cotangent = _reached(batch, cotangent)
    if not batch:
        return zeros(student)

    def pulled(weights: Tree) -> mx.array:
        states = adapters.call_with(student.module, weights, lambda: forward(student, batch, view, encodings))
        return (cotangent.astype(mx.float32) * states.astype(mx.float32)).sum()

    _, tree = mx.value_and_grad(pulled)(weights)  # the value is never read, so it isn't computed
    return tree


def _reached(batch: Sequence[Rollout], cotangent: mx.array) -> tuple[list[Rollout], mx.array]:
    """The rollouts cut after their last token with a nonzero cotangent, and the cotangents of the remaining tokens.

    Later tokens can't change the gradient: a token sees only those before it.
    """
    pulled = np.array(mx.any(cotangent != 0, axis=-1))
    kept, rows = [], []
    for rollout, window in zip(batch, windows([[each] for each in batch]), strict=True):
        if len(places := np.flatnonzero(pulled[window])):
            length = int(places[-1]) + 1
            kept.append(
                replace(
                    rollout,
                    completion=rollout.completion[:length],
                    sampling_logprobs=rollout.sampling_logprobs[:length],
                )
            )
            rows.append(np.arange(window.start, window.start + length))
    return kept, cotangent[mx.array(np.concatenate(rows))] if rows else cotangent[:0]
