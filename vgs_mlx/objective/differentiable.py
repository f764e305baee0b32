"""The loss phase as a function that MLX can differentiate: a sum of terms with closed-form gradients.

Body and loss are then one function, and `mx.value_and_grad` runs the body once. The body is traced; the chunks are
not. MLX doesn't compile traced code and keeps all its arrays, which in a chunk are as wide as the vocabulary. So the
chunks start from untraced states, and `mx.custom_function` gives MLX their gradients.
"""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import mlx.core as mx

from vgs_mlx.objective.chunked import Chunk, Chunking, Heads, Scored, States, accumulate, chunks, joined
from vgs_mlx.objective.objectives import Coefficients
from vgs_mlx.objective.terms import Taken

Traced = dict[str, dict[str, mx.array]]
"""The arrays that the loss is differentiated by: "states" (N, D) by view, and the "head"'s weights by name."""


class Loss(NamedTuple):
    """The part of the loss that is differentiated, and the results of all parts, not yet computed."""

    value: mx.array  # Σ weight · term of the part, a function of the traced arrays
    pending: list[Chunk]  # each with the sums of the head's gradients up to and including it
    scored: Scored  # the chunks end to end


def loss(
    traced: Traced, states: States, heads: Heads, taken: Taken, parts: Mapping[str, Coefficients], summed: str,
    how: Chunking,
) -> Loss:  # those of `chunks`, the traced arrays, and the part  # fmt: skip
    """`parts[summed]` as a function of the traced arrays. Nothing is computed yet.

    `states.student` has the views that are not traced. Every view that the part has a gradient in must be traced, or
    that gradient would be lost.
    """
    plain = {view: _untraced(each) for view, each in traced["states"].items()}
    states = States(states.student._replace(**plain), states.teacher)
    pending = _with_sums(chunks(states, heads, taken, parts, how), parts)
    scored = joined(pending, states.count, pending[-1].head_gradients)
    cotangents, sums = scored.cotangents[summed]._asdict(), scored.head_gradients[summed]

    @mx.custom_function
    def value(_: Traced) -> mx.array:
        return sum((weights * scored.terms[term]).sum() for term, weights in parts[summed].items())

    @value.vjp
    def pull(given: Traced, factor: mx.array, _: mx.array) -> Traced:
        return {
            "states": {view: _times(cotangents[view], factor) for view in given["states"]},
            "head": {name: _times(sums[name], factor) for name in given["head"]},
        }

    return Loss(value(traced), pending, scored)


def compute(made: Loss) -> Scored:
    """Compute the chunks one after the other, freeing each, and return the whole."""
    while made.pending:
        mx.eval(made.pending.pop(0))
    mx.eval(vars(made.scored))
    return made.scored


def _times(gradient: mx.array, factor: mx.array) -> mx.array:
    return gradient * factor.astype(gradient.dtype)


def _with_sums(found: Iterable[Chunk], parts: Iterable[str]) -> list[Chunk]:
    """The chunks with running sums of the head's gradients."""
    sums: dict[str, dict[str, mx.array]] = {part: {} for part in parts}
    made = []
    for chunk in found:
        for part, gradients in chunk.head_gradients.items():
            accumulate(sums[part], gradients)
        made.append(chunk._replace(head_gradients={part: dict(each) for part, each in sums.items()}))
    return made


def _untraced(array: mx.array) -> mx.array:
    """The same array without its trace. Nothing is computed or copied.

    MLX traces only the arrays that the tracing thread makes, so another thread makes this one. If MLX ever traced
    other threads too, the chunks would be slower, but their results the same.
    """
    stream = mx.default_stream(mx.default_device())
    with ThreadPoolExecutor(max_workers=1) as another:
        return another.submit(mx.stop_gradient, array, stream=stream).result()
