"""Fusing: a plain model that computes what the adapted one does, with everything else left as it was."""

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten
from mlx_vlm.trainer.peft.dora_layers import DoRALinear
from mlx_vlm.trainer.peft.lora_layers import LoRALinear

from random_models import random_model
from vgs_mlx.exporting import fusing
from vgs_mlx.models import adapters, precision
from vgs_mlx.recipe.options import Student

ROWS, COLUMNS = 96, 128
PARTS = ("scales", "biases")  # of a packed layer, besides its weight
QUERIES, KEYS = (f"language_model.model.layers.0.self_attn.{name}_proj" for name in "qk")


def plain_layer(*, bias: bool = False) -> nn.Linear:
    mx.random.seed(0)
    layer = nn.Linear(COLUMNS, ROWS, bias=bias)
    if bias:
        layer.bias = mx.random.normal((ROWS,))
    return layer


def adapted(layer: nn.Module, kind: type) -> nn.Module:
    """The layer with an adapter that has learnt something."""
    found = kind.from_base(layer, r=4, scale=2.0)
    found.lora_b = 0.1 * mx.random.normal(found.lora_b.shape)
    if kind is DoRALinear:
        found.m = found.m * mx.random.uniform(0.5, 2.0, found.m.shape)
    return found


def student(train: str = "lora", *, bits: int | None = None, **settings):
    model = random_model(hidden=64)
    if bits:
        precision.quantise_language(model.module, bits)
    adapters.prepare(model, Student(train=train, rank=4, **settings), seed=0)
    return model.module


def equal(first: mx.array, second: mx.array) -> bool:
    return first.dtype == second.dtype and bool(mx.array_equal(first, second))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kind", [LoRALinear, DoRALinear])
def test_the_fused_layer_computes_what_the_adapted_one_does(kind, bias):
    layer = adapted(plain_layer(bias=bias), kind)
    fused = plain_layer(bias=bias)
    fused.weight = fusing.fused_weight(layer)
    x = mx.random.normal((5, COLUMNS))
    assert not np.allclose(layer(x), plain_layer(bias=bias)(x), atol=0.05)
    np.testing.assert_allclose(fused(x), layer(x), atol=2e-6)


def test_the_update_keeps_float32_where_bfloat16_would_round_it_off():
    layer = adapted(plain_layer(), LoRALinear)
    layer.linear.weight = layer.linear.weight.astype(mx.bfloat16)
    layer.lora_b = layer.lora_b * 1e-4
    update = layer.scale * (layer.lora_a @ layer.lora_b).T
    moved = fusing.fused_weight(layer) - layer.linear.weight
    np.testing.assert_allclose(moved, update, atol=1e-8)


def test_unpacking_rounds_nothing():
    module = nn.Sequential(plain_layer().to_quantized(64, 4))
    module.update({"layers": [{k: module.layers[0][k].astype(mx.bfloat16) for k in PARTS}]})
    packed = module.layers[0]
    steps = mx.dequantize(packed.weight, mx.ones((ROWS, 2)), mx.zeros((ROWS, 2)), group_size=64, bits=4)
    scales, biases = (np.repeat(np.array(packed[k].astype(mx.float32)), 64, axis=1) for k in PARTS)
    expected = np.array(steps) * scales + biases
    precision.in_float32(module)
    assert module.layers[0].weight.dtype == mx.float32
    np.testing.assert_allclose(module.layers[0].weight, expected, rtol=1e-6, atol=1e-7)


def test_only_what_training_may_change_is_given_back():
    lora = fusing.changed_weights(student("lora", targets=("q_proj", "down_proj")))
    assert {name.split(".")[-2] for name in lora} == {"q_proj", "down_proj"}
    vision = fusing.changed_weights(student("lora", train_vision=True, targets=("q_proj",)))
    assert {name.split(".")[0] for name in vision.keys() - lora.keys()} == {"vision_tower"}
    names = {name for name, _ in tree_flatten(random_model(hidden=64).module.parameters())}
    assert vision.keys() <= names
    full = fusing.changed_weights(student("full"))
    assert full.keys() == {name for name in names if name.startswith("language_model.")}


def test_everything_else_stays_as_it_was_stored_bit_for_bit():
    module = random_model(hidden=64).module
    precision.quantise_language(module, 4)
    before = dict(tree_flatten(module.parameters()))
    fusing.put(module, {f"{QUERIES}.weight": mx.ones((32, 64))}, mx.float16)
    after = dict(tree_flatten(module.parameters()))
    assert equal(after.pop(f"{QUERIES}.weight"), mx.ones((32, 64), mx.float16))
    assert before.keys() - after.keys() == {f"{QUERIES}.{part}" for part in ("weight", *PARTS)}
    assert all(equal(after[name], before[name]) for name in after)


def test_packing_leaves_the_vision_tower_and_packed_layers_alone():
    module = random_model(hidden=64).module
    precision.quantise_language(module, 8)
    fusing.put(module, {f"{QUERIES}.weight": mx.ones((32, 64))}, mx.float32)
    precision.quantise_language(module, 4)
    layers = dict(module.named_modules())
    bits = {path: layers[path].bits for path in fusing.packed_layers(module)}
    assert bits.pop(QUERIES) == 4
    assert set(bits.values()) == {8}
    assert not any("vision" in path for path in bits)


def test_the_config_names_layers_packed_unlike_the_others_and_forgets_plain_ones():
    module = random_model(hidden=64).module
    precision.quantise_language(module, 8)
    fusing.put(module, {f"{QUERIES}.weight": mx.ones((32, 64))}, mx.float32)
    precision.quantise_language(module, 4)
    fusing.put(module, {f"{KEYS}.weight": mx.ones((16, 64))}, mx.float32)
    stale = {"group_size": 64, "bits": 8, KEYS: {"group_size": 64, "bits": 2}}
    found = fusing.fused_config({"model_type": "qwen3_vl", "quantization": stale}, module)
    usual = {"group_size": 64, "bits": 8, "mode": "affine"}
    assert found["quantization"] == found["quantization_config"] == usual | {QUERIES: usual | {"bits": 4}}
    assert found["model_type"] == "qwen3_vl"


def test_a_model_without_packed_layers_has_no_quantization_in_its_config():
    packing = {"quantization": {"bits": 4}, "quantization_config": {}}
    config = {"text_config": {"quantization_config": {}, "a": 1}, **packing}
    assert fusing.fused_config(config, random_model().module) == {"text_config": {"a": 1}}


def test_the_own_dtype_is_that_of_most_weights():
    module = random_model(hidden=64).module
    module.language_model.update({"model": {"norm": {"weight": mx.ones((64,), mx.float16)}}})
    assert fusing.own_dtype(module) == mx.float32
    module.set_dtype(mx.bfloat16)
    precision.quantise_language(module, 4)
    assert fusing.own_dtype(module) == mx.bfloat16
