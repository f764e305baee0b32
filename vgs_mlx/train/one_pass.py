"""Body and loss as one function: the terms and one gradient tree from a single pass of the student.

The views that receive the tree's gradients are differentiated together. Their activations therefore exist at the same
time, as do the buffers of one chunk of the loss phase. A view that is only read runs before, without gradients. Every
token is differentiated: two passes skip trailing tokens of weight 0, one pass does not.

One pass gives one tree. Several cotangents could share its activations (`mx.vmap` over the vjp), but that measured 7 %
slower than a pass for each, and took more memory.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import mlx.core as mx

from vgs_mlx.models import adapters
from vgs_mlx.models.base import LoadedModel
from vgs_mlx.models.rows import Encodings
from vgs_mlx.objective import differentiable
from vgs_mlx.objective.chunked import Chunking, Heads, Scored, States, score
from vgs_mlx.objective.differentiable import Loss
from vgs_mlx.objective.objectives import Coefficients
from vgs_mlx.objective.steering import Tree
from vgs_mlx.objective.terms import TERMS, Taken
from vgs_mlx.objective.visual import Views
from vgs_mlx.train.forward import forward, hidden_states
from vgs_mlx.types import Rollout


class MicroBatch(NamedTuple):
    """Rollouts that go through the student together, with the data of their tokens."""

    rollouts: Sequence[Rollout]
    encodings: Encodings | None  # None: the pictures are encoded inside the pass, differentiably
    views: set[str]  # the student's views that the terms read
    teacher: Views  # its hidden states
    taken: Taken
    parts: Mapping[str, Coefficients]  # the terms' weights by tree


def pulled(coefficients: Coefficients) -> set[str]:
    """The student's views that receive a gradient from these terms."""
    return {TERMS[term].pulls for term in coefficients}


def differentiate(
    student: LoadedModel, batch: MicroBatch, tree: str, heads: Heads, how: Chunking
) -> tuple[Scored, Tree]:
    """All terms and cotangents of a micro-batch, and the gradient tree of the part named `tree`, the head included.

    The head's gradients in the returned `Scored` are those of the other parts.
    """
    views = pulled(batch.parts[tree])
    read = hidden_states(student, batch.rollouts, batch.views - views, batch.encodings)

    def value(weights: Tree) -> tuple[mx.array, Loss]:
        states = adapters.call_with(student.module, weights, lambda: _states(student, batch, views))
        traced = {"states": states, "head": {name: weights[name] for name in heads.student.parameters}}
        made = differentiable.loss(
            traced, States(read, batch.teacher), heads, batch.taken, batch.parts, tree, how
        )
        return made.value, made

    (_, made), gradients = mx.value_and_grad(value)(adapters.trainable_weights(student.module))
    scored = differentiable.compute(made)
    del scored.head_gradients[tree]
    mx.eval(gradients)
    return scored, gradients


def valued(student: LoadedModel, batch: MicroBatch, heads: Heads, how: Chunking) -> Scored:
    """The terms of a micro-batch whose gradients are all 0, from a pass without gradients."""
    ours = hidden_states(student, batch.rollouts, batch.views, batch.encodings)
    scored = score(States(ours, batch.teacher), heads, batch.taken, batch.parts, how)
    return Scored(scored.terms, {}, {})


def _states(student: LoadedModel, batch: MicroBatch, views: set[str]) -> dict[str, mx.array]:
    return {view: forward(student, batch.rollouts, view, batch.encodings) for view in sorted(views)}
