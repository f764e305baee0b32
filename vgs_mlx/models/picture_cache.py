"""Keeps the features of frozen vision towers, so that later epochs and evaluations need not run the towers again."""

from collections import OrderedDict
from collections.abc import Callable

import mlx.core as mx

from vgs_mlx.models.families.features import Features
from vgs_mlx.types import View


class PictureCache:
    """Features keyed by the content of the pictures; the least recently used are dropped first.

    One cache for all models of a run: `limit` bounds the bytes of all features together.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0  # bytes
        self._kept: OrderedDict[tuple[str, bytes], Features] = OrderedDict()

    def features(self, owner: str, view: View, make: Callable[[], Features]) -> Features:
        """The features of the view's pictures by the model named `owner`: from the cache, or made now."""
        key = (owner, view.media_key)
        found = self._kept.pop(key, None)
        if found is None:
            found = make()
            mx.eval(found.arrays())  # a lazy array would keep the tower's whole graph
            self.size += found.nbytes
        self._kept[key] = found
        while self.size > self.limit:
            _, dropped = self._kept.popitem(last=False)
            self.size -= dropped.nbytes
        return found
