"""Attention over packed rows, block by block: a prompt over itself, a completion over its prompt and itself.

A mask over the whole row would make scores between completions that don't see each other, and throw them away.
"""

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import mlx.core as mx


@dataclass(frozen=True)
class Blocks:
    """Given to a decoder in place of a mask: how each row of a batch is divided.

    `lengths` are, for each row, those of its prompt and of its completions, in order; padding follows.
    """

    lengths: tuple[tuple[int, ...], ...]


def attend(queries: mx.array, keys: mx.array, values: mx.array, scale: float, blocks: Blocks) -> mx.array:
    """Causal attention (B, heads, L, d) inside the blocks. Padding gets zeros: nobody reads it."""
    rows = zip(
        *(mx.split(each, each.shape[0]) for each in (queries, keys, values)), blocks.lengths, strict=True
    )
    return mx.concatenate([_row(*row, scale) for row in rows])


def _row(
    queries: mx.array, keys: mx.array, values: mx.array, lengths: tuple[int, ...], scale: float
) -> mx.array:
    ends = [sum(lengths[: count + 1]) for count in range(len(lengths))]
    (asking, *theirs), (prompt_keys, *own_keys), (prompt_values, *own_values) = (
        mx.split(each, ends, axis=2) for each in (queries, keys, values)
    )
    *theirs, padding = theirs
    found = [_causal(asking, prompt_keys, prompt_values, scale)]
    for query, key, value in zip(theirs, own_keys[:-1], own_values[:-1], strict=True):
        seen = (mx.concatenate(pair, axis=2) for pair in ((prompt_keys, key), (prompt_values, value)))
        found.append(_causal(query, *seen, scale))
    return mx.concatenate([*found, mx.zeros_like(padding)], axis=2)


def _causal(queries: mx.array, keys: mx.array, values: mx.array, scale: float) -> mx.array:
    """The last query sees every key."""
    return mx.fast.scaled_dot_product_attention(queries, keys, values, scale=scale, mask="causal")


def teach(module: ModuleType) -> None:
    """Let the attention of one of mlx-vlm's model files take `Blocks` for a mask; all else goes on as before."""
    original = module.scaled_dot_product_attention

    def attention(
        queries: mx.array, keys: mx.array, values: mx.array, cache: Any, **settings: Any
    ) -> mx.array:
        if isinstance(settings.get("mask"), Blocks):
            return attend(queries, keys, values, settings["scale"], settings["mask"])
        return original(queries, keys, values, cache, **settings)

    module.scaled_dot_product_attention = attention
