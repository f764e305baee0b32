"""Prefix continuation: how completions of one prompt are run, for sampling, scoring and gradients alike.

    start   a prompt into the model's own cache
    fork    the cache, repeated for each of the prompt's completions
    states  of the tokens that follow

A completion thus sees only its prompt and itself, as in a row of its own, and the prompt with its picture is computed
once for all its completions. Values and gradients equal those of separate rows (the probes check both) for recurrent
layers, sliding windows and plain attention alike, because only the model's own cache is used.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np

from vgs_mlx.models import caches
from vgs_mlx.models.base import LoadedModel
from vgs_mlx.models.families.base import Rows
from vgs_mlx.models.rows import Encodings, prompt_rows
from vgs_mlx.types import View


@dataclass(frozen=True, eq=False)
class Prefix:
    """What B rows of tokens continue."""

    cache: list[Any]  # the model's own, one a layer
    last: mx.array  # (B, D) the states after the final norm that predict the next tokens
    following: np.ndarray | None  # (axes, B) the next tokens' positions; None where the cache counts them


def start(
    model: LoadedModel, views: Sequence[View], encodings: Encodings, *, decoding: bool = False
) -> Prefix:
    """Run prompts of one length into a new cache. Differentiable; not yet computed.

    `decoding`: many tokens will follow, one by one.
    """
    rows = prompt_rows(model, views, encodings)
    cache = model.family.make_cache(model.module)
    cache = cache if decoding else caches.compact(cache)
    hidden = model.family.hidden_states(model.module, rows, cache)
    following = None if rows.positions is None else rows.positions.max(axis=(0, 2))[None] + 1
    if following is not None:
        following = np.tile(following, (rows.positions.shape[0], 1))
    return Prefix(cache, hidden[:, -1], following)


def fork(prefix: Prefix, rows: Sequence[int]) -> Prefix:
    """A new prefix whose row i is row `rows[i]` of the given one, which doesn't change."""
    chosen = list(rows)
    following = None if prefix.following is None else prefix.following[:, chosen]
    return Prefix(caches.taken(prefix.cache, chosen), prefix.last[mx.array(chosen)], following)


def joined(prefixes: Sequence[Prefix]) -> Prefix:
    """Prefixes of different lengths joined, to be continued token by token: caches are padded on the left."""
    if len(prefixes) == 1:
        return prefixes[0]
    single = [fork(each, [row]) for each in prefixes for row in range(each.last.shape[0])]
    layers = zip(*(each.cache for each in single), strict=True)
    return Prefix(
        [type(layer[0]).merge(list(layer)) for layer in layers],
        mx.concatenate([each.last for each in prefixes]),
        None
        if prefixes[0].following is None
        else np.concatenate([each.following for each in prefixes], axis=1),
    )


def advanced(prefix: Prefix, last: mx.array) -> Prefix:
    """The prefix with one more token, whose states are `last`, once the cache holds it."""
    following = None if prefix.following is None else prefix.following + 1
    return Prefix(prefix.cache, last, following)


def states(model: LoadedModel, prefix: Prefix, ids: mx.array | np.ndarray) -> mx.array:
    """Hidden states after the final norm, (B, T, D), of the next tokens (B, T). Extends the prefix's cache in place."""
    steps = np.arange(ids.shape[1])
    positions = None if prefix.following is None else prefix.following[:, :, None] + steps
    return model.family.hidden_states(model.module, Rows(ids, positions), prefix.cache)
