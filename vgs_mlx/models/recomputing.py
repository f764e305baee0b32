"""Gradient checkpointing: a decoder layer keeps its input alone and is run again in the backward pass."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
import mlx.nn as nn


@contextmanager
def recomputing(layers: Sequence[nn.Module]) -> Iterator[None]:
    """While the body builds its graph, layers of this kind save their inputs instead of their activations.

    Less memory for about one more forward pass. A call operator belongs to the class, so the class is
    changed for the time of the body: build no other model's graph meanwhile.
    """
    kind = type(layers[0])
    original = kind.__call__

    def recomputed(layer: nn.Module, *arguments: Any, **options: Any) -> mx.array:
        def run(weights: dict, *arguments: Any, **options: Any) -> mx.array:
            layer.update(weights)
            return original(layer, *arguments, **options)

        return mx.checkpoint(run)(layer.trainable_parameters(), *arguments, **options)

    kind.__call__ = recomputed
    try:
        yield
    finally:
        kind.__call__ = original
