"""What the trainer may ask of a model: the `Family` protocol, the rows fed to it, and a loaded model.

A family is one module named after its `model_type`; `FAMILIES` in `loading.py` lists them.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from vgs_mlx.models.block_attention import Blocks
from vgs_mlx.models.features import PictureFeatures
from vgs_mlx.models.picture_cache import PictureCache
from vgs_mlx.types import PromptView


@dataclass(frozen=True, eq=False)
class Rows:
    """Right-padded token rows for one forward pass. Padding comes last, so causal attention never sees it."""

    ids: np.ndarray  # (B, L) int32
    positions: np.ndarray  # (axes, B, L) int32: always explicit, since mlx-vlm would reuse old ones
    placeholders: np.ndarray  # (B, L) bool: where picture features go
    features: Sequence[PictureFeatures]  # in row order, one for each row that has pictures
    attention: mx.array | Blocks | None = None  # bool, True = may look; None: causal


class Family(Protocol):
    """The functions that a model family's module offers. Models are mlx-vlm's own modules."""

    def encode_pictures(self, model: nn.Module, view: PromptView) -> PictureFeatures | None:
        """The vision tower's output for a view; None for a view without pictures."""

    def positions(self, model: nn.Module, view: PromptView) -> np.ndarray:
        """Position ids of a prompt, (axes, P). A completion's token t gets max + 1 + t on every axis."""

    def placeholders(self, model: nn.Module, ids: np.ndarray) -> np.ndarray:
        """True where an id is a placeholder for picture features, the shape of `ids`."""

    def unanswerable_ids(self, model: nn.Module) -> list[int]:
        """Ids that no answer may hold: they stand for things that only a prompt can bring."""

    def hidden_states(self, model: nn.Module, rows: Rows, cache: list[Any] | None = None) -> mx.array:
        """Hidden states after the final norm, (B, L, D); with a cache, the rows continue what it holds."""

    def head_path(self, model: nn.Module) -> str:
        """The dotted path of the module that maps hidden states to logits (the embedding where tied)."""

    def logits(self, model: nn.Module, hidden: mx.array) -> mx.array:
        """Logits over all rows of the head, (..., rows)."""

    def layers(self, model: nn.Module) -> list[nn.Module]:
        """The language model's decoder layers."""

    def vision(self, model: nn.Module) -> nn.Module:
        """The vision tower with its merger."""


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model ready for work, with all that belongs to it."""

    name: str  # as the user wrote it
    folder: Path
    family: Family
    module: nn.Module
    processor: Any  # the transformers processor: tokenizer, chat template, image processor
    vocabulary: int  # ids below this exist in the tokenizer; the head may have more rows
    end_ids: frozenset[int]  # end-of-sequence ids
    packs: bool = False  # completions of one prompt share a row (packing.py): the packing probe has passed
    pictures: PictureCache | None = None  # where its vision tower is frozen and features are kept

    def support(self) -> mx.array:
        """The answerable ids, bool (vocabulary,). One distribution for sampling and scoring alike."""
        return self._support

    @functools.cached_property
    def _support(self) -> mx.array:
        """Made once: listing a real vocabulary takes long beside a chunk of a loss."""
        answerable = np.zeros(self.vocabulary, dtype=bool)
        answerable[list(self.processor.tokenizer.get_vocab().values())] = True
        answerable[[each for each in self.family.unanswerable_ids(self.module) if each < self.vocabulary]] = (
            False
        )
        return mx.array(answerable)

    def logits(self, hidden: mx.array) -> mx.array:
        """Logits over the tokenizer's ids, (..., vocabulary): rows of the head beyond them are sliced off."""
        return self.family.logits(self.module, hidden)[..., : self.vocabulary]
