"""A forward pass through a model whose weights don't fit in memory together: each layer is released after its use."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_map


@contextmanager
def letting_go(layers: Sequence[nn.Module]) -> Iterator[None]:
    """Within the `with` block, a layer is computed as soon as it is called, and its weights are then released.

    With lazy weights (`precision.widened`), only one layer's weights exist at a time. In a single graph, MLX would
    compute those of later layers early. For one forward pass of a copy, without gradients. Python looks up
    `__call__` on the class, so the classes of `layers` are changed while the block runs.
    """
    kinds = {type(layer) for layer in layers}
    originals = {kind: kind.__call__ for kind in kinds}
    for kind, original in originals.items():
        kind.__call__ = _computing(original)
    try:
        yield
    finally:
        for kind, original in originals.items():
            kind.__call__ = original


def _computing(original: Any) -> Any:
    def call(layer: nn.Module, *arguments: Any, **options: Any) -> Any:
        found = original(layer, *arguments, **options)
        mx.eval(found)
        layer.update(tree_map(lambda _: mx.array(0), layer.parameters()))
        return found

    return call
