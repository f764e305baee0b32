"""From rollouts to gradient trees: score with both models in both views, then one `mx.vjp` for each tree.

The chain rule is cut at the hidden states. The loss phase gives ∂loss/∂hidden for the whole update batch, in
chunks and outside any trace; then `mx.vjp` carries it through the student's body, a micro-batch at a time
(backward.py). Activations and vocabulary-wide arrays thus never exist at the same time. The price is one more
forward pass of the student without gradients.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace

import mlx.core as mx
import numpy as np

from vgs_mlx.models.base import LoadedModel
from vgs_mlx.models.recomputing import recomputing
from vgs_mlx.models.rows import Encodings
from vgs_mlx.objective.chunked import Scored, score, teacher_scores
from vgs_mlx.objective.objectives import Objective, weights_by_role
from vgs_mlx.objective.steering import Tree, added
from vgs_mlx.objective.terms import Options, Taken
from vgs_mlx.objective.tokens import token_weights
from vgs_mlx.objective.visual import Views
from vgs_mlx.objective.weightings import Batch, dependency_gate
from vgs_mlx.train.addends import Factors, Wanted, of_objective
from vgs_mlx.train.backward import accumulate, backward
from vgs_mlx.train.forward import (
    count_positions,
    frozen_head,
    hidden_states,
    student_head,
    teacher_hidden,
)
from vgs_mlx.train.microbatches import split, windows
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

    batch: Batch  # its tokens' weights (sum 1) and the teacher's scores
    trees: dict[str, Tree] = field(default_factory=dict)
    terms: dict[str, np.ndarray] = field(default_factory=dict)  # (N,) each, nats
    losses: dict[str, float] = field(default_factory=dict)  # by role, without γ, λ and η
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
    objective = weighing.objective

    def want(batch: Batch) -> Wanted:
        return of_objective(
            objective, weighing.steering_coef, weighing.preservation_coef, weighing.separate, batch
        )

    found = compute_parts(student, teacher, rollouts, weighing, student_encodings, want, advantages)
    found.losses = {
        role: sum(float((np.array(weights) * found.terms[term]).sum()) for term, weights in terms.items())
        for role, terms in weights_by_role(objective, found.batch).items()
    }
    return found


def compute_parts(
    student: LoadedModel,
    teacher: LoadedModel | None,
    rollouts: Sequence[Rollout],
    weighing: Weighing,
    student_encodings: Encodings | None,
    want: Callable[[Batch], Wanted],
    advantages: np.ndarray | None = None,
) -> Gradients:
    """All terms at every token, and the gradient trees that are wanted of the batch (addends.py).

    `want` sees the batch with the teacher's scores if the head trains, since its gradients are sums over tokens.
    """
    objective = weighing.objective
    batches = split(
        rollouts, weighing.microbatch_size, weighing.max_tokens, shares_prefix=student.shares_prefix
    )
    found = Gradients(batch=_batch(rollouts, weighing))
    found.positions = count_positions(student, teacher, batches, objective)
    with _timed(found, "teacher"):
        hidden = teacher_hidden(teacher, batches, objective)
        if objective.scores and student_head(student).parameters:
            found.batch.scores.update(_scores(teacher, hidden, batches, student.support(), weighing))
    wanted = want(found.batch)
    with _timed(found, "student"):
        taken = _taken(rollouts, advantages)
        scored, heads = _scored(student, teacher, batches, hidden, taken, wanted, weighing, student_encodings)
        found.terms = {
            name: np.concatenate([np.array(each.terms[name]) for each in scored]) for name in scored[0].terms
        }
        found.batch.scores.update({name: found.terms[name] for name in objective.scores})
        _add_trees(
            found, student, batches, scored, heads, wanted.trees(found.batch), weighing, student_encodings
        )
    if objective.has("preservation"):
        found.gate = dependency_gate(found.terms["visual_dependency_score"])
    return found


def _batch(rollouts: Sequence[Rollout], weighing: Weighing) -> Batch:
    """What the weightings see: all tokens of the update batch, as yet without the teacher's scores."""
    lengths = [len(rollout.completion) for rollout in rollouts]
    return Batch(
        weights=np.array(token_weights(lengths, weighing.reduction)),
        lengths=lengths,
        prompts=[rollout.number for rollout in rollouts],
        scores={},
        steering_coef=weighing.steering_coef,
    )


def _scores(
    teacher: LoadedModel,
    hidden: Sequence[Views],
    batches: Sequence[Sequence[Rollout]],
    support: mx.array,
    weighing: Weighing,
) -> dict[str, np.ndarray]:
    found = [
        teacher_scores(each, frozen_head(teacher), support, _taken(batch).ids, weighing.chunk_size)
        for each, batch in zip(hidden, batches, strict=True)
    ]
    return {name: np.concatenate([np.array(each[name]) for each in found]) for name in found[0]}


def _taken(rollouts: Sequence[Rollout], advantages: np.ndarray | None = None) -> Taken:
    return Taken(
        mx.array(np.concatenate([each.completion for each in rollouts])),
        mx.array(np.concatenate([each.sampling_logprobs for each in rollouts])),
        None if advantages is None else mx.array(advantages, dtype=mx.float32),
    )


def _scored(
    student: LoadedModel,
    teacher: LoadedModel | None,
    batches: Sequence[Sequence[Rollout]],
    hidden: list[Views],
    taken: Taken,
    wanted: Wanted,
    weighing: Weighing,
    encodings: Encodings | None,
) -> tuple[list[Scored], Mapping[str, Tree]]:
    """The loss phase of every micro-batch, and the head's gradients by addend. Drops the teacher's hidden states.

    Weights are taken times N, so that cotangents stay near 1 in half precision. A head that trains has gradients as
    large as itself: they are summed at once.
    """
    found, heads, count = [], {name: {} for name in wanted.addends}, taken.ids.size
    for batch, window in zip(batches, windows(batches), strict=True):
        here = {
            name: {term: weights[window] * count for term, weights in terms.items()}
            for name, terms in wanted.addends.items()
        }
        ours = hidden_states(student, batch, weighing.objective.student_views, encodings)
        scored = score(
            ours, hidden.pop(0), student_head(student), frozen_head(teacher), student.support(),
            taken.part(window), here, weighing.chunk_size, weighing.options,
        )  # fmt: skip
        heads = {name: added(tree, scored.head_gradients[name]) for name, tree in heads.items()}
        mx.eval(heads)
        found.append(replace(scored, head_gradients={}))
    return found, heads


def _add_trees(
    found: Gradients,
    student: LoadedModel,
    batches: Sequence[Sequence[Rollout]],
    scored: list[Scored],
    heads: Mapping[str, Tree],
    trees: Mapping[str, Factors],
    weighing: Weighing,
    encodings: Encodings | None,
) -> None:
    """Sum the trees over the micro-batches, exactly, and divide by the N that weights were multiplied by."""
    for batch, window in zip(batches, windows(batches), strict=True):
        here = scored.pop(0)
        for name, factors in trees.items():
            cotangents = _weighed(here.cotangents, factors, window)
            layers = student.family.layers(student.module)
            with recomputing(layers) if weighing.grad_checkpoint else nullcontext():
                tree = backward(student, batch, cotangents, encodings)
            accumulate(found.trees.setdefault(name, {}), tree)
    for name, factors in trees.items():
        for addend in factors:
            accumulate(found.trees[name], dict(heads[addend]))
        summed, found.trees[name] = found.trees[name], {}
        accumulate(found.trees[name], summed, 1.0 / len(found.batch.weights))


def _weighed(cotangents: Mapping[str, Views], factors: Factors, window: slice) -> Views:
    """The sum of the addends' cotangents (N, D) by view, each token's times its factor."""
    sums: dict[str, mx.array] = {}
    for addend, factor in factors.items():
        for view, states in cotangents[addend]._asdict().items():
            if states is not None:
                weighed = states if factor is None else _times(states, factor[window])
                sums[view] = sums[view] + weighed if view in sums else weighed
    return Views(**sums)


def _times(states: mx.array, factors: np.ndarray) -> mx.array:
    return states * mx.array(factors, dtype=states.dtype)[:, None]


@contextmanager
def _timed(found: Gradients, phase: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    found.seconds[phase] += time.perf_counter() - start
