"""What `qwen3_vl` declares about its files: see `Declared`."""

from collections.abc import Mapping
from typing import Any

from vgs_mlx.machine.lazy import Lazy
from vgs_mlx.models.families.architecture import (
    Architecture,
    Config,
    Measured,
    Text,
    Vision,
    attention_block,
    count,
)

processing = Lazy("mlx_vlm.models.qwen3_vl.processing_qwen3_vl")

LIMIT = 16_777_216  # the published processor's limit for a picture, in pixels
MEASURED = Measured(
    hidden=25,  # position embeddings and deepstack features included
    intermediate=2,
    padded_heads=3,
    pixels=0,
    saved_hidden=12,
    saved_intermediate=5,
    saved_padded_heads=2,
)


class Qwen3VLFiles:
    """See `Declared` for every method."""

    rope_keys = ("rope_theta", "rope_scaling")
    unread_vision = ("qwen3_vl_vision",)
    edit = (
        "in text_config, move rope_theta out of rope_parameters and rename rope_parameters to rope_scaling; "
        'in vision_config, set model_type to "qwen3_vl"'
    )
    needed = ()
    vision_names = ("visual", "vision_tower")

    def fault(self, config: Config) -> str | None:
        return None

    def architecture(self, config: Config) -> Architecture:
        text, vision = _text(config), _vision(config)
        tied = bool(
            config.get("tie_word_embeddings", config["text_config"].get("tie_word_embeddings", False))
        )
        return Architecture(text, vision, tied, _vision_elements(config, vision), LIMIT)

    def picture_limit(self, settings: Mapping[str, Any]) -> Any:
        size = settings.get("size") or {}
        given = [each for each in (settings.get("max_pixels"), size.get("longest_edge")) if each is not None]
        return given[0] if given else processing.Qwen3VLImageProcessor().max_pixels


def _text(config: Config) -> Text:
    heads = count(config, "text_config", "num_attention_heads")
    hidden = count(config, "text_config", "hidden_size")
    return Text(
        layers=count(config, "text_config", "num_hidden_layers"),
        hidden=hidden,
        intermediate=count(config, "text_config", "intermediate_size"),
        heads=heads,
        kv_heads=count(config, "text_config", "num_key_value_heads", heads),
        head_dim=count(config, "text_config", "head_dim", hidden // heads),
        vocabulary=count(config, "text_config", "vocab_size"),
        norms_heads=True,
    )


def _vision(config: Config) -> Vision:
    patch, merge = count(config, "vision_config", "patch_size"), _merge(config)
    channels = count(config, "vision_config", "in_channels", 3)
    frames = count(config, "vision_config", "temporal_patch_size", 2)
    levels = config["vision_config"].get("deepstack_visual_indexes") or []
    if not isinstance(levels, list):
        raise ValueError(f"has vision_config.deepstack_visual_indexes {levels!r}, not a list of layers")
    return Vision(
        depth=count(config, "vision_config", "depth"),
        hidden=count(config, "vision_config", "hidden_size"),
        intermediate=count(config, "vision_config", "intermediate_size"),
        heads=count(config, "vision_config", "num_heads"),
        pixel_values=channels * frames * patch * patch,
        token_patches=merge**2,
        token_pixels=(patch * merge) ** 2,
        measured=MEASURED,
        levels=len(levels),
        pads_heads=True,
    )


def _merge(config: Config) -> int:
    return count(config, "vision_config", "spatial_merge_size", 2)


def _vision_elements(config: Config, vision: Vision) -> int:
    """Weights and biases of the patch embedding, the blocks, and a merger for each level and the output."""
    hidden, merged = vision.hidden, vision.hidden * vision.token_patches
    out = count(config, "vision_config", "out_hidden_size")
    merger = merged * merged + merged + merged * out + out
    norms = 2 * hidden + 2 * merged * vision.levels
    places = count(config, "vision_config", "num_position_embeddings")
    embedding = vision.pixel_values * hidden + hidden + places * hidden
    blocks = vision.depth * attention_block(hidden, vision.intermediate)
    return embedding + blocks + (1 + vision.levels) * merger + norms


DECLARED = Qwen3VLFiles()
