"""The family `smolvlm`: pictures in tiles, a connector beside the tower, a language model that returns only logits.

A picture is scaled until its longer side is the processor's, cut into square tiles by rows, and shown once more as a
whole; every tile has the same number of features. A picture that is scaled to a single tile is shown only as a whole.
The head is never tied to the embedding.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx_vlm.models.smolvlm  # noqa: F401  (registers its torch-free processor with transformers)
import numpy as np
from mlx_vlm.models.base import create_attention_mask
from PIL import Image

from vgs_mlx.models.families.base import Messages, PictureTokens, Rows
from vgs_mlx.models.families.features import Features
from vgs_mlx.models.families.plain import Plain, fault_of_pixels
from vgs_mlx.models.families.smolvlm_tiles import Tiling
from vgs_mlx.types import View

PREPARATION = (
    "do_convert_rgb", "do_resize", "size", "resample", "do_image_splitting", "max_image_size", "do_rescale",
    "rescale_factor", "do_normalize", "image_mean", "image_std", "do_pad",
)  # fmt: skip
SPLITTING = ("do_resize", "do_pad", "do_image_splitting")


class SmolVLM(Plain):
    """See `Family` for every method.

    A limit shortens the longer side to the largest whole number of tiles whose grid has no more pixels than the limit.
    A grid of one tile is the picture as a whole: 64 features at the published settings, against 17 x 64 = 1,088.
    """

    def conversation(self, template: Callable[[Messages], str], messages: Messages) -> str:
        """See `Family`. The published template writes a space before a question only if it has no picture."""
        *before, last = messages
        if isinstance(last["content"], str) or any(each["type"] == "image" for each in last["content"]):
            return template(messages)
        marked = template([*before, {**last, "content": [{"type": "image"}, *last["content"]]}])
        return marked.replace(MARK, "", 1)

    def prepared(
        self, processor: Any, text: str, pictures: Sequence[Image.Image], limit: int | None, special: bool
    ) -> Mapping[str, Any]:
        """Cuts each picture separately: mlx-vlm's processor can't pass its image processor a size for each."""
        cut = [_cut(processor, picture, limit) for picture in pictures]
        rows, columns = ([each[name][0][0] for each in cut] for name in ("rows", "cols"))
        whole = processor.expand_text_with_image_tokens([text], [rows], [columns])
        return {
            **processor.tokenizer(whole, add_special_tokens=special),
            "pixel_values": np.concatenate([each["pixel_values"] for each in cut], axis=1),
        }

    def picture_tokens(self, processor: Any, width: int, height: int, limit: int | None) -> PictureTokens:
        rows, columns = _tiling(processor).narrowed(width, height, limit).grid(width, height)
        split = rows * columns > 1
        tiles = rows * columns + 1 if split else 1
        grid = (rows, columns) if split else (0, 0)
        text = processor.expand_text_with_image_tokens([processor.image_token], [grid[:1]], [grid[1:]])[0]
        placeholders = processor.image_token * processor.image_seq_len
        marked = processor.tokenizer(
            text.replace(placeholders, processor.image_token), add_special_tokens=False
        )
        return PictureTokens(features=tiles * processor.image_seq_len, marks=len(marked["input_ids"]) - tiles)

    def special_texts(self, processor: Any) -> tuple[str, ...]:
        most = _tiling(processor).most
        places = [f"<row_{row + 1}_col_{column + 1}>" for row in range(most) for column in range(most)]
        return (processor.image_token, processor.fake_image_token, processor.global_image_token, *places)

    def preparation(self, processor: Any) -> Mapping[str, Any]:
        settings = super().preparation(processor)  # includes settings for videos
        return {
            **{name: settings.get(name) for name in PREPARATION},
            "image_seq_len": processor.image_seq_len,
        }

    def fault(self, processor: Any) -> str | None:
        settings = processor.image_processor
        for name in SPLITTING:
            if type(vars(settings)[name]) is not bool:
                return f"{name} is {vars(settings)[name]!r:.60}, not true or false"
        if not (settings.do_resize and settings.do_pad):
            return "do_resize and do_pad are not both true: pictures would have no common size"
        for name, value in _sides(processor).items():
            if type(value) is not int or value < 1:
                return f"{name} is {value!r:.60}, not a whole number above 0"
        return fault_of_pixels(settings)

    def other_config(self, processor: Any, config: Any) -> Mapping[str, tuple[Any, Any]]:
        vision = config.vision_config
        tokens = (vision.image_size // vision.patch_size // config.scale_factor) ** 2
        return {
            "max_image_size": (_tiling(processor).side, vision.image_size),
            "image_seq_len": (processor.image_seq_len, tokens),
            **super().other_config(processor, config),
        }

    def encode(self, model: nn.Module, view: View) -> Features | None:
        """See `Family`. mlx-vlm's own code drops tiles of zeros as padding; a view has no padding."""
        if not view.media:
            return None
        pixels = mx.array(view.media["pixel_values"])[0].transpose(0, 2, 3, 1)
        patches = pixels.shape[1] // model.config.vision_config.patch_size
        shown = mx.ones((len(pixels), patches, patches), mx.bool_)
        states, *_ = model.vision_model(pixels, patch_attention_mask=shown)
        embeddings = model.connector(states)
        return Features(embeddings.reshape(-1, embeddings.shape[-1]))

    def hidden_states(self, model: nn.Module, rows: Rows, cache: list[Any] | None = None) -> mx.array:
        """See `Family`. Repeats mlx-vlm's language model without its head, because it returns only logits."""
        language = model.language_model
        hidden = self.embedded(model, rows).astype(language.norm.weight.dtype)
        cache = cache or [None] * len(language.layers)
        mask = create_attention_mask(hidden, cache)
        for layer, held in zip(language.layers, cache, strict=True):
            hidden = layer(hidden, mask, held)
        return language.norm(hidden)


def _cut(processor: Any, picture: Image.Image, limit: int | None) -> Mapping[str, Any]:
    """A picture's tiles (1, tiles, 3, S, S) and their grid."""
    tiling = _tiling(processor).narrowed(*picture.size, limit)
    return processor.image_processor(
        [picture],
        size={"longest_edge": tiling.longest},
        do_image_splitting=tiling.splits,
        return_row_col_info=True,
        return_tensors="np",
    )


def _sides(processor: Any) -> dict[str, Any]:
    """The numbers that decide how a picture is cut, unchecked."""
    settings = processor.image_processor
    size, tile = dict(settings.size or {}), dict(settings.max_image_size or {})
    return {
        "size.longest_edge": size.get("longest_edge"),
        "max_image_size.longest_edge": tile.get("longest_edge"),
        "image_seq_len": processor.image_seq_len,
    }


def _tiling(processor: Any) -> Tiling:
    longest, side, _ = _sides(processor).values()
    return Tiling(longest, side, processor.image_processor.do_image_splitting)


MARK = "<image>"
"""What the template writes for a picture."""

FAMILY = SmolVLM(
    model_type="smolvlm",
    media=("pixel_values",),
    media_paths=("vision_model", "connector"),
    head_paths=("language_model.lm_head",),
    layers_path="language_model.layers",
    embedding_path="language_model.embed_tokens",
)
