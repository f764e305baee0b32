"""From rollouts to gradient trees: score with both models in both views, then one `mx.vjp` for each tree.

The chain rule is cut at the hidden states. The loss phase gives ∂loss/∂hidden, in chunks and outside any
trace; `mx.vjp` carries it through the student's body. Activations and vocabulary-wide arrays thus never
exist at the same time. The price is one more forward pass of the student without gradients.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import mlx.core as mx
import numpy as np

from vgs_mlx.models import adapters
from vgs_mlx.models.base import LoadedModel
from vgs_mlx.models.recomputing import recomputing
from vgs_mlx.models.rows import Encodings
from vgs_mlx.objective.chunked import score, teacher_scores
from vgs_mlx.objective.objectives import Coefficients, Objective, total, weights_by_role
from vgs_mlx.objective.steering import Tree, added, scaled
from vgs_mlx.objective.terms import Options, Taken
from vgs_mlx.objective.tokens import token_weights
from vgs_mlx.objective.visual import Views
from vgs_mlx.objective.weightings import Batch, dependency_gate
from vgs_mlx.train.forward import (
    count_positions,
    forward,
    frozen_head,
    hidden_states,
    student_head,
    teacher_hidden,
)
from vgs_mlx.train.microbatches import split
from vgs_mlx.types import Rollout


@dataclass(frozen=True)
class Weighing:
    """What the objective asks of the gradient phase."""

    objective: Objective  # without the parts whose coefficient is 0
    steering_coef: float
    preservation_coef: float
    reduction: str
    chunk_size: int
    microbatch_size: int
    max_tokens: int | None  # positions of a micro-batch in the view with the picture
    grad_checkpoint: bool
    separate: bool  # a tree for each role, for measuring η; else one tree of the weighted sum
    options: Options = field(default_factory=Options)


@dataclass
class Gradients:
    """Trees by role ("standard", "steering", "preservation", or "total"), and every term at every token."""

    trees: dict[str, Tree] = field(default_factory=dict)
    terms: dict[str, np.ndarray] = field(default_factory=dict)  # (N,) each, nats
    losses: dict[str, float] = field(default_factory=dict)  # by role, without γ, λ and η
    weights: np.ndarray | None = None  # (N,), sum 1
    gate: np.ndarray | None = None  # (N,), 0 or 1; None where nothing is preserved
    positions: dict[str, int] = field(default_factory=dict)  # of one forward pass: "computed", "unpacked"
    seconds: dict[str, float] = field(default_factory=lambda: {"teacher": 0.0, "student": 0.0})


def compute(
    student: LoadedModel,
    teacher: LoadedModel | None,
    rollouts: Sequence[Rollout],
    weighing: Weighing,
    student_encodings: Encodings | None,
    advantages: np.ndarray | None = None,
) -> Gradients:
    """The objective's gradients over one update batch, exact sums over its micro-batches.

    `student_encodings` None: the vision tower trains, so it runs inside the differentiated pass.
    `advantages` (N,) belong to the tokens; only a policy term reads them.
    """
    by_role: dict[str, Coefficients] = {}

    def choose(batch: Batch) -> dict[str, Coefficients]:
        by_role.update(weights_by_role(weighing.objective, batch))
        if weighing.separate:
            return by_role
        return total(by_role, weighing.steering_coef, weighing.preservation_coef)

    found = compute_parts(student, teacher, rollouts, weighing, student_encodings, choose, advantages)
    found.losses = {
        role: sum(float((np.array(weights) * found.terms[term]).sum()) for term, weights in terms.items())
        for role, terms in by_role.items()
    }
    return found


def compute_parts(
    student: LoadedModel,
    teacher: LoadedModel | None,
    rollouts: Sequence[Rollout],
    weighing: Weighing,
    student_encodings: Encodings | None,
    choose: Callable[[Batch], dict[str, Coefficients]],
    advantages: np.ndarray | None = None,
) -> Gradients:
    """All terms at every token, and a gradient tree for each weighted sum of terms that `choose` names.

    `choose` sees the whole batch with the teacher's scores; it may name none.
    """
    found = Gradients()
    batches = split(rollouts, weighing.microbatch_size, weighing.max_tokens, packs=student.packs)
    found.positions = count_positions(student, teacher, batches, weighing.objective)
    with _timed(found, "teacher"):
        hidden = teacher_hidden(teacher, batches, weighing.objective)
        batch = _batch(teacher, hidden, batches, rollouts, student.support(), weighing)
    taken, wanted = _taken(rollouts, advantages), choose(batch)
    with _timed(found, "student"):
        _add_microbatches(
            found, student, teacher, batches, hidden, taken, wanted, weighing, student_encodings
        )
    found.terms = {name: np.concatenate(values) for name, values in found.terms.items()}
    found.weights = batch.weights
    if weighing.objective.has("preservation"):
        found.gate = dependency_gate(batch.scores["visual_dependency_score"])
    return found


def _batch(
    teacher: LoadedModel | None,
    hidden: Sequence[Views],
    batches: Sequence[Sequence[Rollout]],
    rollouts: Sequence[Rollout],
    support: mx.array,
    weighing: Weighing,
) -> Batch:
    """What the weightings see: all tokens of the update batch, with the teacher's scores where they are needed."""
    scores: dict[str, np.ndarray] = {}
    if weighing.objective.scores:
        found = [
            teacher_scores(each, frozen_head(teacher), support, _taken(batch).ids, weighing.chunk_size)
            for each, batch in zip(hidden, batches, strict=True)
        ]
        scores = {name: np.concatenate([np.array(each[name]) for each in found]) for name in found[0]}
    lengths = [len(rollout.completion) for rollout in rollouts]
    return Batch(
        weights=np.array(token_weights(lengths, weighing.reduction)),
        lengths=lengths,
        prompts=[id(rollout.prompt) for rollout in rollouts],
        scores=scores,
        steering_coef=weighing.steering_coef,
    )


def _taken(rollouts: Sequence[Rollout], advantages: np.ndarray | None = None) -> Taken:
    return Taken(
        mx.array(np.concatenate([each.completion for each in rollouts])),
        mx.array(np.concatenate([each.sampling_logprobs for each in rollouts])),
        None if advantages is None else mx.array(advantages, dtype=mx.float32),
    )


def _add_microbatches(
    found: Gradients,
    student: LoadedModel,
    teacher: LoadedModel | None,
    batches: Sequence[Sequence[Rollout]],
    hidden: Sequence[Views],
    taken: Taken,
    coefficients: dict[str, Coefficients],
    weighing: Weighing,
    encodings: Encodings | None,
) -> None:
    """Sum terms and trees over the micro-batches. Weights are taken times N, so that cotangents stay near 1 in
    half precision; the trees are divided by N at the end.
    """
    count, start = taken.ids.size, 0
    for batch, theirs in zip(batches, hidden, strict=True):
        stop = start + sum(len(rollout.completion) for rollout in batch)
        window = slice(start, stop)
        here = {
            tree: {term: weights[window] * count for term, weights in terms.items()}
            for tree, terms in coefficients.items()
        }
        _add_microbatch(found, student, teacher, batch, theirs, taken.part(window), here, weighing, encodings)
        start = stop
    found.trees = {part: scaled(tree, 1.0 / count) for part, tree in found.trees.items()}
    mx.eval(found.trees)


def _add_microbatch(
    found: Gradients,
    student: LoadedModel,
    teacher: LoadedModel | None,
    batch: Sequence[Rollout],
    theirs: Views,
    taken: Taken,
    coefficients: dict[str, Coefficients],
    weighing: Weighing,
    encodings: Encodings | None,
) -> None:
    scored = score(
        hidden_states(student, batch, weighing.objective.student_views, encodings),
        theirs._replace(degraded=None),  # has done its part in the scores
        student_head(student),
        frozen_head(teacher),
        student.support(),
        taken,
        coefficients,
        weighing.chunk_size,
        weighing.options,
    )
    for name, values in scored.terms.items():
        found.terms.setdefault(name, []).append(np.array(values))
    for part, cotangents in scored.cotangents.items():
        with (
            recomputing(student.family.layers(student.module)) if weighing.grad_checkpoint else nullcontext()
        ):
            tree = added(backward(student, batch, cotangents, encodings), scored.head_gradients[part])
        found.trees[part] = added(found.trees.get(part, {}), tree)
        mx.eval(found.trees[part])


def backward(
    student: LoadedModel, batch: Sequence[Rollout], cotangents: Views, encodings: Encodings | None
) -> Tree:
    """The gradient tree of Σ cotangent · hidden state over the views that have a cotangent.

    One view after the other, so that the activations of one exist at a time.
    """
    tree: Tree = {}
    for view, cotangent in zip(Views._fields, cotangents, strict=True):
        if cotangent is not None:
            tree = added(tree, _backward(student, batch, view, cotangent, encodings))
            mx.eval(tree)
    return tree


def _backward(
    student: LoadedModel,
    batch: Sequence[Rollout],
    view: str,
    cotangent: mx.array,
    encodings: Encodings | None,
) -> Tree:
    weights = adapters.trainable_weights(student.module)
    names = list(weights)

    def states(*values: mx.array) -> mx.array:
        trained = dict(zip(names, values, strict=True))
        return adapters.call_with(student.module, trained, lambda: forward(student, batch, view, encodings))

    _, gradients = mx.vjp(lambda *values: [states(*values)], list(weights.values()), [cotangent])
    return dict(zip(names, gradients, strict=True))


@contextmanager
def _timed(found: Gradients, phase: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    found.seconds[phase] += time.perf_counter() - start
