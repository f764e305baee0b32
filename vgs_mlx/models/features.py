"""What a vision tower makes of pictures."""

from dataclasses import dataclass

import mlx.core as mx


@dataclass(frozen=True)
class PictureFeatures:
    """The vision tower's output for the pictures of one prompt."""

    embeddings: mx.array  # (image tokens, D), take the places of the placeholders' embeddings
    deepstack: tuple[mx.array, ...] = ()  # each (image tokens, D), added after the first decoder layers

    def arrays(self) -> list[mx.array]:
        return [self.embeddings, *self.deepstack]

    @property
    def nbytes(self) -> int:
        return sum(each.nbytes for each in self.arrays())
