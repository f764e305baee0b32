"""Gradient checkpointing gives the same gradients from less memory, and leaves nothing behind."""

import gc

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

from random_models import random_model, random_prompt
from vgs_mlx.models import adapters
from vgs_mlx.models.logprobs import completion_hidden
from vgs_mlx.models.recomputing import recomputing
from vgs_mlx.models.rows import Continued, encode
from vgs_mlx.recipe.options import Student


def student(layers: int = 3, kind: str = "lora", **sizes):
    model = random_model(0, layers=layers, **sizes)
    adapters.prepare(model, Student(train=kind, rank=4), seed=1)
    mx.random.seed(3)
    weights = adapters.trainable_weights(model.module)
    moved = {name: value + 0.1 * mx.random.normal(value.shape) for name, value in weights.items()}
    adapters.set_weights(model.module, moved)
    mx.eval(model.module.parameters())
    return model


def gradients(model, length: int = 6):
    """Of a random sum of a completion's hidden states. (That of their squares is constant after the norm.)"""
    view = random_prompt(1).student["with_image"]
    sequence = Continued(view, np.random.default_rng(0).integers(6, 37, length).astype(np.int32))
    encodings = encode(model, [view])

    def loss(weights):
        def inside():
            hidden = completion_hidden(model, [sequence], encodings)
            return (hidden * mx.random.normal(hidden.shape, key=mx.random.key(0))).sum()

        return adapters.call_with(model.module, weights, inside)

    found = mx.value_and_grad(loss)(adapters.trainable_weights(model.module))
    mx.eval(found)
    return found


@pytest.mark.parametrize("kind", ["lora", "dora", "full"])
def test_value_and_gradients_are_the_same(kind):
    model = student(kind=kind)
    value, expected = gradients(model)
    with recomputing(model.family.layers(model.module)):
        again, found = gradients(model)
    assert again.item() == value.item() and expected.keys() == found.keys()
    largest = max(mx.abs(gradient).max().item() for gradient in expected.values())
    assert largest > 0.1
    for name, gradient in expected.items():
        np.testing.assert_allclose(np.array(found[name]), np.array(gradient), atol=1e-5 * largest)


class Counting(nn.Module):
    """A block that counts how often its graph is built."""

    def __init__(self):
        super().__init__()
        self.weight = mx.array(2.0)
        self.calls = [0]

    def __call__(self, x):
        self.calls[0] += 1
        return x * self.weight


def run(layers, x=3.0):
    """The gradient of w1 · w2 · x with respect to (w1, w2)."""

    def product(weights):
        value = mx.array(x)
        for layer, weight in zip(layers, weights, strict=True):
            layer.weight = weight
            value = layer(value)
        return value

    return [each.item() for each in mx.grad(product)([mx.array(2.0), mx.array(5.0)])]


def test_a_layer_is_run_again_in_the_backward_pass_only_inside():
    layers = [Counting(), Counting()]
    assert run(layers) == [15.0, 6.0] and [layer.calls[0] for layer in layers] == [1, 1]
    with recomputing(layers):
        assert run(layers) == [15.0, 6.0]
    assert [layer.calls[0] for layer in layers] == [3, 3]  # forwards, and again on the way back
    assert run(layers) == [15.0, 6.0] and [layer.calls[0] for layer in layers] == [4, 4]


def test_the_class_is_put_back_after_the_body_and_after_an_error():
    layers, original = [Counting()], Counting.__call__
    with recomputing(layers):
        assert Counting.__call__ is not original
    assert Counting.__call__ is original
    with pytest.raises(RuntimeError, match="inside"), recomputing(layers):
        raise RuntimeError("inside")
    assert Counting.__call__ is original


def test_layers_of_another_kind_stay_as_they_are():
    class Other(Counting):
        def __call__(self, x):
            return super().__call__(x)

    untouched = Other.__call__
    with recomputing([Counting()]):
        assert Other.__call__ is untouched


def test_weights_are_the_same_afterwards():
    model = student()
    before = {name: np.array(value) for name, value in adapters.trainable_weights(model.module).items()}
    with recomputing(model.family.layers(model.module)):
        gradients(model)
    for name, value in adapters.trainable_weights(model.module).items():
        np.testing.assert_array_equal(np.array(value), before[name])


def test_a_deep_model_needs_less_memory():
    """10 layers, 400 positions: what a layer computes inside is several times what goes into it."""
    model = student(layers=10)
    layers, peaks = model.family.layers(model.module), []
    for body in (lambda: gradients(model, 400), lambda: recomputed(layers, lambda: gradients(model, 400))):
        mx.clear_cache()
        start = mx.get_active_memory()
        mx.reset_peak_memory()
        body()
        peaks.append(mx.get_peak_memory() - start)
    assert peaks[1] < 0.5 * peaks[0]


def recomputed(layers, body):
    with recomputing(layers):
        return body()


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_a_layer_more_costs_its_input_and_its_gradients_however_many_there_are(kind):
    """The order of the gradients decides what lives: with layer 10 before layer 2, ten layers would be kept."""
    costs = []
    for layers in (12, 24):
        model = student(layers, kind, hidden=64)
        gradients(model, length=200)
        gc.collect()  # what earlier tests left would be given back while this one is measured
        mx.clear_cache()
        mx.reset_peak_memory()
        before = mx.get_active_memory()
        with recomputing(model.family.layers(model.module)):
            gradients(model, length=200)
        costs.append(mx.get_peak_memory() - before)
    trained = sum(value.nbytes for _, value in tree_flatten(model.module.trainable_parameters())) / 24
    a_layers_input = 200 * 64 * 4
    assert (costs[1] - costs[0]) / 12 < 1.5 * (a_layers_input + trained)
