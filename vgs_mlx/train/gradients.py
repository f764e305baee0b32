"""From rollouts to gradient trees: score with both models, then differentiate the student's body.

In two passes, the chain rule is cut at the hidden states. The loss phase computes ∂loss/∂hidden for the whole update
batch, in chunks and outside any trace. These cotangents then go through the student's body, a micro-batch at a time
(backward.py). Activations and vocabulary-wide arrays thus never exist at the same time. The cost is one more
forward pass of the student, without gradients.

In one pass, body and loss are differentiated together (one_pass.py). All weights must then be known in advance: if
some depend on the teacher's scores of tokens, the teacher's head runs once more to compute the scores. One pass
gives one tree; any other trees go through the body as in two passes.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import mlx.core as mx
import numpy as np

from vgs_mlx.models.base import LoadedModel
from vgs_mlx.models.rows import Encodings
from vgs_mlx.objective.chunked import Chunking, Heads, Scored, States, score, teacher_scores
from vgs_mlx.objective.objectives import Coefficients, Objective, weights_by_role
from vgs_mlx.objective.steering import Tree, added
from vgs_mlx.objective.terms import Options, Taken
from vgs_mlx.objective.tokens import token_weights
from vgs_mlx.objective.visual import Views
from vgs_mlx.objective.weightings import Batch, dependency_gate
from vgs_mlx.train.addends import Wanted, of_objective, weighed, weights_by_tree
from vgs_mlx.train.backward import Body, accumulate, backward, zeros
from vgs_mlx.train.forward import (
    count_positions,
    frozen_head,
    hidden_states,
    student_head,
    teacher_hidden,
)
from vgs_mlx.train.microbatches import split, windows
from vgs_mlx.train.one_pass import MicroBatch, differentiate, pulled, valued
from vgs_mlx.types import Rollout


@dataclass(frozen=True)
class Weighing:
    """The settings of the gradient phase."""

    objective: Objective  # without the parts whose coefficient is 0
    steering_coef: float
    preservation_coef: float
    reduction: str
    chunk_size: int
    microbatch_size: int
    max_tokens: int | None  # positions of a micro-batch in the view with the picture
    grad_checkpoint: bool
    separate: bool  # a tree for each role, to measure η; else one tree of the weighted sum
    options: Options = field(default_factory=Options)
    one_pass: bool = False  # body and loss differentiated together

    @property
    def chunking(self) -> Chunking:
        return Chunking(self.chunk_size, self.options)


@dataclass(frozen=True)
class Learned:
    """The data of one update."""

    rollouts: Sequence[Rollout]
    encodings: (
        Encodings | None
    )  # the student's; None: the vision tower trains, so it runs inside the differentiated pass
    advantages: np.ndarray | None = None  # (N,), by token; only a policy term reads them


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
    """The objective's gradients over one update batch: exact sums over its micro-batches.

    `student_encodings` and `advantages` are those of `Learned`.
    """
    objective = weighing.objective

    def want(batch: Batch) -> Wanted:
        return of_objective(
            objective, weighing.steering_coef, weighing.preservation_coef, weighing.separate, batch
        )

    learned = Learned(rollouts, student_encodings, advantages)
    found = compute_parts(student, teacher, learned, weighing, want)
    found.losses = {
        role: sum(float((np.array(weights) * found.terms[term]).sum()) for term, weights in terms.items())
        for role, terms in weights_by_role(objective, found.batch).items()
    }
    return found


def compute_parts(
    student: LoadedModel,
    teacher: LoadedModel | None,
    learned: Learned,
    weighing: Weighing,
    want: Callable[[Batch], Wanted],
) -> Gradients:
    """All terms at every token, and the gradient trees that `want` asks for (addends.py).

    The batch passed to `want` already has the teacher's scores where they must be known in advance: in one pass, and
    where the head trains, since the head's gradients are sums over tokens.
    """
    objective = weighing.objective
    batches = split(
        learned.rollouts, weighing.microbatch_size, weighing.max_tokens, shares_prefix=student.shares_prefix
    )
    task = _Task(student, teacher, batches, learned, weighing)
    found = Gradients(batch=_batch(learned.rollouts, weighing))
    found.positions = count_positions(student, teacher, batches, objective)
    with _timed(found, "teacher"):
        hidden = teacher_hidden(teacher, batches, objective)
        if objective.scores and (weighing.one_pass or student_head(student).parameters):
            found.batch.scores.update(_scores(task, hidden))
    wanted = want(found.batch)
    with _timed(found, "student"):
        run = _one_pass if weighing.one_pass else _two_passes
        run(found, task, hidden, wanted)
    if objective.has("preservation"):
        found.gate = dependency_gate(found.terms["visual_dependency_score"])
    return found


@dataclass(frozen=True, eq=False)
class _Task:
    """Two models and an update batch, cut into micro-batches."""

    student: LoadedModel
    teacher: LoadedModel | None
    batches: Sequence[Sequence[Rollout]]
    learned: Learned
    weighing: Weighing

    @property
    def body(self) -> Body:
        return Body(self.student, self.learned.encodings, self.weighing.grad_checkpoint)

    @property
    def heads(self) -> Heads:
        return Heads(student_head(self.student), frozen_head(self.teacher), self.student.support())

    def is_flat(self, window: slice) -> bool:
        """Whether the policy is the only term, and its advantages are 0 at all tokens of the micro-batch."""
        terms = {part.term for part in self.weighing.objective.parts}
        return terms == {"policy"} and not self.learned.advantages[window].any()

    def backward(self, batch: Sequence[Rollout], cotangents: Views) -> Tree:
        with self.body.recomputing():
            return backward(self.student, batch, cotangents, self.learned.encodings)


def _batch(rollouts: Sequence[Rollout], weighing: Weighing) -> Batch:
    """The tokens of the update batch, as the weightings read them; the teacher's scores are added later."""
    lengths = [len(rollout.completion) for rollout in rollouts]
    return Batch(
        weights=np.array(token_weights(lengths, weighing.reduction)),
        lengths=lengths,
        prompts=[rollout.number for rollout in rollouts],
        scores={},
        steering_coef=weighing.steering_coef,
    )


def _scores(task: _Task, hidden: Sequence[Views]) -> dict[str, np.ndarray]:
    support, size = task.student.support(), task.weighing.chunk_size
    found = [
        teacher_scores(each, frozen_head(task.teacher), support, _taken(batch).ids, size)
        for each, batch in zip(hidden, task.batches, strict=True)
    ]
    return {name: np.concatenate([np.array(each[name]) for each in found]) for name in found[0]}


def _taken(rollouts: Sequence[Rollout], advantages: np.ndarray | None = None) -> Taken:
    return Taken(
        mx.array(np.concatenate([each.completion for each in rollouts])),
        mx.array(np.concatenate([each.sampling_logprobs for each in rollouts])),
        None if advantages is None else mx.array(advantages, dtype=mx.float32),
    )


def _two_passes(found: Gradients, task: _Task, hidden: list[Views], wanted: Wanted) -> None:
    """The loss phase of all micro-batches, which completes the teacher's scores; then the body's backward pass."""
    scored, heads = _scored(task, hidden, wanted)
    _note_terms(found, task, scored)
    trees = wanted.trees(found.batch)
    for batch, window in zip(task.batches, windows(task.batches), strict=True):
        here = scored.pop(0)
        for name, factors in trees.items():
            cotangents = weighed(here.cotangents, factors, window)
            accumulate(found.trees.setdefault(name, {}), task.backward(batch, cotangents))
    for name, factors in trees.items():
        for addend in factors:
            accumulate(found.trees[name], dict(heads[addend]))
    _divide(found)


def _scored(task: _Task, hidden: list[Views], wanted: Wanted) -> tuple[list[Scored], Mapping[str, Tree]]:
    """The loss phase of every micro-batch, and the head's gradients by addend. Drops the teacher's hidden states.

    The gradients of a head that trains are as large as the head, so they are summed immediately.
    """
    found, heads = [], {name: {} for name in wanted.addends}
    taken = _taken(task.learned.rollouts, task.learned.advantages)
    views, encodings = task.weighing.objective.student_views, task.learned.encodings
    for batch, window in zip(task.batches, windows(task.batches), strict=True):
        ours = hidden_states(task.student, batch, views, encodings)
        scored = score(
            States(ours, hidden.pop(0)), task.heads, taken.part(window),
            _in_window(wanted.addends, window, taken), task.weighing.chunking,
        )  # fmt: skip
        heads = {name: added(tree, scored.head_gradients[name]) for name, tree in heads.items()}
        mx.eval(heads)
        found.append(replace(scored, head_gradients={}))
    return found, heads


def _one_pass(found: Gradients, task: _Task, hidden: list[Views], wanted: Wanted) -> None:
    """For each micro-batch: the terms and the tree with gradients in the most views, then the other trees.

    Where all answers to a prompt have the same reward (GRPO), nothing is differentiated. A good model often gives such
    groups.
    """
    weights = weights_by_tree(wanted, found.batch)
    first = max(weights, key=lambda name: len(pulled(weights[name])))
    taken, scored = _taken(task.learned.rollouts, task.learned.advantages), []
    for rollouts, window in zip(task.batches, windows(task.batches), strict=True):
        batch = MicroBatch(
            rollouts, task.learned.encodings, task.weighing.objective.student_views, hidden.pop(0),
            taken.part(window), _in_window(weights, window, taken),
        )  # fmt: skip
        if task.is_flat(window):
            scored.append(valued(task.student, batch, task.heads, task.weighing.chunking))
            continue
        with task.body.recomputing():
            here, tree = differentiate(task.student, batch, first, task.heads, task.weighing.chunking)
        accumulate(found.trees.setdefault(first, {}), tree)
        for name in (each for each in weights if each != first):
            sums = found.trees.setdefault(name, {})
            accumulate(sums, task.backward(rollouts, here.cotangents.pop(name)))
            accumulate(sums, here.head_gradients.pop(name))
        scored.append(Scored(here.terms, {}, {}))
    _note_terms(found, task, scored)
    found.trees = found.trees or {name: zeros(task.student) for name in weights}
    _divide(found)


def _in_window(weights: Mapping[str, Coefficients], window: slice, taken: Taken) -> dict[str, Coefficients]:
    """A micro-batch's weights, times N, so that cotangents stay near 1 in half precision."""
    return {
        name: {term: each[window] * taken.ids.size for term, each in terms.items()}
        for name, terms in weights.items()
    }


def _divide(found: Gradients) -> None:
    """Divide the trees by the N that the weights were multiplied by."""
    for name in list(found.trees):
        summed, found.trees[name] = found.trees[name], {}
        accumulate(found.trees[name], summed, 1.0 / len(found.batch.weights))


def _note_terms(found: Gradients, task: _Task, scored: Sequence[Scored]) -> None:
    """Store the terms of all micro-batches, end to end, and the teacher's scores, which are among them."""
    found.terms = {
        name: np.concatenate([np.array(each.terms[name]) for each in scored]) for name in scored[0].terms
    }
    found.batch.scores.update({name: found.terms[name] for name in task.weighing.objective.scores})


@contextmanager
def _timed(found: Gradients, phase: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    found.seconds[phase] += time.perf_counter() - start
