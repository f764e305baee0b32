"""Builds the rows for a model from prompts and completions.

An `Encoded` holds what a model computes once for a view and uses for all its completions. Completions that share no
prompt have a row each (`separate`). Tests and probes compare prefix continuation with such rows.
"""

from collections.abc import Sequence
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from vgs_mlx.errors import Refusal
from vgs_mlx.models.base import LoadedModel
from vgs_mlx.models.families.base import Rows
from vgs_mlx.models.families.features import Features
from vgs_mlx.objective.tokens import predicting_positions
from vgs_mlx.types import View


class Encoded(NamedTuple):
    """What a model computes once for a view and uses for all its completions."""

    features: Features | None
    positions: np.ndarray | None  # (axes, P) int32; None where the model counts positions itself


Encodings = dict[bytes, Encoded]
"""`View.key` -> the encoding of the view."""


class Continued(NamedTuple):
    """A prompt in one view, followed by a completion."""

    view: View
    completion: np.ndarray  # (T,); empty for the prompt alone


def encode(model: LoadedModel, views: Sequence[View]) -> Encodings:
    """Run the vision tower once for each distinct view with pictures. Lazy: evaluate to share it."""
    distinct = {view.key: view for view in views}
    return {key: _encoded(model, view) for key, view in distinct.items()}


def _encoded(model: LoadedModel, view: View) -> Encoded:
    features = _features(model, view)
    made = 0 if features is None else features.embeddings.shape[0]
    places = int(model.family.placeholders(model.module, view.ids).sum())
    if made != places:  # features would be put at wrong places, or nowhere
        raise Refusal(
            f"{model.name}: a prompt has {places} placeholders for {made} picture features: "
            "the placeholder id or the patch sizes in its config.json are not those of the processor: "
            "take a student and a teacher of one model family and release"
        )
    return Encoded(features, model.family.positions(model.module, view))


def _features(model: LoadedModel, view: View) -> Features | None:
    if model.pictures is None or not view.media:
        return model.family.encode(model.module, view)
    return model.pictures.features(model.name, view, lambda: model.family.encode(model.module, view))


def evaluate(encodings: Encodings) -> Encodings:
    """The same encodings, computed now, view by view, so that only one view's attention exists at a time."""
    for each in encodings.values():
        if each.features:
            mx.eval(each.features.arrays())
    return encodings


def prompt_rows(model: LoadedModel, views: Sequence[View], encodings: Encodings) -> Rows:
    """Rows of prompts of equal length, without padding."""
    ids = np.stack([view.ids for view in views])
    encoded = [encodings[view.key] for view in views]
    features = [each.features for each in encoded if each.features is not None]
    placeholders = model.family.placeholders(model.module, ids) if features else None
    return Rows(ids, _stacked([each.positions for each in encoded]), placeholders, features)


def separate(model: LoadedModel, sequences: Sequence[Continued], encodings: Encodings) -> Rows:
    """Right-padded rows, one for each completion, with their positions and picture features."""
    width = max(len(view.ids) + len(completion) for view, completion in sequences)
    ids = np.zeros((len(sequences), width), dtype=np.int32)
    placeholders = np.zeros(ids.shape, dtype=bool)
    positions = []
    for row, (view, completion) in enumerate(sequences):
        prompt = len(view.ids)
        ids[row, :prompt] = view.ids
        ids[row, prompt : prompt + len(completion)] = completion
        placeholders[row, :prompt] = model.family.placeholders(model.module, view.ids)
        positions.append(_continued(encodings[view.key].positions, width - prompt))
    features = [encodings[view.key].features for view, _ in sequences]
    present = [each for each in features if each is not None]
    return Rows(ids, _stacked(positions), placeholders if present else None, present)


def flat_positions(sequences: Sequence[Continued], width: int) -> mx.array:
    """The indices, in rows flattened to (B * width), of the states that predict the completions' tokens, (N,)."""
    return mx.array(
        np.concatenate(
            [
                row * width + predicting_positions(len(view.ids), len(completion))
                for row, (view, completion) in enumerate(sequences)
            ]
        ).astype(np.int32)
    )


def _continued(prompt: np.ndarray | None, count: int) -> np.ndarray | None:
    """A prompt's positions (axes, P) with those of `count` more tokens, each one higher on every axis."""
    if prompt is None:
        return None
    following = prompt.max() + 1 + np.arange(count, dtype=prompt.dtype)
    return np.concatenate([prompt, np.tile(following, (prompt.shape[0], 1))], axis=1)


def _stacked(positions: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """Rows' positions (axes, L) as one array (axes, B, L)."""
    return None if positions[0] is None else np.stack(positions, axis=1)
