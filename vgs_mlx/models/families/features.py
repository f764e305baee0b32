"""The features that a vision tower computes from pictures."""

from dataclasses import dataclass

import mlx.core as mx


@dataclass(frozen=True)
class Features:
    """The output of the vision tower and its connector for the pictures of one view."""

    embeddings: mx.array  # (image tokens, D), replace the placeholders' embeddings
    levels: tuple[mx.array, ...] = ()  # each (image tokens, D), added after the first decoder layers

    def arrays(self) -> list[mx.array]:
        return [self.embeddings, *self.levels]

    @property
    def nbytes(self) -> int:
        return sum(each.nbytes for each in self.arrays())
