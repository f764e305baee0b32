"""AdamW as the formula has it, its schedules, and a state that goes on exactly after it was saved."""

import math
from types import SimpleNamespace

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_unflatten

from vgs_mlx.errors import Refusal
from vgs_mlx.recipe import file as recipe_file
from vgs_mlx.recipe.options import Train
from vgs_mlx.train import optimizer as adamw
from vgs_mlx.train import setup

B1, B2, EPSILON = 0.9, 0.999, 1e-8


def student():
    """Stands for a loaded model: two arrays that train and one that doesn't."""
    module = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2, bias=False))
    module.layers[0].weight = mx.array([[1.0, -2.0, 3.0], [0.5, 0.0, -0.5]])
    module.layers[0].bias = mx.array([1.0, -1.0])
    module.layers[1].freeze()
    return SimpleNamespace(module=module)


def gradients(step):
    """Different ones at every step, over five decades."""
    rng = np.random.default_rng(step)
    return {
        "layers.0.weight": rng.normal(size=(2, 3)) * 10.0 ** rng.integers(-5, 1, (2, 3)),
        "layers.0.bias": rng.normal(size=2),
    }


def as_arrays(tree):
    return {name: mx.array(value.astype(np.float32)) for name, value in tree.items()}


def weights(model):
    return {
        "layers.0.weight": np.array(model.module.layers[0].weight),
        "layers.0.bias": np.array(model.module.layers[0].bias),
    }


def by_hand(start, steps, rates, decay):
    """Loshchilov & Hutter 2019 with bias correction, in float64."""
    found = {name: value.astype(np.float64) for name, value in start.items()}
    first = {name: np.zeros_like(value) for name, value in found.items()}
    second = {name: np.zeros_like(value) for name, value in found.items()}
    for step in range(1, steps + 1):
        for name, gradient in gradients(step).items():
            first[name] = B1 * first[name] + (1 - B1) * gradient
            second[name] = B2 * second[name] + (1 - B2) * gradient**2
            mean, square = first[name] / (1 - B1**step), second[name] / (1 - B2**step)
            rate = rates[step - 1]
            found[name] -= rate * (mean / (np.sqrt(square) + EPSILON) + decay * found[name])
    return found


def rates(settings, steps):
    """The learning rate of each update."""
    model = student()
    optimizer = adamw.make(settings, model)
    found = []
    for step in range(steps):
        adamw.update(optimizer, model, as_arrays(gradients(step)))
        found.append(float(optimizer.learning_rate))
    return found


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_the_updates_are_the_formula_s(decay, schedule):
    model = student()
    settings = Train(steps=6, learning_rate=1e-2, weight_decay=decay, schedule=schedule, warmup_steps=2)
    optimizer = adamw.make(settings, model)
    expected = by_hand(weights(model), 6, rates(settings, 6), decay)
    for step in range(1, 7):
        adamw.update(optimizer, model, as_arrays(gradients(step)))
    for name, value in weights(model).items():
        np.testing.assert_allclose(value, expected[name], rtol=2e-5, atol=1e-7)


def test_the_first_update_moves_every_weight_by_the_learning_rate():
    """With bias correction the first step is lr·sign(gradient), whatever the gradient's size."""
    model = student()
    before = weights(model)
    adamw.update(
        adamw.make(Train(learning_rate=1e-3, weight_decay=0.0), model), model, as_arrays(gradients(0))
    )
    for name, gradient in gradients(0).items():
        np.testing.assert_allclose(weights(model)[name] - before[name], -1e-3 * np.sign(gradient), rtol=2e-3)


def test_what_does_not_train_does_not_move():
    model = student()
    before = np.array(model.module.layers[1].weight)
    adamw.update(adamw.make(Train(learning_rate=1.0), model), model, as_arrays(gradients(0)))
    assert np.array_equal(before, np.array(model.module.layers[1].weight))


def test_constant_without_warm_up_is_the_learning_rate_always():
    assert rates(Train(learning_rate=1e-3, steps=3), 5) == pytest.approx([1e-3] * 5)


def test_the_warm_up_climbs_linearly_and_meets_what_follows():
    found = rates(Train(learning_rate=1e-3, steps=10, warmup_steps=4), 7)
    assert found[0] == pytest.approx(1e-3 / 4)
    assert np.diff(found[:5]) == pytest.approx([found[1] - found[0]] * 4)
    assert found[4:] == pytest.approx([1e-3] * 3)


def test_the_cosine_goes_from_the_peak_to_nothing_after_the_last_step():
    found = rates(Train(learning_rate=1.0, steps=8, schedule="cosine"), 10)
    expected = [(1 + math.cos(math.pi * step / 8)) / 2 for step in range(8)]
    assert found[:8] == pytest.approx(expected, abs=1e-6)
    assert found[8:] == pytest.approx([0.0, 0.0], abs=1e-6)


def test_a_cosine_after_a_warm_up_starts_at_the_peak():
    found = rates(Train(learning_rate=1.0, steps=10, schedule="cosine", warmup_steps=2), 10)
    expected = [(1 + math.cos(math.pi * step / 8)) / 2 for step in range(8)]
    assert found[2:] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize("name", ["vgs", "grpo"])
def test_the_last_step_at_least_has_the_whole_rate_or_the_run_is_refused(name, schedule):
    sets = (f"objective.name={name}", f"train.schedule={schedule}", "train.steps=5")
    for warmup_steps in (0, 4, 5, 6):
        recipe = recipe_file.load_recipe(None, [*sets, f"train.warmup_steps={warmup_steps}"])
        if warmup_steps < 5:
            setup.refuse_contradictions(recipe)
            assert max(rates(recipe.train, 5)) == pytest.approx(recipe.train.learning_rate)
        else:
            with pytest.raises(
                Refusal, match=f"train.warmup_steps={warmup_steps}: .* such as train.warmup_steps=0"
            ):
                setup.refuse_contradictions(recipe)


def state(optimizer):
    """What a checkpoint holds of an optimiser."""
    return dict(tree_flatten(optimizer.state))


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_a_saved_state_goes_on_to_the_bit(schedule, tmp_path):
    settings = Train(learning_rate=1e-2, steps=6, schedule=schedule, warmup_steps=1)
    straight = student()
    optimizer = adamw.make(settings, straight)
    for step in range(3):
        adamw.update(optimizer, straight, as_arrays(gradients(step)))
    mx.save_safetensors(str(tmp_path / "optim.safetensors"), state(optimizer))
    resumed = student()
    resumed.module.update(straight.module.parameters())
    other = adamw.make(settings, resumed)
    other.state = tree_unflatten(list(mx.load(str(tmp_path / "optim.safetensors")).items()))
    for step in range(3, 6):
        adamw.update(optimizer, straight, as_arrays(gradients(step)))
        adamw.update(other, resumed, as_arrays(gradients(step)))
        assert all(np.array_equal(value, weights(resumed)[name]) for name, value in weights(straight).items())
    assert all(mx.array_equal(value, state(other)[name]) for name, value in state(optimizer).items())


def test_the_state_holds_moments_step_and_rate_of_what_trains():
    model = student()
    names = set(state(adamw.make(Train(), model)))
    assert names == {
        "step", "learning_rate", "layers.0.weight.m", "layers.0.weight.v", "layers.0.bias.m", "layers.0.bias.v"
    }  # fmt: skip


def test_an_update_needs_little_memory_beside_weights_moments_and_gradients():
    """Old weights and gradients are freed one after the other, so that 16 layers need little more than one."""
    model = SimpleNamespace(module=nn.Sequential(*[nn.Linear(256, 256, bias=False) for _ in range(16)]))
    optimizer = adamw.make(Train(), model)
    mx.eval(model.module.parameters(), optimizer.state)
    tree = {f"layers.{layer}.weight": mx.random.normal((256, 256)) for layer in range(16)}
    mx.eval(tree)
    size = sum(value.nbytes for value in tree.values())
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    adamw.update(optimizer, model, tree)
    assert mx.get_peak_memory() - before < 0.5 * size
    assert mx.get_active_memory() - before < -0.9 * size  # the gradients are gone
