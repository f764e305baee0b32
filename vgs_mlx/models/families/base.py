"""What the trainer may ask of a family of models: the `Family` protocol, and the rows that a model is fed."""

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
    """Token rows for one forward pass, right-padded: causal attention never looks at padding that comes last."""

    ids: np.ndarray | mx.array  # (B, L) int32
    positions: np.ndarray | None  # (axes, B, L) int32; None where a family counts positions by its cache
    placeholders: np.ndarray | None = None  # (B, L) bool: where picture features go; None: nowhere
    features: Sequence[Features] = ()  # in row order, one for each row that has pictures


@dataclass(frozen=True)
class PictureTokens:
    """What one picture adds to a prompt."""

    features: int  # placeholders, each of which takes a feature of the picture
    marks: int  # ids around them: where a picture, a tile or a row of tiles begins and ends


class Family(Protocol):
    """All that differs between architectures. Models are mlx-vlm's own modules, processors those that it loads."""

    model_type: str  # as in config.json

    # A processor, before there are weights

    def conversation(self, template: Callable[[Messages], str], messages: Messages) -> str:
        """The messages as the chat template writes them. Without pictures, what it writes with them less their marks.

        All of them stand at the beginning of the last message.
        """

    def render(self, processor: Any, text: str, pictures: Sequence[Image.Image], limit: int | None) -> View:
        """The text of a chat template, with its pictures, as ids and arrays. `limit`: pixels of a picture, at most.

        Exactly one begin-of-sequence id, whoever writes it: template or tokenizer.
        """

    def picture_tokens(self, processor: Any, width: int, height: int, limit: int | None) -> PictureTokens:
        """What `render` will make of a picture of that size. Raises `ValueError` for a size that it doesn't take."""

    def special_texts(self, processor: Any) -> tuple[str, ...]:
        """Texts beside the tokenizer's special tokens that would be taken for a part of a picture's place."""

    def preparation(self, processor: Any) -> Mapping[str, Any]:
        """How pictures are prepared: what must be equal in a student's and a teacher's processor."""

    def fault(self, processor: Any) -> str | None:
        """Which of its settings can't be computed with, and why; None where all can."""

    def other_config(self, processor: Any, config: Any) -> Mapping[str, tuple[Any, Any]]:
        """What a processor and its model's config must agree on: name -> (the processor's, the config's)."""

    # The tree of modules

    def layers(self, model: nn.Module) -> list[nn.Module]:
        """The decoder layers of the language model."""

    def media_modules(self, model: nn.Module) -> Mapping[str, nn.Module | None]:
        """The vision tower and, where it stands beside it, the connector, by dotted path; None for a missing one."""

    def head_path(self, model: nn.Module) -> str:
        """The dotted path of the module that maps hidden states to logits (the embedding where tied)."""

    def unanswerable_ids(self, model: nn.Module) -> list[int]:
        """Ids that no answer may hold: they stand for things that only a prompt can bring."""

    def placeholders(self, model: nn.Module, ids: np.ndarray) -> np.ndarray:
        """True where an id is a placeholder for a picture's feature, the shape of `ids`."""

    # Computation

    def encode(self, model: nn.Module, view: View) -> Features | None:
        """What the vision tower makes of a view's pictures; None for a view without. Differentiable."""

    def positions(self, model: nn.Module, view: View) -> np.ndarray | None:
        """Position ids of a prompt, (axes, P); a completion's token t gets max + 1 + t on every axis.

        None where the model counts positions itself, by what its cache holds.
        """

    def make_cache(self, model: nn.Module) -> list[Any]:
        """An empty cache of the model's own kinds, one a layer."""

    def hidden_states(self, model: nn.Module, rows: Rows, cache: list[Any] | None = None) -> mx.array:
        """Hidden states after the final norm, (B, L, D); with a cache, the rows continue what it holds."""

    def logits(self, model: nn.Module, hidden: mx.array) -> mx.array:
        """Logits over all rows of the head, (..., rows)."""
