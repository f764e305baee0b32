"""The loss phase: hidden states in; per-token terms and gradients with respect to hidden states out.

Log-probabilities over the vocabulary exist for `chunk_size` positions at a time, so memory doesn't grow
with completion length x vocabulary. The head runs at completion positions only.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Any, NamedTuple

import mlx.core as mx
from mlx.utils import tree_map

from vgs_mlx.objective.compared import compare, depend
from vgs_mlx.objective.objectives import Coefficients
from vgs_mlx.objective.terms import Options, Taken
from vgs_mlx.objective.visual import Views

GRAIN = 64  # chunk sizes are multiples of this many positions
Tree = Any
Parameters = Mapping[str, mx.array]
"""The head's trainable weights by name; empty where the head is frozen."""


@dataclass(frozen=True)
class Head:
    """A model's language-model head: `apply(parameters, hidden (C, D)) -> logits (C, V)`."""

    apply: Callable[[Parameters, mx.array], mx.array]
    parameters: Parameters


@dataclass(frozen=True)
class Heads:
    """Both models' heads and the ids that an answer may contain."""

    student: Head
    teacher: Head | None  # a teacher without views has none
    support: mx.array  # (V,) bool


@dataclass(frozen=True)
class States:
    """Both models' hidden states by view, (N, D) after the final norm, in the completions' order."""

    student: Views
    teacher: Views

    @property
    def count(self) -> int:
        """N."""
        return next(each.shape[0] for each in self.student if each is not None)


@dataclass(frozen=True)
class Chunking:
    """The largest number of positions compared at one time, and the settings of individual terms."""

    size: int
    options: Options = field(default_factory=Options)


class Chunk(NamedTuple):
    """The loss phase's results for a chunk's C positions. Fields as in `Scored`."""

    terms: dict[str, mx.array]
    cotangents: dict[str, Views]
    head_gradients: dict[str, dict[str, mx.array]]


@dataclass(frozen=True)
class Scored:
    """The loss phase's results for N tokens."""

    terms: dict[str, mx.array]  # per token (N,), nats: the loss terms, entropy, and VDS where it was computed
    cotangents: dict[str, Views]  # per part: ∂ loss / ∂ hidden states (N, D) in each view; None where 0
    head_gradients: dict[str, dict[str, mx.array]]  # per part: ∂ loss / ∂ head parameters


def teacher_scores(
    hidden: Views, head: Head, support: mx.array, ids: mx.array, chunk_size: int
) -> dict[str, mx.array]:
    """The scores of `depend` for N tokens, (N,) each, from the teacher's hidden states (N, D)."""
    found = []
    for window in _windows(ids.size, chunk_size):
        states, here = window.of(hidden), window.of(ids)
        found.append(depend(_logits(states, head), support, here))
        mx.eval(found[-1])
    return {name: mx.concatenate([each[name] for each in found])[: ids.size] for name in found[0]}


def score(
    states: States, heads: Heads, taken: Taken, parts: Mapping[str, Coefficients], how: Chunking
) -> Scored:
    """Every term at each of N tokens, and the gradients of each part's weighted sum of terms.

    The weights in `parts` are (N,). Gradients are the terms' closed forms, carried through the head by `mx.vjp`.
    """
    found: list[Chunk] = []
    head_gradients: dict[str, dict[str, mx.array]] = {part: {} for part in parts}
    for chunk in chunks(states, heads, taken, parts, how):
        for part, sums in head_gradients.items():
            accumulate(sums, chunk.head_gradients.pop(part))
        mx.eval(chunk, head_gradients)
        found.append(chunk)
    return joined(found, states.count, head_gradients)


def chunks(
    states: States, heads: Heads, taken: Taken, parts: Mapping[str, Coefficients], how: Chunking
) -> Iterator[Chunk]:
    """The same by chunk, not yet computed. The last chunk still has its padding."""
    for window in _windows(states.count, how.size):
        here = States(window.of(states.student), window.of(states.teacher))
        yield _chunk(here, heads, window.of(taken), window.of(dict(parts)), how.options)


def joined(found: list[Chunk], count: int, head_gradients: dict[str, dict[str, mx.array]]) -> Scored:
    """The chunks end to end, without the padding."""
    return Scored(
        {name: mx.concatenate([chunk.terms[name] for chunk in found])[:count] for name in found[0].terms},
        {part: _joined([chunk.cotangents[part] for chunk in found], count) for part in found[0].cotangents},
        head_gradients,
    )


def _chunk(
    states: States, heads: Heads, taken: Taken, parts: Mapping[str, Coefficients], options: Options
) -> Chunk:
    ours, theirs = _logits(states.student, heads.student), _logits(states.teacher, heads.teacher)
    terms, logit_gradients = compare(ours, theirs, heads.support, taken, options, parts)
    cotangents, head_gradients = {}, {}
    for part, pulls in logit_gradients.items():
        cotangents[part], head_gradients[part] = _through_head(states.student, heads.student, pulls)
    return Chunk(terms, cotangents, head_gradients)


@dataclass(frozen=True)
class _Window:
    """A range of the tokens. The last one is padded with zeros, so that few sizes are ever compiled."""

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
    """The size of all chunks: about equal shares in steps of `GRAIN`, so that the last needs little padding."""
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
        accumulate(parameter_gradients, dict(zip(names, rest, strict=True)))
    return Views(*cotangents), parameter_gradients


def accumulate(sums: dict[str, mx.array], more: Mapping[str, mx.array]) -> None:
    """Add `more` to `sums`, in place."""
    for name, value in more.items():
        sums[name] = sums[name] + value if name in sums else value


def _joined(chunks: list[Views], count: int) -> Views:
    views = zip(*chunks, strict=True)
    return Views(*(None if view[0] is None else mx.concatenate(view)[:count] for view in views))
