"""The `Family` protocol, which covers all that depends on an architecture, and the input rows of a model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from PIL import Image

from vgs_mlx.models.families.features import Features
from vgs_mlx.types import View

Messages = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, eq=False)
class Rows:
    """Token rows for one forward pass, right-padded: causal attention never sees padding at the end."""

    ids: np.ndarray | mx.array  # (B, L) int32
    positions: np.ndarray | None  # (axes, B, L) int32; None if the model counts positions by its cache
    placeholders: np.ndarray | None = None  # (B, L) bool: the places of picture features; None: no pictures
    features: Sequence[Features] = ()  # in row order, one for each row that has pictures


@dataclass(frozen=True)
class PictureTokens:
    """What one picture adds to a prompt."""

    features: int  # placeholders, one for each feature of the picture
    marks: int  # ids around them that mark where a picture, a tile or a row of tiles begins or ends


class Family(Protocol):
    """All that differs between architectures. Models are mlx-vlm's own modules; mlx-vlm loads the processors."""

    model_type: str  # as in config.json

    # The processor, before weights are loaded

    def conversation(self, template: Callable[[Messages], str], messages: Messages) -> str:
        """The messages as the chat template writes them. Pictures are at the beginning of the last message.

        Without pictures, the result must be the text with pictures minus the marks of the pictures.
        """

    def render(self, processor: Any, text: str, pictures: Sequence[Image.Image], limit: int | None) -> View:
        """The text of a chat template, with its pictures, as ids and arrays. `limit`: pixels of a picture, at most.

        There is exactly one begin-of-sequence id, whether the template or the tokenizer writes it.
        """

    def picture_tokens(self, processor: Any, width: int, height: int, limit: int | None) -> PictureTokens:
        """What a picture of that size adds in `render`. Raises `ValueError` for a size that isn't accepted."""

    def special_texts(self, processor: Any) -> tuple[str, ...]:
        """Texts, beside the tokenizer's special tokens, that would be mistaken for part of a picture's place."""

    def preparation(self, processor: Any) -> Mapping[str, Any]:
        """The picture settings that must be equal in the student's and the teacher's processor."""

    def fault(self, processor: Any) -> str | None:
        """Which setting of the processor can't be used, and why; None if all can."""

    def other_config(self, processor: Any, config: Any) -> Mapping[str, tuple[Any, Any]]:
        """What a processor and its model's config must agree on: name -> (the processor's, the config's)."""

    # The tree of modules

    def layers(self, model: nn.Module) -> list[nn.Module]:
        """The decoder layers of the language model."""

    def media_modules(self, model: nn.Module) -> Mapping[str, nn.Module | None]:
        """The vision tower and a connector outside of it, by dotted path; None for a missing module."""

    def head_path(self, model: nn.Module) -> str:
        """The dotted path of the module that maps hidden states to logits (the embedding, if tied)."""

    def unanswerable_ids(self, model: nn.Module) -> list[int]:
        """Ids that no answer may contain: they mark things that only a prompt has."""

    def placeholders(self, model: nn.Module, ids: np.ndarray) -> np.ndarray:
        """True where an id is a placeholder for a picture's feature; the same shape as `ids`."""

    # Computation

    def encode(self, model: nn.Module, view: View) -> Features | None:
        """The vision tower's features of a view's pictures; None for a view without pictures. Differentiable."""

    def positions(self, model: nn.Module, view: View) -> np.ndarray | None:
        """Position ids of a prompt, (axes, P); a completion's token t gets max + 1 + t on every axis.

        None if the model counts positions itself by its cache.
        """

    def make_cache(self, model: nn.Module) -> list[Any]:
        """The model's own empty cache, one entry per layer."""

    def hidden_states(self, model: nn.Module, rows: Rows, cache: list[Any] | None = None) -> mx.array:
        """Hidden states after the final norm, (B, L, D); with a cache, the rows continue what it holds."""

    def logits(self, model: nn.Module, hidden: mx.array) -> mx.array:
        """Logits over all rows of the head, (..., rows)."""
