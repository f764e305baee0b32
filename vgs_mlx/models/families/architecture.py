"""What a config.json says of a model before anything is loaded: its sizes, and whether mlx-vlm reads it at all.

Needs no library. A number that is missing or none is a `ValueError` whose text says what the config does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

Config = Mapping[str, Any]
"""A whole config.json."""

LARGEST = 10**6  # of any number in a config: a plan for more would say nothing


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
    norms_heads: bool  # queries and keys pass a norm of their own before they are rotated


@dataclass(frozen=True)
class Tile:
    """Pictures are cut into squares, whose patches attend to one another alone, and shown as a whole in one more."""

    side: int  # pixels
    patches: int
    marks: int  # ids around the tokens of one, at most: where it begins, and where its row ends


@dataclass(frozen=True)
class Measured:
    """Arrays that a vision tower holds, in widths of its own: measured, since they depend on MLX's order."""

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
    pixel_values: int  # numbers a patch
    token_patches: int  # that make one image token
    token_pixels: int  # of a picture that make one
    measured: Measured
    levels: int = 0  # features that go to the language model beside the embeddings
    pads_heads: bool = False
    tile: Tile | None = None  # None: a picture is one stretch of patches, as many as its size asks for

    def image_tokens(self, pixels: int) -> int:
        """Of one picture of so many pixels, at most, with the ids that mark its tiles."""
        if self.tile is None:
            return max(1, pixels // self.token_pixels)
        tiles = max(1, pixels // self.tile.side**2)
        split = tiles > 1  # then one more shows the whole, on a line of its own
        return split + (tiles + split) * (self.tile.patches // self.token_patches + self.tile.marks)


@dataclass(frozen=True)
class Architecture:
    """A model's sizes by its config.json."""

    text: Text
    vision: Vision
    tied: bool  # the head is the embedding
    vision_elements: int  # weights and biases of the tower, and of a connector
    max_pixels: int  # that the published processor allows a picture


class Declared(Protocol):
    """What a family declares of its files, for commands that load no model."""

    rope_keys: tuple[
        str, ...
    ]  # of text_config, where mlx-vlm looks for what transformers 5 puts in rope_parameters
    unread_vision: tuple[
        str, ...
    ]  # the model_type of vision_config by transformers 5, where mlx-vlm doesn't read it
    edit: str  # how to make a config.json of transformers 5 one that mlx-vlm reads
    vision_names: tuple[str, ...]  # what stands in the names of a vision part's weights, and in no others

    def fault(self, config: Config) -> str | None:
        """What a config asks for that mlx-vlm silently computes in another way; None where there is no such thing."""

    def architecture(self, config: Config) -> Architecture:
        """The sizes that a config describes."""

    def picture_limit(self, settings: Mapping[str, Any]) -> Any:
        """The pixels of a picture, at most, by the settings of an image processor; unchecked."""


def count(config: Config, section: str, key: str, usual: int | None = None) -> int:
    """A number of a config's section; `usual` where it has none. Raises `ValueError` with what the config does."""
    values = config.get(section)
    if not isinstance(values, dict):
        raise ValueError(f"lacks {section}" if values is None else f"has no keys below {section}")
    value = values.get(key)
    if value is None and usual is None:
        raise ValueError(f"lacks {section}.{key}")
    return counted(usual if value is None else value, f"{section}.{key}")


def counted(value: Any, name: str) -> int:
    """A number of a config, checked. Raises `ValueError` with what the config does."""
    if type(value) is not int or not 0 < value <= LARGEST:
        raise ValueError(f"has {name} {value!r}, not a whole number from 1 to {LARGEST:,}")
    return value


def attention_block(hidden: int, intermediate: int) -> int:
    """Weights and biases of a block of a vision tower: attention, two layers, two norms."""
    return 4 * hidden * hidden + 4 * hidden + 2 * hidden * intermediate + intermediate + hidden + 4 * hidden
