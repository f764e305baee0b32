"""The family `smolvlm`: pictures in tiles, a connector beside the tower, a language model that returns logits alone.

A picture is scaled until its longer side is the processor's, cut into square tiles by rows, and shown once more as a
whole; a tile has always as many features. One that is scaled to a single tile is shown as a whole alone. The head is
never tied to the embedding.
"""

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx_vlm.models.smolvlm  # noqa: F401  (it teaches transformers its torch-free processor)
from mlx_vlm.models.base import create_attention_mask

from vgs_mlx.models.families.base import Rows
from vgs_mlx.models.families.plain import Plain


class SmolVLM(Plain):
    """See `Family` for every method."""

    def hidden_states(self, model: nn.Module, rows: Rows, cache: list[Any] | None = None) -> mx.array:
        """What mlx-vlm's language model does, but for the head: it returns logits alone."""
        language = model.language_model
        hidden = self.embedded(model, rows).astype(language.norm.weight.dtype)
        cache = cache or [None] * len(language.layers)
        mask = create_attention_mask(hidden, cache)
        for layer, held in zip(language.layers, cache, strict=True):
            hidden = layer(hidden, mask, held)
        return language.norm(hidden)


FAMILY = SmolVLM(
    model_type="smolvlm",
    media=("pixel_values", "pixel_attention_mask"),
    media_paths=("vision_model", "connector"),
    head_paths=("language_model.lm_head",),
    layers_path="language_model.layers",
    embedding_path="language_model.embed_tokens",
)
