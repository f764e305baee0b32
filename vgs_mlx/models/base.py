"""A loaded model: mlx-vlm's module, its processor, its family, and which ids it can answer with."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from vgs_mlx.models.families.base import Family
from vgs_mlx.models.picture_cache import PictureCache


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A loaded model with its processor and settings."""

    name: str  # as the user wrote it
    folder: Path
    family: Family
    module: nn.Module
    processor: Any  # `processing.Processor`: tokenizer, chat template, rendering
    vocabulary: int  # ids below this exist in the tokenizer; the head may have more rows
    end_ids: frozenset[int]  # end-of-sequence ids
    shares_prefix: bool = True  # completions of a prompt share one run of it; False: a row each
    pictures: PictureCache | None = None  # set where the vision tower is frozen and its features are kept

    def support(self) -> mx.array:
        """The answerable ids, bool (vocabulary,). One distribution for sampling and scoring alike."""
        return self._support

    @functools.cached_property
    def _support(self) -> mx.array:
        """Built once: listing a real vocabulary is slow compared with a chunk of a loss."""
        answerable = np.zeros(self.vocabulary, dtype=bool)
        answerable[list(self.processor.tokenizer.get_vocab().values())] = True
        placeholders = [each for each in self.family.unanswerable_ids(self.module) if each < self.vocabulary]
        answerable[placeholders] = False
        return mx.array(answerable)

    def logits(self, hidden: mx.array) -> mx.array:
        """Logits over the tokenizer's ids, (..., vocabulary): rows of the head beyond them are sliced off."""
        return self.family.logits(self.module, hidden)[..., : self.vocabulary]
