"""Reads from a config.json, before anything is loaded, a model's sizes and whether mlx-vlm can read the config.

Needs no library. A missing or invalid number raises a `ValueError`; its text continues "its config.json ...".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

Config = Mapping[str, Any]
"""A whole config.json."""

LARGEST = 10**6  # largest number accepted in a config: a plan for more would be meaningless


@dataclass(frozen=True)
class Text:
    """The language model's sizes."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int  # rows of the head
    norms_heads: bool  # queries and keys are normalised before they are rotated


@dataclass(frozen=True)
class Tile:
    """A square piece of a picture. Patches attend within their tile only; one more tile shows the whole picture."""

    side: int  # pixels
    patches: int
    marks: int  # ids around a tile's tokens, at most: for its beginning and the end of its row


@dataclass(frozen=True)
class Measured:
    """How many arrays of each width a vision tower holds. Measured, because MLX's evaluation order decides it."""

    hidden: float
    intermediate: float
    padded_heads: float  # of queries, whose heads are padded to a width with a fused kernel
    pixels: float
    saved_hidden: float  # of what a block saves for its backward pass
    saved_intermediate: float
    saved_padded_heads: float


@dataclass(frozen=True)
class Vision:
    """The vision tower's sizes."""

    depth: int
    hidden: int
    intermediate: int
    heads: int
    pixel_values: int  # numbers per patch
    token_patches: int  # patches per image token
    token_pixels: int  # pixels of a picture per image token
    measured: Measured
    levels: int = 0  # further features per image token for the language model's first layers
    pads_heads: bool = False
    tile: Tile | None = None  # None: a picture is one run of patches, whose number depends on its size

    def image_tokens(self, pixels: int) -> int:
        """The most tokens of a picture with that many pixels, ids that mark its tiles included."""
        if self.tile is None:
            return max(1, pixels // self.token_pixels)
        tiles = max(1, pixels // self.tile.side**2)
        split = tiles > 1  # one more tile then shows the whole picture, on a separate line
        return split + (tiles + split) * (self.tile.patches // self.token_patches + self.tile.marks)


@dataclass(frozen=True)
class Architecture:
    """A model's sizes, from its config.json."""

    text: Text
    vision: Vision
    tied: bool  # the head is the embedding
    vision_elements: int  # weights and biases of the tower and the connector
    max_pixels: int  # the published processor's limit for a picture


class Declared(Protocol):
    """What a family declares about its files, for commands that load no model."""

    rope_keys: tuple[str, ...]  # of text_config: mlx-vlm reads these, transformers 5 writes rope_parameters
    unread_vision: tuple[str, ...]  # vision_config.model_type by transformers 5, unknown to mlx-vlm
    edit: str  # how to edit a config.json of transformers 5 so that mlx-vlm reads it
    needed: tuple[str, ...]  # files without which the processor falls back to settings of another model
    vision_names: tuple[str, ...]  # parts of the names of vision weights, and of no other weights

    def fault(self, config: Config) -> str | None:
        """What the config asks for that mlx-vlm silently computes differently, or None."""

    def architecture(self, config: Config) -> Architecture:
        """The sizes that a config describes."""

    def picture_limit(self, settings: Mapping[str, Any]) -> Any:
        """The largest number of pixels of a picture by an image processor's settings; unchecked."""


def count(config: Config, section: str, key: str, usual: int | None = None) -> int:
    """A number from a section of a config; `usual` if the section lacks it. Raises `ValueError`."""
    values = config.get(section)
    if not isinstance(values, dict):
        raise ValueError(f"lacks {section}" if values is None else f"has no keys below {section}")
    value = values.get(key)
    if value is None and usual is None:
        raise ValueError(f"lacks {section}.{key}")
    return counted(usual if value is None else value, f"{section}.{key}")


def counted(value: Any, name: str) -> int:
    """A number from a config, checked. Raises `ValueError`."""
    if type(value) is not int or not 0 < value <= LARGEST:
        raise ValueError(f"has {name} {value!r}, not a whole number from 1 to {LARGEST:,}")
    return value


def attention_block(hidden: int, intermediate: int) -> int:
    """Weights and biases of a block of a vision tower: attention, two layers, two norms."""
    return 4 * hidden * hidden + 4 * hidden + 2 * hidden * intermediate + intermediate + hidden + 4 * hidden
