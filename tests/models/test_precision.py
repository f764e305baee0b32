"""What numbers hold the weights: nothing is rounded on the way to float32, and one line says what was done."""

from dataclasses import replace

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

from model_folders import copied, embedded_logprobs, load
from vgs_mlx import device
from vgs_mlx.data import shapes
from vgs_mlx.data.prompts import render
from vgs_mlx.errors import Refusal
from vgs_mlx.models.letting_go import letting_go
from vgs_mlx.models.logprobs import separate_hidden
from vgs_mlx.models.precision import in_float32, is_quantised, stored_as, widened
from vgs_mlx.models.rows import Continued, encode, evaluate
from vgs_mlx.recipe.options import Data


@pytest.fixture
def cpu(monkeypatch):
    """What holds on the CPU build, wherever the tests run."""
    monkeypatch.setattr(device, "backend", lambda: "cpu")
    monkeypatch.delenv(device.KEEP_PRECISION, raising=False)


def said(path, **options):
    lines = []
    return load(path, say=lines.append, **options), lines


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16])
def test_on_the_cpu_half_precision_becomes_float32_and_one_line_says_so(tmp_path, cpu, dtype):
    folder = copied(tmp_path / "model", dtype=dtype)
    model, lines = said(folder)
    assert {value.dtype for _, value in tree_flatten(model.module.parameters())} == {mx.float32}
    [line] = lines
    assert str(dtype).removeprefix("mlx.core.") in line and "run as float32" in line and "\n" not in line


def test_on_the_cpu_packed_layers_become_plain_ones_and_one_line_says_so(cpu):
    model, lines = said("embedded:teacher")
    assert not is_quantised(model.module)
    [line] = lines
    assert "4/8-bit" in line and "run as float32" in line


def test_nothing_is_rounded_on_the_way_to_float32(cpu):
    """A packed weight is scale * integer + bias: in float32 that is exact, in the scales' bfloat16 it isn't."""
    packed = load("embedded:teacher", native=True).module.language_model.model.layers[0].mlp.up_proj
    sizes = {"group_size": packed.group_size, "bits": packed.bits}
    scales, biases = packed.scales.astype(mx.float32), packed.biases.astype(mx.float32)
    exact = mx.dequantize(packed.weight, scales, biases, **sizes)
    found = load("embedded:teacher").module.language_model.model.layers[0].mlp.up_proj.weight
    assert mx.array_equal(found, exact)
    rounded = mx.dequantize(packed.weight, packed.scales, packed.biases, **sizes)
    assert packed.scales.dtype == mx.float32 or not mx.array_equal(found, rounded.astype(mx.float32))


def test_a_float32_checkpoint_is_taken_as_it_is_and_nothing_said(tmp_path, cpu):
    assert said(copied(tmp_path / "model", dtype=mx.float32))[1] == []


def test_the_environment_keeps_the_stored_precision_on_the_cpu_and_one_line_says_so(cpu, monkeypatch):
    monkeypatch.setenv(device.KEEP_PRECISION, "1")
    model, lines = said("embedded:teacher")
    stored = load("embedded:teacher", native=True).module
    assert stored_as(model.module) == stored_as(stored) == ["4/8-bit", "bfloat16"]
    [line] = lines
    assert "4/8-bit and bfloat16" in line and "VGS_MLX_KEEP_PRECISION=1" in line and "slower" in line


@pytest.mark.parametrize(("set_to", "widens"), [("", True), ("0", True), ("1", False)])
def test_no_accelerator_widens_and_the_cpu_does_unless_told_otherwise(set_to, widens, monkeypatch):
    monkeypatch.setenv(device.KEEP_PRECISION, set_to)
    found = {kind: device.widens(kind) for kind in ("cpu", "metal", "cuda")}
    assert found == {"cpu": widens, "metal": False, "cuda": False}


def test_another_word_for_keeping_the_precision_is_refused(monkeypatch):
    monkeypatch.setenv(device.KEEP_PRECISION, "yes")
    with pytest.raises(Refusal, match="VGS_MLX_KEEP_PRECISION=yes: set it to 1 or 0"):
        load("embedded:student")


def test_native_keeps_the_numbers_of_the_checkpoint(tmp_path, cpu):
    model, lines = said(copied(tmp_path / "model", dtype=mx.float16), native=True)
    assert {value.dtype for _, value in tree_flatten(model.module.parameters())} == {mx.float16}
    assert lines == [] and is_quantised(load("embedded:teacher", native=True).module)


@pytest.mark.parametrize("bits", [4, 8])
def test_bits_pack_the_language_model_and_leave_vision_alone(tmp_path, bits):
    folder = copied(tmp_path / "model", dtype=mx.float32)
    plain, packed = (load(folder, bits=each, native=True)
                     for each in (None, bits))  # fmt: skip
    layers = dict(packed.module.named_modules())
    kinds = (nn.QuantizedLinear, nn.QuantizedEmbedding)
    found = {path for path, layer in layers.items() if isinstance(layer, kinds)}
    expected = {path for path, layer in plain.module.language_model.named_modules()
                if isinstance(layer, (nn.Linear, nn.Embedding)) and layer.weight.shape[1] % 64 == 0}  # fmt: skip
    assert found == {f"language_model.{path}" for path in expected} and len(found) > 10
    assert {layers[path].bits for path in found} == {bits}
    for name, value in tree_flatten(plain.module.vision_tower.parameters()):
        assert mx.array_equal(value, dict(tree_flatten(packed.module.vision_tower.parameters()))[name])


@pytest.mark.parametrize("bits", [4, 8])
def test_a_packed_model_and_its_float32_version_predict_the_same(tmp_path, cpu, bits):
    folder = copied(tmp_path / "model", dtype=mx.float32)
    packed, unpacked = (load(folder, bits=bits, native=native)
                        for native in (True, False))  # fmt: skip
    assert is_quantised(packed.module) and not is_quantised(unpacked.module)
    np.testing.assert_allclose(embedded_logprobs(packed), embedded_logprobs(unpacked), atol=1e-3)
    plain = load(folder)
    assert (
        np.abs(embedded_logprobs(plain) - embedded_logprobs(unpacked)).max() > 1e-3
    )  # packing did something


def test_fewer_bits_are_further_from_the_plain_model(tmp_path):
    folder = copied(tmp_path / "model", dtype=mx.float32)
    plain, eight, four = (embedded_logprobs(load(folder, bits=bits))
                          for bits in (None, 8, 4))  # fmt: skip
    assert 0 < np.abs(eight - plain).mean() < 0.3 * np.abs(four - plain).mean()


def test_bits_change_nothing_in_a_packed_model_and_one_line_says_so():
    model, lines = said("embedded:teacher", bits=8, native=True)
    [line] = lines
    assert "already quantised" in line and "teacher.bits=8" in line
    layers = [each for each in model.module.modules() if isinstance(each, nn.QuantizedLinear)]
    assert {each.bits for each in layers} == {4}


def test_a_widened_copy_computes_in_float32_and_leaves_the_model_as_it_is():
    model = load("embedded:teacher", native=True)
    before = dict(tree_flatten(model.module.parameters()))
    copy = widened(model.module)
    assert {each.dtype for _, each in tree_flatten(copy.parameters())} == {mx.float32}
    wide = load("embedded:teacher", native=True)
    in_float32(wide.module)
    np.testing.assert_array_equal(embedded_logprobs(replace(model, module=copy)), embedded_logprobs(wide))
    after = dict(tree_flatten(model.module.parameters()))
    assert before.keys() == after.keys() and is_quantised(model.module)
    assert all(before[name].dtype == each.dtype for name, each in after.items())


def test_layers_that_are_let_go_compute_the_same_and_are_whole_again_only_in_the_model():
    model = load("embedded:student")
    expected, kinds = embedded_logprobs(model), {type(each) for each in layers_of(model)}
    calls = {kind: kind.__call__ for kind in kinds}
    for _ in range(2):
        copy = replace(model, module=widened(model.module))
        with letting_go(layers_of(copy)):
            sequence, encodings = one_sequence(copy)
            states = separate_hidden(copy, sequence, encodings)
        assert all(
            each.size == 1 for layer in layers_of(copy) for _, each in tree_flatten(layer.parameters())
        )
        np.testing.assert_array_equal(states, separate_hidden(model, sequence, encodings))
    assert calls == {kind: kind.__call__ for kind in kinds}
    np.testing.assert_array_equal(embedded_logprobs(model), expected)


def layers_of(model):
    return model.family.layers(model.module)


def one_sequence(model):
    [example] = shapes.examples("held_out", 1)
    view = render(model.processor, example, Data(system_prompt="")).student["with_image"]
    return [Continued(view, np.arange(10, 16))], evaluate(encode(model, [view]))
