"""The loss phase: hidden states in; per-token terms and gradients with respect to hidden states out.

Log-probabilities over the vocabulary exist for `chunk_size` positions at a time, so memory doesn't grow
with completion length x vocabulary. All positions are completion positions: nothing else meets the head.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

import mlx.core as mx
from mlx.utils import tree_map

from vgs_mlx.objective.compared import compare, depend
from vgs_mlx.objective.objectives import Coefficients
from vgs_mlx.objective.terms import Options, Taken
from vgs_mlx.objective.visual import Views

GRAIN = 64  # positions by which the size of a chunk grows
Tree = Any
Parameters = Mapping[str, mx.array]
"""The head's trainable weights by name; empty where the head is frozen."""


@dataclass(frozen=True)
class Head:
    """A model's language-model head: `apply(parameters, hidden (C, D)) -> logits (C, V)`."""

    apply: Callable[[Parameters, mx.array], mx.array]
    parameters: Parameters


@dataclass(frozen=True)
class Scored:
    """What the loss phase found for N tokens."""

    terms: dict[str, mx.array]  # per token (N,), nats: the loss terms, entropy, and VDS where it was computed
    cotangents: dict[str, Views]  # per part: ∂ loss / ∂ hidden states (N, D) in each view; None where 0
    head_gradients: dict[str, dict[str, mx.array]]  # per part: ∂ loss / ∂ head parameters


def teacher_scores(
    hidden: Views, head: Head, support: mx.array, ids: mx.array, chunk_size: int
) -> dict[str, mx.array]:
    """`depend` of N tokens, (N,) each, from the teacher's hidden states (N, D)."""
    found = []
    for window in _windows(ids.size, chunk_size):
        states, here = window.of(hidden), window.of(ids)
        found.append(depend(_logits(states, head), support, here))
        mx.eval(found[-1])
    return {name: mx.concatenate([each[name] for each in found])[: ids.size] for name in found[0]}


def score(
    student_hidden: Views,
    teacher_hidden: Views,
    student_head: Head,
    teacher_head: Head | None,
    support: mx.array,
    taken: Taken,
    parts: Mapping[str, Coefficients],
    chunk_size: int,
    options: Options,
) -> Scored:
    """Every term at each of N tokens, and the gradients of each part's weighted sum of terms.

    Hidden states are (N, D) after the final norm, in completion order; `support` (V,) bool; the weights in
    `parts` are (N,). A teacher without views has no head either. Gradients are the terms' closed forms, carried
    through the head by `mx.vjp`.
    """
    count = student_hidden.with_image.shape[0]
    chunks = []
    head_gradients: dict[str, dict[str, mx.array]] = {part: {} for part in parts}
    for window in _windows(count, chunk_size):
        ours, theirs = window.of(student_hidden), window.of(teacher_hidden)
        terms, logit_gradients = compare(
            _logits(ours, student_head), _logits(theirs, teacher_head), support,
            window.of(taken), options, window.of(dict(parts)),
        )  # fmt: skip
        cotangents = {}
        for part, pulls in logit_gradients.items():
            cotangents[part], gradients = _through_head(ours, student_head, pulls)
            _accumulate(head_gradients[part], gradients)
        mx.eval(terms, cotangents, head_gradients)
        chunks.append((terms, cotangents))
    return Scored(
        {name: mx.concatenate([terms[name] for terms, _ in chunks])[:count] for name in chunks[0][0]},
        {part: _joined([cotangents[part] for _, cotangents in chunks], count) for part in parts},
        head_gradients,
    )


@dataclass(frozen=True)
class _Window:
    """A stretch of the tokens. The last one is padded with zeros, so that few sizes are ever compiled."""

    start: int
    size: int

    def of(self, tree: Tree) -> Tree:
        return tree_map(self._part, tree)

    def _part(self, array: mx.array | None) -> mx.array | None:
        if array is None:
            return None
        part = array[self.start : self.start + self.size]
        missing = self.size - part.shape[0]
        return mx.pad(part, [(0, missing)] + [(0, 0)] * (part.ndim - 1)) if missing else part


def chunk_length(count: int, largest: int) -> int:
    """Positions of a chunk: as equal as steps of `GRAIN` allow, so that what the last one is padded by is small."""
    even = ceil(count / ceil(count / largest))
    return min(largest, GRAIN * ceil(even / GRAIN))


def _windows(count: int, largest: int) -> list[_Window]:
    size = chunk_length(count, largest)
    return [_Window(start, size) for start in range(0, count, size)]


def _logits(hidden: Views, head: Head | None) -> Views:
    return Views(*(None if states is None else head.apply(head.parameters, states) for states in hidden))


def _through_head(hidden: Views, head: Head, logit_gradients: Views) -> tuple[Views, dict[str, mx.array]]:
    names = list(head.parameters)
    cotangents, parameter_gradients = [], {}
    for states, gradient in zip(hidden, logit_gradients, strict=True):
        if gradient is None:
            cotangents.append(None)
            continue
        _, (states_gradient, *rest) = mx.vjp(
            lambda states, *weights: head.apply(dict(zip(names, weights, strict=True)), states).astype(
                mx.float32
            ),
            [states, *head.parameters.values()],
            [gradient],
        )
        cotangents.append(states_gradient)
        _accumulate(parameter_gradients, dict(zip(names, rest, strict=True)))
    return Views(*cotangents), parameter_gradients


def _accumulate(sums: dict[str, mx.array], more: Mapping[str, mx.array]) -> None:
    for name, value in more.items():
        sums[name] = sums[name] + value if name in sums else value


def _joined(chunks: list[Views], count: int) -> Views:
    views = zip(*chunks, strict=True)
    return Views(*(None if view[0] is None else mx.concatenate(view)[:count] for view in views))
