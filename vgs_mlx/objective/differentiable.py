"""The loss phase as a function that MLX can differentiate: a sum of terms, whose gradients are closed forms.

Body and loss are then one function, and `mx.value_and_grad` runs the body once. What the body computes is traced;
the chunks are not. MLX doesn't compile what it traces, and keeps every array of it: of a chunk, arrays as wide as the
vocabulary. So the chunks start from states that carry no trace, and MLX learns their gradients from
`mx.custom_function`.
"""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import mlx.core as mx

from vgs_mlx.objective.chunked import Chunk, Chunking, Heads, Scored, States, accumulate, chunks, joined
from vgs_mlx.objective.objectives import Coefficients
from vgs_mlx.objective.terms import Taken

Traced = dict[str, dict[str, mx.array]]
"""What the loss is differentiated with respect to: "states" (N, D) by view, and the "head"'s weights by name."""


class Loss(NamedTuple):
    """One part of the loss that is differentiated, and all of them as chunks that wait to be computed."""

    value: mx.array  # Σ weight · term of the part, a function of the traced arrays
    pending: list[Chunk]  # each with the sums of the head's gradients up to and with it
    scored: Scored  # the chunks end to end


def loss(
    traced: Traced, states: States, heads: Heads, taken: Taken, parts: Mapping[str, Coefficients], summed: str,
    how: Chunking,
) -> Loss:  # as `chunks`, beside what is traced and which part it is for  # fmt: skip
    """`parts[summed]` as a function of the traced arrays, nothing computed yet.

    `states.student` has the views that are not traced. A view that the part pulls must be traced: its gradient
    would be lost.
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
    """The chunks, computed one after the other, and not held any longer."""
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
    """The same array to a reader that isn't being traced. Nothing is computed or copied.

    MLX traces what the tracing thread makes. Should it one day trace other threads too, the chunks would be traced
    and slow, and their results the same.
    """
    stream = mx.default_stream(mx.default_device())
    with ThreadPoolExecutor(max_workers=1) as another:
        return another.submit(mx.stop_gradient, array, stream=stream).result()
