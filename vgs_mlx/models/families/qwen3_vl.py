"""The family `qwen3_vl`: three position axes, and features that are also added after the first decoder layers.

The language model's own `__call__` ignores a mask and reuses old position ids. So its inner `.model` is called, always
with position ids. With cached features, `get_input_embeddings` drops the levels.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx_vlm.models.qwen3_vl  # noqa: F401  (registers its torch-free processor with transformers)
import numpy as np
from PIL import Image

from vgs_mlx.models.families.base import PictureTokens, Rows
from vgs_mlx.models.families.features import Features
from vgs_mlx.models.families.plain import Plain, fault_of_pixels
from vgs_mlx.types import View

LARGEST = 10**8  # pixels that a small picture may be scaled up to: no real model has more
SIDES = {
    "patch_size": "patch_size",
    "temporal_patch_size": "temporal_patch_size",
    "merge_size": "spatial_merge_size",
}
"""How a picture is cut: the processor's names -> the names in a config's vision_config."""
PREPARATION = (
    "patch_size", "merge_size", "temporal_patch_size", "min_pixels", "max_pixels", "do_rescale", "rescale_factor",
    "do_normalize", "image_mean", "image_std",
)  # fmt: skip


class Qwen3VL(Plain):
    """See `Family` for every method."""

    def prepared(
        self, processor: Any, text: str, pictures: Sequence[Image.Image], limit: int | None, special: bool
    ) -> Mapping[str, Any]:
        return processor(
            text=[text],
            images=list(pictures),
            max_pixels=_narrowed(processor, limit),
            add_special_tokens=special,
        )

    def picture_tokens(self, processor: Any, width: int, height: int, limit: int | None) -> PictureTokens:
        settings = processor.image_processor
        count = settings.num_image_tokens(height, width, max_pixels=_narrowed(processor, limit))
        return PictureTokens(features=count, marks=2)  # vision start and end

    def special_texts(self, processor: Any) -> tuple[str, ...]:
        return ("<|placeholder|>",)  # mlx-vlm's processor replaces it anywhere by a picture's token

    def preparation(self, processor: Any) -> Mapping[str, Any]:
        settings = vars(processor.image_processor)
        lists = ("image_mean", "image_std")
        return {name: list(settings[name]) if name in lists else settings[name] for name in PREPARATION}

    def fault(self, processor: Any) -> str | None:
        settings = processor.image_processor
        limits = {"min_pixels": settings.min_pixels, "max_pixels": settings.max_pixels}
        for name, value in {**{name: vars(settings)[name] for name in SIDES}, **limits}.items():
            if type(value) is not int or value < 1:
                return f"{name} is {value!r:.60}, not a whole number above 0"
        if settings.min_pixels > min(settings.max_pixels, LARGEST):
            return f"min_pixels is {settings.min_pixels:,}, more than a picture may have"
        return fault_of_pixels(settings)

    def other_config(self, processor: Any, config: Any) -> Mapping[str, tuple[Any, Any]]:
        ours, theirs = vars(processor.image_processor), vars(config.vision_config)
        sides = {name: (ours[name], theirs[other]) for name, other in SIDES.items()}
        return {**sides, **super().other_config(processor, config)}

    def encode(self, model: nn.Module, view: View) -> Features | None:
        if not view.media:
            return None
        tower = model.vision_tower
        pixels = mx.array(view.media["pixel_values"]).astype(tower.patch_embed.proj.weight.dtype)
        embeddings, levels = tower(pixels, mx.array(view.media["image_grid_thw"]))
        return Features(embeddings, tuple(levels))

    def positions(self, model: nn.Module, view: View) -> np.ndarray:
        """Time, height and width, (3, P)."""
        if not view.media:
            return np.tile(np.arange(len(view.ids), dtype=np.int32), (3, 1))
        grid = mx.array(view.media["image_grid_thw"])
        found, _ = model.language_model.get_rope_index(mx.array(view.ids)[None], grid)
        return np.array(found, dtype=np.int32)[:, 0]

    def hidden_states(self, model: nn.Module, rows: Rows, cache: list[Any] | None = None) -> mx.array:
        levels = [
            mx.concatenate(level) for level in zip(*(each.levels for each in rows.features), strict=True)
        ]
        return model.language_model.model(
            None,
            inputs_embeds=self.embedded(model, rows),
            cache=cache,
            position_ids=mx.array(rows.positions),
            visual_pos_masks=mx.array(rows.placeholders) if levels else None,
            deepstack_visual_embeds=levels or None,
        )


def _narrowed(processor: Any, limit: int | None) -> int:
    """A limit lowers the processor's own and never raises it."""
    own = processor.image_processor.max_pixels
    return own if limit is None else min(own, limit)


FAMILY = Qwen3VL(
    model_type="qwen3_vl",
    media=("pixel_values", "image_grid_thw"),
    media_paths=("vision_tower",),
    unanswerable=("image_token_id", "video_token_id"),
)
