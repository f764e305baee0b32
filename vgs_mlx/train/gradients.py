"""From rollouts to gradient trees: score with both models in both views, then one `mx.vjp` for each tree.

The chain rule is cut at the hidden states. The loss phase gives ∂loss/∂hidden, in chunks and outside any
trace; `mx.vjp` carries it through the student's body. Activations and vocabulary-wide arrays thus never
exist at the same time. The price is one more forward pass of the student without gradients.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import mlx.core as mx
import numpy as np

from vgs_mlx.models import adapters
from vgs_mlx.models.base import LoadedModel
from vgs_mlx.models.logprobs import completion_hidden
from vgs_mlx.models.recomputing import recomputing
from vgs_mlx.models.rows import Continued, Encodings, encode, evaluate
from vgs_mlx.objective.chunked import Head, dependency_scores, score
from vgs_mlx.objective.objectives import Coefficients, Objective, dependency_gate, parts, total
from vgs_mlx.objective.steering import Tree, added, scaled
from vgs_mlx.objective.tokens import token_weights
from vgs_mlx.objective.visual import Views
from vgs_mlx.types import Rollout


@dataclass(frozen=True)
class Weighing:
    """What the objective asks of the gradient phase."""

    objective: Objective  # the active parts only
    steering_coef: float
    preservation_coef: float
    reduction: str
    chunk_size: int
    microbatch_size: int
    grad_checkpoint: bool
    separate: bool  # a tree for each part, for measuring η; else one tree of the weighted sum


@dataclass
class Gradients:
    """Trees by part ("standard", "steering", "preservation", or "total"), and every term at every token."""

    trees: dict[str, Tree] = field(default_factory=dict)
    terms: dict[str, np.ndarray] = field(default_factory=dict)  # (N,) each, nats
    weights: np.ndarray | None = None  # (N,), sum 1
    gate: np.ndarray | None = None  # (N,), 0 or 1
    seconds: dict[str, float] = field(default_factory=lambda: {"teacher": 0.0, "student": 0.0})


def compute(
    student: LoadedModel,
    teacher: LoadedModel,
    rollouts: Sequence[Rollout],
    weighing: Weighing,
    student_encodings: Encodings | None,
) -> Gradients:
    """The gradients of one update batch, exact sums over its micro-batches.

    `student_encodings` None: the vision tower trains, so it runs inside the differentiated pass.
    """
    found = Gradients()
    support = student.support()
    needs_text = bool(weighing.objective.steering or weighing.objective.preservation)
    batches = [
        rollouts[i : i + weighing.microbatch_size] for i in range(0, len(rollouts), weighing.microbatch_size)
    ]
    with _timed(found, "teacher"):
        views = [view for each in rollouts for view in (each.prompt.with_image, each.prompt.text_only)]
        encodings = evaluate(encode(teacher, views))
        hidden = [_hidden(teacher, batch, needs_text, encodings) for batch in batches]
        gate = _gate(hidden, teacher, support, weighing)
    coefficients = _coefficients(rollouts, weighing, gate)
    start = 0
    with _timed(found, "student"):
        for batch, teacher_hidden in zip(batches, hidden, strict=True):
            stop = start + sum(len(rollout.completion) for rollout in batch)
            window = slice(start, stop)
            here = {
                part: {term: w[window] for term, w in terms.items()} for part, terms in coefficients.items()
            }
            _add_microbatch(
                found, student, teacher, batch, teacher_hidden, here, support, weighing, student_encodings
            )
            start = stop
        found.trees = {part: scaled(tree, 1.0 / start) for part, tree in found.trees.items()}
        mx.eval(found.trees)
    found.terms = {name: np.concatenate(values) for name, values in found.terms.items()}
    found.weights = np.array(coefficients_weights(rollouts, weighing))
    found.gate = None if gate is None else np.array(gate)
    return found


def coefficients_weights(rollouts: Sequence[Rollout], weighing: Weighing) -> mx.array:
    """The weight of every token of the batch, (N,)."""
    return token_weights([len(rollout.completion) for rollout in rollouts], weighing.reduction)


def _coefficients(
    rollouts: Sequence[Rollout], weighing: Weighing, gate: mx.array | None
) -> dict[str, Coefficients]:
    """The parts' weights times N, so that cotangents stay near 1 in half precision; trees are divided by N."""
    weights = coefficients_weights(rollouts, weighing)
    found = parts(weighing.objective, weights * weights.size, gate)
    return found if weighing.separate else total(found, weighing.steering_coef, weighing.preservation_coef)


def _gate(
    hidden: list[Views], teacher: LoadedModel, support: mx.array, weighing: Weighing
) -> mx.array | None:
    if not weighing.objective.preservation:
        return None
    head = Head(lambda _, states: teacher.logits(states), {})
    return dependency_gate(
        mx.concatenate([dependency_scores(each, head, support, weighing.chunk_size) for each in hidden])
    )


def _add_microbatch(
    found: Gradients,
    student: LoadedModel,
    teacher: LoadedModel,
    batch: Sequence[Rollout],
    teacher_hidden: Views,
    coefficients: dict[str, Coefficients],
    support: mx.array,
    weighing: Weighing,
    encodings: Encodings | None,
) -> None:
    head = student_head(student)
    scored = score(
        _hidden(student, batch, teacher_hidden.text_only is not None, encodings),
        teacher_hidden,
        head,
        Head(lambda _, states: teacher.logits(states), {}),
        support,
        coefficients,
        weighing.chunk_size,
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


def student_head(student: LoadedModel) -> Head:
    """The student's head with those of its weights that train."""
    prefix = student.family.head_path(student.module) + "."
    trainable = adapters.trainable_weights(student.module)
    names = {name: value for name, value in trainable.items() if name.startswith(prefix)}
    return Head(
        lambda weights, states: adapters.call_with(student.module, weights, lambda: student.logits(states)),
        names,
    )


def backward(
    student: LoadedModel, batch: Sequence[Rollout], cotangents: Views, encodings: Encodings | None
) -> Tree:
    """The gradient tree of Σ cotangent · hidden state over the views that have a cotangent."""
    weights = adapters.trainable_weights(student.module)
    names = list(weights)
    present = [(view, each) for view, each in zip(Views._fields, cotangents, strict=True) if each is not None]

    def forward(*values: mx.array) -> list[mx.array]:
        return adapters.call_with(
            student.module,
            dict(zip(names, values, strict=True)),
            lambda: [_forward(student, batch, view, encodings) for view, _ in present],
        )

    _, gradients = mx.vjp(forward, list(weights.values()), [each for _, each in present])
    return dict(zip(names, gradients, strict=True))


def _hidden(
    model: LoadedModel, batch: Sequence[Rollout], with_text: bool, encodings: Encodings | None
) -> Views:
    text = _forward(model, batch, "text_only", encodings) if with_text else None
    hidden = Views(_forward(model, batch, "with_image", encodings), text)
    mx.eval([each for each in hidden if each is not None])
    return hidden


def _forward(
    model: LoadedModel, batch: Sequence[Rollout], view: str, encodings: Encodings | None
) -> mx.array:
    sequences = [Continued(vars(rollout.prompt)[view], rollout.completion) for rollout in batch]
    return completion_hidden(model, sequences, encodings or encode(model, [each for each, _ in sequences]))


@contextmanager
def _timed(found: Gradients, phase: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    found.seconds[phase] += time.perf_counter() - start
