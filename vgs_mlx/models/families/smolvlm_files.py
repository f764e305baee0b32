"""What `smolvlm` declares about its files: see `Declared`. Missing values are mlx-vlm's defaults."""

from collections.abc import Mapping
from typing import Any

from vgs_mlx.models.families.architecture import (
    Architecture,
    Config,
    Measured,
    Text,
    Tile,
    Vision,
    attention_block,
    count,
    counted,
)
from vgs_mlx.models.families.smolvlm_tiles import Tiling

TILES = 4  # along a picture's longer side, in the published processors
PLAIN = ("default", None)  # kinds of rotary positions that are not scaled
MEASURED = Measured(
    hidden=6,
    intermediate=5,  # the exact GELU is made of several steps
    padded_heads=0,
    pixels=2,
    saved_hidden=12,
    saved_intermediate=5,
    saved_padded_heads=0,
)


class SmolVLMFiles:
    """See `Declared` for every method."""

    rope_keys = ("rope_theta",)
    unread_vision = ()
    edit = "in text_config, move rope_theta out of rope_parameters"
    needed = ("processor_config.json",)
    vision_names = ("vision_model", "connector")

    def fault(self, config: Config) -> str | None:
        text = config.get("text_config")
        if not isinstance(text, dict):
            return None
        if text.get("rope_theta") is None:
            return "has no text_config.rope_theta, which mlx-vlm would replace by its own default"
        newer = text.get("rope_parameters")
        if isinstance(newer, dict) and newer.get("rope_theta", text["rope_theta"]) != text["rope_theta"]:
            return "has one rope_theta in text_config and another in its rope_parameters"
        for key in ("rope_scaling", "rope_parameters"):
            scaling = text.get(key) or {}
            kind = scaling.get("rope_type", scaling.get("type")) if isinstance(scaling, dict) else scaling
            if kind not in PLAIN:
                return f"has text_config.{key} of the kind {kind!r:.60}, which mlx-vlm doesn't compute"
        return None

    def architecture(self, config: Config) -> Architecture:
        text, vision = _text(config), _vision(config)
        projection = vision.token_patches * vision.hidden * text.hidden
        embedding = (vision.pixel_values + 1 + vision.tile.patches) * vision.hidden
        blocks = vision.depth * attention_block(vision.hidden, vision.intermediate)
        return Architecture(
            text=text,
            vision=vision,
            tied=False,
            vision_elements=embedding + blocks + 2 * vision.hidden + projection,
            max_pixels=(TILES * vision.tile.side) ** 2,
        )

    def picture_limit(self, settings: Mapping[str, Any]) -> Any:
        longest = (settings.get("size") or {}).get("longest_edge", 4 * 364)
        side = (settings.get("max_image_size") or {}).get("longest_edge", 364)
        if any(type(each) is not int or each < 1 for each in (longest, side)):
            return (longest, side)
        return (Tiling(longest, side, bool(settings.get("do_image_splitting", True))).most * side) ** 2


def _text(config: Config) -> Text:
    hidden = count(config, "text_config", "hidden_size", 4096)
    given = config["text_config"].get("head_dim")
    heads = count(config, "text_config", "num_attention_heads", hidden // given if given else 32)
    return Text(
        layers=count(config, "text_config", "num_hidden_layers", 32),
        hidden=hidden,
        intermediate=count(config, "text_config", "intermediate_size", 11_008),
        heads=heads,
        kv_heads=count(config, "text_config", "num_key_value_heads", heads),
        head_dim=counted(hidden // heads, "text_config.hidden_size / num_attention_heads"),
        vocabulary=count(config, "text_config", "vocab_size", 49_152),
        norms_heads=False,
    )


def _vision(config: Config) -> Vision:
    hidden = count(config, "vision_config", "hidden_size", 1152)
    side = count(config, "vision_config", "image_size", 384)
    patch = count(config, "vision_config", "patch_size", 14)
    scale = counted(config.get("scale_factor", 2), "scale_factor")
    patches = counted(side // patch, "vision_config.image_size / patch_size") ** 2
    return Vision(
        depth=count(config, "vision_config", "num_hidden_layers", 12 if hidden <= 768 else 27),
        hidden=hidden,
        intermediate=count(
            config, "vision_config", "intermediate_size", 4304 if hidden == 1152 else 4 * hidden
        ),
        heads=count(config, "vision_config", "num_attention_heads", 16 if hidden % 64 else hidden // 64),
        pixel_values=count(config, "vision_config", "num_channels", 3) * patch * patch,
        token_patches=scale**2,
        token_pixels=(patch * scale) ** 2,
        measured=MEASURED,
        tile=Tile(side, patches, marks=3),
    )


DECLARED = SmolVLMFiles()
