"""Shared-prefix packing: a prompt once, then all its completions, in one row.

    [prompt, completion 1, ..., completion G]

Attention lets a completion see the prompt and itself only (block_attention.py), and each completion's positions
go on from the prompt's end, so hidden states and gradients are those of G separate rows; the prompt with its
picture is computed once instead of G times.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from vgs_mlx.models.base import LoadedModel, Rows
from vgs_mlx.models.block_attention import Blocks
from vgs_mlx.models.features import PictureFeatures
from vgs_mlx.models.rows import Continued, Encodings, continue_positions
from vgs_mlx.objective.tokens import packed_predicting_positions


class _Row(NamedTuple):
    ids: np.ndarray  # (L,)
    positions: np.ndarray  # (axes, L)
    lengths: tuple[int, ...]  # of the prompt and its completions
    predicting: np.ndarray  # (tokens,) places in the row
    features: PictureFeatures | None


def groups(sequences: Sequence[Continued]) -> list[list[Continued]]:
    """The sequences that share a row: neighbours that continue the same view."""
    return [list(group) for _, group in itertools.groupby(sequences, key=lambda each: id(each.view))]


def build_packed(
    model: LoadedModel, sequences: Sequence[Continued], encodings: Encodings
) -> tuple[Rows, mx.array]:
    """Right-padded packed rows, and where in them, flattened, the states stand that predict each token (N,)."""
    rows = [_row(group, encodings) for group in groups(sequences)]
    width = max(len(row.ids) for row in rows)
    ids = np.stack([_padded(row.ids, width, 0) for row in rows])
    packed = Rows(
        ids=ids,
        positions=np.stack([_padded(row.positions, width, 0) for row in rows], axis=1),
        placeholders=model.family.placeholders(model.module, ids) & _of_prompts(rows, width),
        features=[row.features for row in rows if row.features is not None],
        attention=Blocks(tuple(row.lengths for row in rows)),
    )
    predicting = np.concatenate([number * width + row.predicting for number, row in enumerate(rows)])
    return packed, mx.array(predicting.astype(np.int32))


def _of_prompts(rows: Sequence[_Row], width: int) -> np.ndarray:
    """True at the prompts' places, (B, L): a completion may hold a placeholder's id and means no picture."""
    return np.arange(width) < np.array([[row.lengths[0]] for row in rows])


def _row(sequences: Sequence[Continued], encodings: Encodings) -> _Row:
    """One packed row of sequences that continue one view."""
    view = sequences[0].view
    encoded = encodings[id(view)]
    completions = [completion for _, completion in sequences]
    prompt = len(view.ids)
    following = [continue_positions(encoded.positions, len(each))[:, prompt:] for each in completions]
    return _Row(
        ids=np.concatenate([view.ids, *completions]),
        positions=np.concatenate([encoded.positions, *following], axis=1),
        lengths=(prompt, *map(len, completions)),
        predicting=packed_predicting_positions(prompt, [len(each) for each in completions]),
        features=encoded.features,
    )


def _padded(array: np.ndarray, width: int, value: int) -> np.ndarray:
    missing = [(0, 0)] * (array.ndim - 1) + [(0, width - array.shape[-1])]
    return np.pad(array, missing, constant_values=value)
