"""Gradient checkpointing: a decoder layer keeps only its input and is run again in the backward pass.

A layer changes the cache that it is given. So the cache's arrays are inputs and outputs of the checkpointed function.
In a closure, they would be constants for the gradient and would change a second time when the layer runs again: values
would stay right, and gradients would be wrong.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from vgs_mlx.models import caches


@contextmanager
def recomputing(layers: Sequence[nn.Module]) -> Iterator[None]:
    """While the `with` block builds its graph, `layers` save their inputs instead of their activations.

    Saves memory for about one more forward pass. Python looks up `__call__` on the class, so the classes of `layers`
    are changed while the block runs: build no other model's graph in it.
    """
    originals = {kind: kind.__call__ for kind in {type(layer) for layer in layers}}
    for kind, original in originals.items():
        kind.__call__ = _recomputed(original)
    try:
        yield
    finally:
        for kind, original in originals.items():
            kind.__call__ = original


def _recomputed(original: Any) -> Any:
    def call(layer: nn.Module, *arguments: Any, **options: Any) -> Any:
        given = {place: value for place, value in enumerate(arguments) if caches.is_cache(value)}
        given |= {name: value for name, value in options.items() if caches.is_cache(value)}
        after: dict[Any, Any] = {}

        def run(weights: dict, held: dict, arguments: tuple, options: dict) -> Any:
            kept = layer.trainable_parameters()
            layer.update(weights)
            after.update({place: caches.with_held(cache, held[place]) for place, cache in before.items()})
            arguments = [after.get(place, value) for place, value in enumerate(arguments)]
            options = {name: after.get(name, value) for name, value in options.items()}
            try:
                found = original(layer, *arguments, **options)
            finally:
                layer.update(kept)  # the backward pass runs after the layer has its own weights again
            return found, {place: caches.held(cache) for place, cache in after.items()}

        before = {place: caches.mapped(cache, lambda array: array) for place, cache in given.items()}
        held = {place: caches.held(cache) for place, cache in before.items()}
        plain = [None if place in given else value for place, value in enumerate(arguments)]
        named = {name: None if name in given else value for name, value in options.items()}
        found, changed = mx.checkpoint(run)(layer.trainable_parameters(), held, plain, named)
        for place, cache in given.items():
            vars(cache).update(vars(caches.with_held(after[place], changed[place])))
        return found

    return call
