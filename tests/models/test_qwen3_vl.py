"""The family file computes what stock mlx-vlm computes, picture by picture and row by row."""

import functools
from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.models.cache import KVCache
from PIL import Image

from random_models import IMAGE, VISION_START, VOCABULARY, random_completion, random_model, random_prompt
from vgs_mlx.data.prompts import render
from vgs_mlx.models.base import LoadedModel
from vgs_mlx.models.families.qwen3_vl import FAMILY as qwen3_vl
from vgs_mlx.models.loading import load_model
from vgs_mlx.models.logprobs import compute_logprobs
from vgs_mlx.models.probes import _inverted as inverted
from vgs_mlx.models.rows import Continued, encode
from vgs_mlx.models.rows import separate as build
from vgs_mlx.recipe.options import Data
from vgs_mlx.types import Example, Picture, View

MODELS = ("random-tied", "random-untied", "embedded:student", "embedded:teacher")
KINDS = ("no picture", "one picture", "two pictures", "text view")


@functools.cache
def model_named(name: str) -> LoadedModel:
    if name.startswith("embedded:"):
        return load_model(name, "--student", say=lambda _: None)
    return random_model(0, tied=name == "random-tied")


def noise(seed: int, width: int, height: int) -> Picture:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Picture(f"noise-{seed}", lambda: Image.fromarray(pixels))


def two_sizes(seed: int) -> View:
    """Random ids around two pictures of different sizes: 2x2 and 2x4 image tokens."""
    rng = np.random.default_rng(seed)
    words = rng.integers(6, VOCABULARY, 9).tolist()
    ids = [*words[:2], VISION_START, *[IMAGE] * 4, *words[2:5], VISION_START, *[IMAGE] * 8, *words[5:]]
    grid = np.array([[1, 4, 4], [1, 4, 8]])
    pixels = rng.normal(size=(16 + 32, 3 * 2 * 4 * 4)).astype(np.float32)
    return View(np.array(ids, dtype=np.int32), {"pixel_values": pixels, "image_grid_thw": grid})


@functools.cache
def view_of(name: str, kind: str) -> View:
    """A prompt of that kind for that model; pictures of two sizes."""
    if name.startswith("random"):
        plain = random_prompt(1, pictures=0 if kind == "no picture" else 1, words=6)
        return {"two pictures": two_sizes(2), "text view": plain.student["text_only"]}.get(
            kind, plain.student["with_image"]
        )
    one, two = noise(1, 72, 72), noise(2, 96, 48)
    pictures = {"no picture": (), "two pictures": (one, two)}.get(kind, (one,))
    example = Example(id="row", question="What is in the picture?", answer="1", pictures=pictures)
    settings = Data(system_prompt="Look.", max_pixels=None)
    prompt = render(model_named(name).processor, example, settings)
    return prompt.student["text_only"] if kind == "text view" else prompt.student["with_image"]


def completion(length: int = 7) -> np.ndarray:
    """Ordinary words of all these models' vocabularies: no placeholders."""
    return np.random.default_rng(3).integers(10, VOCABULARY, length).astype(np.int32)


def stock(model: LoadedModel, sequence: Continued) -> np.ndarray:
    """Logits (L, V) of mlx-vlm's own whole forward pass over one row."""
    view, following = sequence
    pictures = {} if (not view.media) else {
        "pixel_values": mx.array(view.media["pixel_values"]), "image_grid_thw": mx.array(view.media["image_grid_thw"])
    }  # fmt: skip
    ids = mx.array(np.concatenate([view.ids, following]))[None]
    return np.array(model.module(ids, **pictures).logits[0, :, : model.vocabulary])


def ours(model: LoadedModel, sequences: list[Continued], encodings=None) -> list[np.ndarray]:
    """Logits (L, V) of each row, padding cut off."""
    encodings = encodings or encode(model, [view for view, _ in sequences])
    rows = build(model, sequences, encodings)
    logits = np.array(model.logits(model.family.hidden_states(model.module, rows)))
    return [row[: len(view.ids) + len(text)] for row, (view, text) in zip(logits, sequences, strict=True)]


def close(left: np.ndarray, right: np.ndarray) -> bool:
    """Equal within 1e-5 of the largest logit."""
    return bool(np.abs(left - right).max() <= 1e-5 * max(1.0, np.abs(right).max()))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MODELS)
def test_logits_equal_those_of_stock_mlx_vlm(name, kind):
    model, sequence = model_named(name), Continued(view_of(name, kind), completion())
    expected = stock(model, sequence)
    assert close(ours(model, [sequence])[0], expected)
    assert expected.std() > 1e-3  # not all alike


@pytest.mark.parametrize("name", MODELS)
def test_every_row_of_a_mixed_batch_equals_stock_alone(name):
    """Prompts with one, no and two pictures, ragged: each picture must land in its own row."""
    model = model_named(name)
    kinds = ("one picture", "no picture", "two pictures", "text view", "two pictures")
    sequences = [Continued(view_of(name, kind), completion(3 + 2 * at)) for at, kind in enumerate(kinds)]
    for sequence, found in zip(sequences, ours(model, sequences), strict=True):
        assert close(found, stock(model, sequence))


@pytest.mark.parametrize("kind", ["one picture", "two pictures"])
@pytest.mark.parametrize("name", MODELS)
def test_pictures_count_and_so_do_their_deepstack_features(name, kind):
    """Else the comparisons with stock would pass whatever is done with them."""
    model, sequence = model_named(name), Continued(view_of(name, kind), completion())
    whole = ours(model, [sequence])[0]
    encodings = encode(model, [sequence.view])
    [key] = encodings
    features = encodings[key].features
    assert len(features.levels) == len(model.module.config.vision_config.deepstack_visual_indexes) > 0
    shallow = {key: encodings[key]._replace(features=replace(features, levels=()))}
    blind = {key: encodings[key]._replace(features=replace(features, embeddings=0 * features.embeddings))}
    for changed in (shallow, blind):
        assert not close(ours(model, [sequence], changed)[0], whole)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["random-tied", "embedded:student"])
def test_positions_of_prompt_and_completion_equal_stock(name, kind):
    model, view = model_named(name), view_of(name, kind)
    rows = build(model, [Continued(view, completion())], encode(model, [view]))
    grid = None if (not view.media) else mx.array(view.media["image_grid_thw"])
    expected, _ = model.module.language_model.get_rope_index(mx.array(rows.ids), grid)
    np.testing.assert_array_equal(rows.positions, np.broadcast_to(np.array(expected), rows.positions.shape))


def test_positions_of_a_picture_by_eye():
    """Two words, the start token, 2x2 image tokens, a word: the picture spans 2 positions on each axis."""
    model = random_model(0)
    ids = np.array([7, 8, VISION_START, *[IMAGE] * 4, 9], dtype=np.int32)
    media = {"pixel_values": np.zeros((16, 96), dtype=np.float32), "image_grid_thw": np.array([[1, 4, 4]])}
    view = View(ids, media)
    time, height, width = qwen3_vl.positions(model.module, view).tolist()
    assert time == [0, 1, 2, 3, 3, 3, 3, 5]
    assert height == [0, 1, 2, 3, 3, 4, 4, 5]
    assert width == [0, 1, 2, 3, 4, 3, 4, 5]


@pytest.mark.parametrize("name", ["random-tied", "embedded:student"])
def test_equal_views_are_encoded_once_whatever_objects_they_are(name):
    model, view = model_named(name), view_of(name, "two pictures")
    again = replace(view, ids=view.ids.copy())
    shared = [Continued(view, completion(4)), Continued(again, completion(9))]
    assert len(encode(model, [each for each, _ in shared])) == 1
    assert len(encode(model, [view, inverted(view)])) == 2
    for sequence, found in zip(shared, ours(model, shared), strict=True):
        assert close(found, stock(model, sequence))


def test_a_picture_reaches_only_its_own_row():
    """Other pixels in one prompt move its own log-probs and no other's."""
    model = random_model(0)
    prompts = [
        random_prompt(seed, pictures=1 + seed % 2, words=4 + seed).student["with_image"] for seed in range(3)
    ]
    sequences = [Continued(view, random_completion(at, 5)) for at, view in enumerate(prompts)]
    changed = [*sequences]
    changed[0] = Continued(inverted(prompts[0]), sequences[0].completion)
    before, after = (
        np.array(compute_logprobs(model, each)[0]).reshape(3, 5, -1) for each in (sequences, changed)
    )
    moved = np.abs(after - before).max(axis=(1, 2))
    assert moved[0] > 0.1
    assert moved[1:].max() < 1e-5


@pytest.mark.parametrize("name", MODELS)
def test_a_cached_prompt_continues_as_if_it_were_one_row(name):
    model, view = model_named(name), view_of(name, "one picture")
    sequence = Continued(view, completion())
    rows = build(model, [sequence], encode(model, [view]))
    cut, cache = len(view.ids) + 2, [KVCache() for _ in model.family.layers(model.module)]
    parts = [
        replace(rows, ids=rows.ids[:, :cut], positions=rows.positions[..., :cut],
                placeholders=rows.placeholders[:, :cut]),
        replace(rows, ids=rows.ids[:, cut:], positions=rows.positions[..., cut:],
                placeholders=rows.placeholders[:, cut:], features=()),
    ]  # fmt: skip
    found = [
        np.array(model.logits(model.family.hidden_states(model.module, part, cache)))[0] for part in parts
    ]
    assert close(np.concatenate(found), stock(model, sequence))


@pytest.mark.parametrize("name", MODELS)
def test_placeholders_and_surplus_rows_are_outside_the_support(name):
    model = model_named(name)
    support = np.array(model.support())
    config = model.module.config
    assert not support[[config.image_token_id, config.video_token_id]].any()
    assert support.sum() == len(support) - 2  # all others can be answered
    assert model.logits(mx.zeros((1, config.text_config.hidden_size))).shape == (1, len(support))


@pytest.mark.parametrize("name", MODELS)
def test_the_named_head_is_the_one_that_is_used(name):
    model = model_named(name)
    head = dict(model.module.named_modules())[qwen3_vl.head_path(model.module)]
    hidden = mx.random.normal((3, model.module.config.text_config.hidden_size))
    found = np.array(qwen3_vl.logits(model.module, hidden))
    np.testing.assert_allclose(found, np.array(hidden @ head.weight.T), rtol=1e-5, atol=1e-5)


def test_the_answerable_ids_are_listed_once():
    model = random_model(0)
    assert model.support() is model.support()
