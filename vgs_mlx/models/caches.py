"""The contents of a model's own caches as trees of arrays, which can be repeated, cut and passed to a function.

Caches of mlx-vlm are objects that change when a layer uses them: keys and values with their length in use, the
state of a recurrent layer, a window. Arrays are found by inspection; no kind of cache is known here by name.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx

from vgs_mlx.machine.lazy import Lazy

kinds = Lazy("mlx_vlm.models.cache")

Held = dict[str, Any]
"""Attribute -> an array, or lists, tuples and caches of arrays."""


def compact(cache: Sequence[Any]) -> list[Any]:
    """An empty cache of the same kind for passes that don't decode token by token: exactly as long as its input.

    The usual cache grows by 256 positions of zeros at a time, which a gradient would have to carry along.
    """
    return [kinds.ConcatenateKVCache() if type(each) is kinds.KVCache else each for each in cache]


def is_cache(value: Any) -> bool:
    """Whether the value is a cache from mlx-lm or mlx-vlm."""
    return hasattr(type(value), "meta_state") and hasattr(type(value), "from_state")


def held(cache: Any) -> Held:
    """The arrays that a cache holds, in a tree."""
    return {name: _held(value) for name, value in vars(cache).items() if _has_arrays(value)}


def with_held(cache: Any, arrays: Held) -> Any:
    """A copy of a cache that holds other arrays; its numbers stay. The two share no array object, because a
    cache writes into its arrays in place.
    """
    copied = copy.copy(cache)
    for name, value in vars(cache).items():
        setattr(copied, name, _put(value, arrays[name]) if name in arrays else _own(value))
    return copied


def mapped(cache: Any, change: Callable[[mx.array], mx.array]) -> Any:
    """A copy of a cache with every array changed."""
    return with_held(cache, _mapped(held(cache), change))


def arrays(cache: Sequence[Any]) -> list[mx.array]:
    """All arrays of a model's cache, for evaluation."""
    found: list[mx.array] = []
    for each in cache:
        _mapped(held(each), lambda array: found.append(array) or array)
    return found


def taken(cache: Sequence[Any], rows: Sequence[int]) -> list[Any]:
    """A model's cache with rows selected, repeated or dropped: row i of the result is row `rows[i]`."""
    single = set(rows) == {0}
    index = None if single else mx.array(list(rows))

    def take(array: mx.array) -> mx.array:
        if not array.ndim:
            return array
        if single and array.shape[0] == 1:
            return mx.broadcast_to(array, (len(rows), *array.shape[1:]))
        return array[mx.zeros(len(rows), dtype=mx.int32) if index is None else index]

    return [mapped(each, take) for each in cache]


def _own(value: Any) -> Any:
    """A value without arrays. Lists are copied, because a cache may fill one with states in place."""
    if isinstance(value, (list, tuple)):
        return type(value)(map(_own, value))
    return with_held(value, {}) if is_cache(value) else value


def _has_arrays(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(_has_arrays(each) for each in value)
    return isinstance(value, mx.array) or is_cache(value)


def _held(value: Any) -> Any:
    if is_cache(value):
        return held(value)
    return [_held(each) for each in value] if isinstance(value, (list, tuple)) else value


def _mapped(tree: Any, change: Callable[[mx.array], mx.array]) -> Any:
    if isinstance(tree, dict):
        return {name: _mapped(each, change) for name, each in tree.items()}
    if isinstance(tree, list):
        return [_mapped(each, change) for each in tree]
    return change(tree) if isinstance(tree, mx.array) else tree


def _put(before: Any, value: Any) -> Any:
    """The tree `value`, in the form of the value `before` it."""
    if is_cache(before):
        return with_held(before, value)
    if isinstance(before, (list, tuple)):
        return type(before)(_put(old, new) for old, new in zip(before, value, strict=True))
    return mx.reshape(value, value.shape) if isinstance(value, mx.array) else value
