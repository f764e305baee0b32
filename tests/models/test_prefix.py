"""Completions that continue one prefill of their prompt are what rows of their own are: values and gradients."""

from contextlib import nullcontext
from dataclasses import replace

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx_vlm.models import cache as kinds

from random_models import random_completion, random_model, random_prompt
from random_smolvlm import random_smolvlm, random_tiles
from vgs_mlx.models import adapters, caches, prefix
from vgs_mlx.models.logprobs import completion_hidden, taken_logprobs
from vgs_mlx.models.recomputing import recomputing
from vgs_mlx.models.rows import Continued, encode
from vgs_mlx.objective.visual import Views
from vgs_mlx.recipe.options import Student
from vgs_mlx.rollout.sample import Sampling, sample
from vgs_mlx.train.backward import backward
from vgs_mlx.types import Rollout

PROMPTS = {
    "qwen3_vl": [
        random_prompt(1, words=3), random_prompt(2, words=3), random_prompt(3, pictures=2, words=6),
        random_prompt(4, pictures=0, words=5),
    ],
    "smolvlm": [
        random_tiles(1, words=3), random_tiles(2, words=3), random_tiles(3, tiles=3, words=6),
        random_tiles(4, tiles=0, words=5),
    ],
}  # fmt: skip
MODELS = {"qwen3_vl": random_model, "smolvlm": random_smolvlm}
LENGTHS = [
    (5, 1, 7),
    (4, 4),
    (1, 6, 2),
    (3,),
]  # ragged, one token included; the first two prompts are as long
each_family = pytest.mark.parametrize("family", MODELS)


def rollouts(family):
    return [
        Rollout(prompt, random_completion(10 * row + column, length), np.zeros(length, np.float32), True, row)
        for row, (prompt, lengths) in enumerate(zip(PROMPTS[family], LENGTHS, strict=True))
        for column, length in enumerate(lengths)
    ]


def sequences(family, view):
    return [Continued(each.prompt.student[view], each.completion) for each in rollouts(family)]


def adapted(family, kind="lora"):
    model = MODELS[family](0, scale=2.0)
    adapters.prepare(model, Student(train=kind, rank=4), seed=1)
    weights = adapters.trainable_weights(model.module)
    mx.random.seed(2)
    adapters.set_weights(
        model.module, {name: value + 0.1 * mx.random.normal(value.shape) for name, value in weights.items()}
    )
    return model


def both_ways(model, given):
    encodings = encode(model, [view for view, _ in given])
    return [
        np.array(completion_hidden(replace(model, shares_prefix=shared), given, encodings))
        for shared in (True, False)
    ]


@each_family
@pytest.mark.parametrize("view", ["with_image", "text_only"])
@pytest.mark.parametrize("make", [lambda family: MODELS[family](0), adapted], ids=["plain", "lora"])
def test_hidden_states_are_those_of_separate_rows(family, make, view):
    continued, apart = both_ways(make(family), sequences(family, view))
    assert apart.shape == (sum(map(sum, LENGTHS)), 32)
    np.testing.assert_allclose(continued, apart, atol=1e-4)


@each_family
def test_separate_rows_are_what_mlx_vlm_itself_computes(family):
    """Logits of mlx-vlm's own model for a whole row with its picture."""
    model, given = MODELS[family](0), sequences(family, "with_image")[0]
    media = {name: mx.array(array) for name, array in given.view.media.items()}
    whole = mx.array(np.concatenate([given.view.ids, given.completion]))[None]
    stock = model.module(whole, media.pop("pixel_values"), **media).logits[0]
    ours = model.family.logits(model.module, mx.array(both_ways(model, [given])[1]))
    start = len(given.view.ids) - 1
    expected = stock[start : start + len(given.completion)]
    np.testing.assert_allclose(np.array(ours), np.array(expected), atol=1e-3)


@each_family
@pytest.mark.parametrize("checkpointed", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("kind", ["lora", "dora", "full"])
def test_gradients_are_those_of_separate_rows(family, kind, checkpointed):
    model, batch = adapted(family, kind), rollouts(family)
    mx.random.seed(5)
    cotangents = Views(*(mx.random.normal((sum(map(sum, LENGTHS)), 32)) for _ in range(2)))
    encodings = encode(model, [view for each in batch for view in each.prompt.student.values()])
    apart = backward(replace(model, shares_prefix=False), batch, cotangents, encodings)
    with recomputing(model.family.layers(model.module)) if checkpointed else nullcontext():
        continued = backward(model, batch, cotangents, encodings)
    largest = max(float(mx.abs(value).max()) for value in apart.values())
    for name, value in apart.items():
        np.testing.assert_allclose(
            np.array(continued[name]), np.array(value), atol=1e-5 * largest, err_msg=name
        )


@each_family
def test_samples_have_the_log_probs_that_they_are_scored_with(family):
    """Prompts of different lengths share one batch, whose caches are padded on the left."""
    model = MODELS[family](0)
    views = [prompt.student["with_image"] for prompt in PROMPTS[family]]
    encodings = encode(model, views)
    seeds = [[(0, row, column) for column in range(3)] for row in range(len(views))]
    drawn = sample(model, views, seeds, encodings, Sampling(9))
    given = [Continued(view, each.ids) for view, row in zip(views, drawn, strict=True) for each in row]
    scored = np.array(taken_logprobs(model, given, encodings))
    sampled = np.concatenate([each.sampling_logprobs for row in drawn for each in row])
    np.testing.assert_allclose(sampled, scored, atol=1e-4)


@each_family
def test_a_prompt_is_computed_once_for_all_its_completions(family, monkeypatch):
    model, computed = MODELS[family](0), []
    whole = type(model.family).hidden_states

    def counted(family, module, rows, cache=None):
        computed.append(rows.ids.shape)
        return whole(family, module, rows, cache)

    monkeypatch.setattr(type(model.family), "hidden_states", counted)
    both_ways(model, sequences(family, "with_image")[:5])
    length = len(PROMPTS[family][0].student["with_image"].ids)
    assert computed == [(2, length), (5, 6), (5, length + 7)]


def test_a_fork_leaves_what_it_was_made_of_alone():
    """mlx's caches write into their arrays in place: a copy that shared one would write into the other's."""
    model = random_model(0)
    view = PROMPTS["qwen3_vl"][0].student["with_image"]
    begun = prefix.start(model, [view], encode(model, [view]))
    before = [np.array(each) for each in caches.arrays(begun.cache)]
    for row in ([0], [0, 0, 0]):
        forked = prefix.fork(begun, row)
        mx.eval(prefix.states(model, forked, np.full((len(row), 3), 7, dtype=np.int32)))
    for array, kept in zip(caches.arrays(begun.cache), before, strict=True):
        np.testing.assert_array_equal(np.array(array), kept)


@pytest.mark.parametrize("wrapped", [False, True], ids=["states", "a list of caches"])
def test_a_recurrent_layer_is_recomputed_from_the_state_that_it_began_with(wrapped):
    """Its state waits in a list: a copy that shared the list would begin where the first run ended."""

    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = mx.array([[0.5, 0.2], [0.1, 0.4]])

        def __call__(self, hidden, cache):
            states = cache.caches[0] if wrapped else cache
            before = 0.0 if states[0] is None else states[0]
            states[0] = mx.tanh((hidden + before) @ self.weight)
            return 2 * states[0]

    layer, hidden = Recurrent(), mx.array([[1.0, -0.5]])

    def total(weights):
        layer.update(weights)
        states = kinds.ArraysCache(1)
        cache = kinds.CacheList(states) if wrapped else states
        return sum(layer(hidden, cache).sum() for _ in range(3))

    weights = layer.trainable_parameters()
    expected = mx.grad(total)(weights)["weight"]
    with recomputing([layer]):
        found = mx.grad(total)(weights)["weight"]
    np.testing.assert_allclose(np.array(found), np.array(expected), rtol=1e-6)


@each_family
def test_a_head_may_have_an_adapter(family):
    model = random_model(0, tied=False) if family == "qwen3_vl" else MODELS[family](0)
    plain = np.array(model.logits(mx.ones((1, 32))))
    adapters.prepare(model, Student(rank=4, targets=("q_proj", "lm_head")), seed=1)
    np.testing.assert_allclose(np.array(model.logits(mx.ones((1, 32)))), plain, atol=1e-4)
