"""Keeps what frozen vision towers made of pictures, so that later epochs and evaluations need not run them again."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable

import mlx.core as mx

from vgs_mlx.models.features import PictureFeatures
from vgs_mlx.types import PromptView


class PictureCache:
    """Features by the pictures' own content; those that were not used for longest go first.

    One cache for all models of a run: `limit` bounds the bytes of all features together.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0  # bytes
        self._kept: OrderedDict[tuple[int, bytes], PictureFeatures] = OrderedDict()

    def features(
        self, owner: object, view: PromptView, make: Callable[[], PictureFeatures]
    ) -> PictureFeatures:
        """The features that `owner`, a model's module, makes of the view's pictures: kept, or made now."""
        key = (id(owner), _content(view))
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


def _content(view: PromptView) -> bytes:
    digest = hashlib.blake2b(view.pixel_values.tobytes(), digest_size=16)
    digest.update(view.image_grid_thw.tobytes())
    return digest.digest()
