"""The family `qwen3_vl`: mlx-vlm's Qwen3-VL with its deepstack features and three position axes.

Facts that shape this file: the language model's own `__call__` ignores a mask and reuses old position ids,
so its inner `.model` is called, always with position ids; picture features are placed here with plain
array operations, which gradients pass through.
"""

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx_vlm.models.qwen3_vl import language  # the package teaches transformers its torch-free processor

from vgs_mlx.models import block_attention
from vgs_mlx.models.base import Rows
from vgs_mlx.models.features import PictureFeatures
from vgs_mlx.types import PromptView

block_attention.teach(language)


def encode_pictures(model: nn.Module, view: PromptView) -> PictureFeatures | None:
    """See `Family`."""
    if view.pixel_values is None:
        return None
    tower = model.vision_tower
    pixels = mx.array(view.pixel_values).astype(tower.patch_embed.proj.weight.dtype)
    embeddings, deepstack = tower(pixels, mx.array(view.image_grid_thw))
    return PictureFeatures(embeddings, tuple(deepstack))


def positions(model: nn.Module, view: PromptView) -> np.ndarray:
    """See `Family`: time, height and width, (3, P)."""
    if view.image_grid_thw is None:
        return np.tile(np.arange(len(view.ids), dtype=np.int32), (3, 1))
    found, _ = model.language_model.get_rope_index(mx.array(view.ids)[None], mx.array(view.image_grid_thw))
    return np.array(found, dtype=np.int32)[:, 0]


def placeholders(model: nn.Module, ids: np.ndarray) -> np.ndarray:
    """See `Family`."""
    return ids == model.config.image_token_id


def unanswerable_ids(model: nn.Module) -> list[int]:
    """See `Family`: the picture and video placeholders."""
    return [model.config.image_token_id, model.config.video_token_id]


def hidden_states(model: nn.Module, rows: Rows, cache: list[Any] | None = None) -> mx.array:
    """See `Family`."""
    decoder = model.language_model.model
    embeddings = decoder.embed_tokens(mx.array(rows.ids))
    deepstack = None
    if rows.features:
        places = mx.array(rows.placeholders)
        embeddings = _place(embeddings, places, mx.concatenate([each.embeddings for each in rows.features]))
        deepstack = [
            mx.concatenate(level) for level in zip(*(each.deepstack for each in rows.features), strict=True)
        ]
    return decoder(
        None,
        inputs_embeds=embeddings,
        mask=rows.attention,
        cache=cache,
        position_ids=mx.array(rows.positions),
        visual_pos_masks=mx.array(rows.placeholders) if deepstack else None,
        deepstack_visual_embeds=deepstack or None,
    )


def head_path(model: nn.Module) -> str:
    """See `Family`."""
    tied = model.language_model.args.tie_word_embeddings
    return "language_model.model.embed_tokens" if tied else "language_model.lm_head"


def logits(model: nn.Module, hidden: mx.array) -> mx.array:
    """See `Family`."""
    if model.language_model.args.tie_word_embeddings:
        return model.language_model.model.embed_tokens.as_linear(hidden)
    return model.language_model.lm_head(hidden)


def layers(model: nn.Module) -> list[nn.Module]:
    """See `Family`."""
    return model.language_model.model.layers


def vision(model: nn.Module) -> nn.Module:
    """See `Family`."""
    return model.vision_tower


def _place(embeddings: mx.array, places: mx.array, features: mx.array) -> mx.array:
    """`embeddings` (B, L, D) with the rows of `features` (n, D) at the n True `places` (B, L), in order."""
    index = mx.maximum(mx.cumsum(places.reshape(-1).astype(mx.int32)) - 1, 0).reshape(places.shape)
    return mx.where(places[..., None], features[index].astype(embeddings.dtype), embeddings)
