"""A packed row gives exactly what separate rows give: hidden states, log-probs and gradients."""

from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest

from random_models import random_completion, random_model, random_prompt
from vgs_mlx.models import adapters
from vgs_mlx.models.logprobs import completion_hidden
from vgs_mlx.models.packing import build_packed, groups
from vgs_mlx.models.rows import Continued, encode
from vgs_mlx.objective.tokens import packed_predicting_positions
from vgs_mlx.objective.visual import Views
from vgs_mlx.recipe.options import Student
from vgs_mlx.train.backward import backward
from vgs_mlx.types import Rollout

PROMPTS = [
    random_prompt(1, words=3),
    random_prompt(2, pictures=2, words=6),
    random_prompt(3, pictures=0, words=5),
]
LENGTHS = [(5, 1, 7), (4, 4), (1, 6, 2)]  # ragged, one token included


def sequences(view):
    return [
        Continued(vars(prompt)[view], random_completion(10 * row + column, length))
        for row, (prompt, lengths) in enumerate(zip(PROMPTS, LENGTHS, strict=True))
        for column, length in enumerate(lengths)
    ]


def adapted(kind="lora"):
    model = random_model(0, scale=2.0)
    adapters.prepare(model, Student(train=kind, rank=4), seed=1)
    weights = adapters.trainable_weights(model.module)
    mx.random.seed(2)
    adapters.set_weights(
        model.module, {name: value + 0.1 * mx.random.normal(value.shape) for name, value in weights.items()}
    )
    return model


@pytest.mark.parametrize("view", ["with_image", "text_only"])
@pytest.mark.parametrize("make", [lambda: random_model(0), adapted], ids=["plain", "lora"])
def test_packed_hidden_states_equal_those_of_separate_rows(make, view):
    model, given = make(), sequences(view)
    encodings = encode(model, [view for view, _ in given])
    apart = completion_hidden(model, given, encodings)
    packed = completion_hidden(replace(model, packs=True), given, encodings)
    assert apart.shape == (sum(map(sum, LENGTHS)), 32)
    np.testing.assert_allclose(np.array(packed), np.array(apart), atol=1e-4)


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_packed_gradients_equal_those_of_separate_rows(kind):
    model = adapted(kind)
    batch = [
        Rollout(
            prompt, random_completion(10 * row + column, length), np.zeros(length, dtype=np.float32), True
        )
        for row, (prompt, lengths) in enumerate(zip(PROMPTS, LENGTHS, strict=True))
        for column, length in enumerate(lengths)
    ]
    mx.random.seed(5)
    cotangents = Views(*(mx.random.normal((sum(map(sum, LENGTHS)), 32)) for _ in range(2)))
    views = [view for prompt in PROMPTS for view in (prompt.with_image, prompt.text_only)]
    apart = backward(model, batch, cotangents, encode(model, views))
    packed = backward(replace(model, packs=True), batch, cotangents, encode(model, views))
    largest = max(float(mx.abs(value).max()) for value in apart.values())
    for name, value in apart.items():
        np.testing.assert_allclose(np.array(packed[name]), np.array(value), atol=1e-5 * largest, err_msg=name)


def test_a_prompt_is_computed_once_for_all_its_completions():
    model, given = random_model(0), sequences("with_image")
    rows, _ = build_packed(model, given, encode(model, [view for view, _ in given]))
    assert rows.ids.shape == (
        3,
        max(len(p.with_image.ids) + sum(n) for p, n in zip(PROMPTS, LENGTHS, strict=True)),
    )
    assert [len(group) for group in groups(given)] == [3, 2, 3]


def test_every_completion_is_predicted_from_the_prompts_end_on():
    assert packed_predicting_positions(4, [3, 1, 2]).tolist() == [3, 4, 5, 3, 3, 8]
