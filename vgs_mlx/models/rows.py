"""From prompts and completions to the padded rows that a family's model is fed, and back to flat tokens."""

from collections.abc import Sequence
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from vgs_mlx.errors import Refusal
from vgs_mlx.models.base import LoadedModel, Rows
from vgs_mlx.models.features import PictureFeatures
from vgs_mlx.objective.tokens import predicting_positions
from vgs_mlx.types import PromptView


class Encoded(NamedTuple):
    """What a model makes of a view once, for all its completions."""

    features: PictureFeatures | None
    positions: np.ndarray  # (axes, P) int32


Encodings = dict[int, Encoded]
"""By the `id` of the view they belong to."""


class Continued(NamedTuple):
    """A prompt in one view, followed by a completion."""

    view: PromptView
    completion: np.ndarray  # (T,); empty for the prompt alone


def encode(model: LoadedModel, views: Sequence[PromptView]) -> Encodings:
    """Run the vision tower once for each distinct view with pictures. Lazy: evaluate to share it."""
    distinct = {id(view): view for view in views}
    return {key: _encoded(model, view) for key, view in distinct.items()}


def _encoded(model: LoadedModel, view: PromptView) -> Encoded:
    features = _features(model, view)
    made = 0 if features is None else features.embeddings.shape[0]
    places = int(model.family.placeholders(model.module, view.ids).sum())
    if made != places:  # they would be put at wrong places, or nowhere
        raise Refusal(
            f"{model.name}: a prompt has {places} placeholders for {made} picture features: "
            "the placeholder id or the patch sizes in its config.json are not those of the processor: "
            "take a student and a teacher of one model family and release"
        )
    return Encoded(features, model.family.positions(model.module, view))


def _features(model: LoadedModel, view: PromptView) -> PictureFeatures | None:
    if model.pictures is None or view.pixel_values is None:
        return model.family.encode_pictures(model.module, view)
    return model.pictures.features(
        model.module, view, lambda: model.family.encode_pictures(model.module, view)
    )


def evaluate(encodings: Encodings) -> Encodings:
    """The same encodings, computed now: one view after the other, so that one picture's attention exists at a time."""
    for each in encodings.values():
        if each.features:
            mx.eval(each.features.arrays())
    return encodings


def build(model: LoadedModel, sequences: Sequence[Continued], encodings: Encodings) -> Rows:
    """Right-padded rows of the sequences with their positions and picture features."""
    width = max(len(view.ids) + len(completion) for view, completion in sequences)
    ids = np.zeros((len(sequences), width), dtype=np.int32)
    placeholders = np.zeros(ids.shape, dtype=bool)
    positions = []
    for row, (view, completion) in enumerate(sequences):
        prompt = len(view.ids)
        ids[row, :prompt] = view.ids
        ids[row, prompt : prompt + len(completion)] = completion
        placeholders[row, :prompt] = model.family.placeholders(model.module, view.ids)
        positions.append(continue_positions(encodings[id(view)].positions, width - prompt))
    features = [encodings[id(view)].features for view, _ in sequences]
    present = [each for each in features if each is not None]
    return Rows(ids, np.stack(positions, axis=1), placeholders, present)


def continue_positions(prompt: np.ndarray, count: int) -> np.ndarray:
    """A prompt's positions (axes, P) with those of `count` more tokens: each one more, on every axis."""
    axes = prompt.shape[0]
    following = prompt.max() + 1 + np.arange(count, dtype=prompt.dtype)
    return np.concatenate([prompt, np.tile(following, (axes, 1))], axis=1)


def flat_positions(sequences: Sequence[Continued], width: int) -> mx.array:
    """Where, in (B * width) flattened rows, the states stand that predict the completions' tokens, (N,)."""
    return mx.array(
        np.concatenate(
            [
                row * width + predicting_positions(len(view.ids), len(completion))
                for row, (view, completion) in enumerate(sequences)
            ]
        ).astype(np.int32)
    )
