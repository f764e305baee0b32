"""What trains is what the recipe says; an adapter starts as nothing, and stock mlx-vlm loads it."""

import json
from dataclasses import replace

import mlx.core as mx
import mlx.nn as nn
import mlx_vlm.utils
import numpy as np
import pytest
from mlx.utils import tree_flatten

from model_folders import embedded_logprobs, load
from random_models import random_completion, random_model, random_prompt
from vgs_mlx.errors import Refusal
from vgs_mlx.models import adapters, precision
from vgs_mlx.models.logprobs import compute_logprobs
from vgs_mlx.models.rows import Continued
from vgs_mlx.recipe.options import Student
from vgs_mlx.resources import tiny_model

LAYERS = 2  # of the random models
PROJECTIONS = [
    *(f"self_attn.{each}_proj" for each in "qkvo"),
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
]
KINDS = ("lora", "dora", "full")


def prepared(settings: Student, seed: int = 1, model=None):
    model = model or random_model(0)
    adapters.prepare(model, settings, seed)
    return model


def move(model) -> None:
    """Let every trainable weight have learnt something."""
    mx.random.seed(5)
    weights = adapters.trainable_weights(model.module)
    moved = {name: value + 0.1 * mx.random.normal(value.shape) for name, value in weights.items()}
    adapters.set_weights(model.module, moved)
    mx.eval(model.module.parameters())


def logprobs(model) -> np.ndarray:
    prompts = [random_prompt(1), random_prompt(2, pictures=2)]
    views = [
        prompts[0].student["with_image"],
        prompts[1].student["with_image"],
        prompts[0].student["text_only"],
    ]
    sequences = [Continued(view, random_completion(at, 6)) for at, view in enumerate(views)]
    return np.array(compute_logprobs(model, sequences)[0])


def adapter_names(projections, parts) -> set[str]:
    return {f"language_model.model.layers.{layer}.{projection}.{part}"
            for layer in range(LAYERS) for projection in projections for part in parts}  # fmt: skip


def names_under(*prefixes: str) -> set[str]:
    everything = tree_flatten(random_model(0).module.parameters())
    return {name for name, _ in everything if name.startswith(prefixes)}


# --- what trains -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (Student(rank=4), adapter_names(PROJECTIONS, ("lora_a", "lora_b"))),
        (Student(train="dora", rank=4), adapter_names(PROJECTIONS, ("lora_a", "lora_b", "m"))),
        (Student(train="full"), names_under("language_model.")),
        (Student(rank=4, train_vision=True),
         adapter_names(PROJECTIONS, ("lora_a", "lora_b")) | names_under("vision_tower.")),
        (Student(train="full", train_vision=True), names_under("language_model.", "vision_tower.")),
        (Student(rank=4, targets=("q_proj", "down_proj")),
         adapter_names(["self_attn.q_proj", "mlp.down_proj"], ("lora_a", "lora_b"))),
        (Student(rank=4, targets=("language_model.model.layers.1.self_attn.v_proj",)),
         {f"language_model.model.layers.1.self_attn.v_proj.{part}" for part in ("lora_a", "lora_b")}),
    ],
    ids=["lora", "dora", "full", "lora+vision", "full+vision", "targets", "one layer"],
)  # fmt: skip
def test_exactly_the_named_weights_train_in_float32(settings, expected):
    weights = adapters.trainable_weights(prepared(settings).module)
    assert set(weights) == expected and list(weights) == sorted(weights)
    assert {value.dtype for value in weights.values()} == {mx.float32}


def test_an_untied_head_trains_in_full_and_gets_no_adapter():
    assert "language_model.lm_head.weight" in adapters.trainable_weights(
        prepared(Student(train="full"), model=random_model(0, tied=False)).module
    )
    names = adapters.trainable_weights(prepared(Student(rank=4), model=random_model(0, tied=False)).module)
    assert not any("lm_head" in name for name in names)


@pytest.mark.parametrize("kind", KINDS)
def test_trainable_weights_are_float32_in_a_half_precision_model_and_frozen_ones_stay(kind):
    model = random_model(0)
    model.module.set_dtype(mx.bfloat16)
    adapters.prepare(model, Student(train=kind, rank=4), seed=1)
    weights = adapters.trainable_weights(model.module)
    assert {value.dtype for value in weights.values()} == {mx.float32}
    frozen = {value.dtype for name, value in tree_flatten(model.module.parameters()) if name not in weights}
    assert frozen == {mx.bfloat16}


def test_rank_and_alpha_shape_the_adapter():
    model = prepared(Student(rank=4, alpha=32.0, targets=("q_proj",)))
    layer = model.module.language_model.model.layers[0].self_attn.q_proj
    assert layer.lora_a.shape == (32, 4) and layer.lora_b.shape == (4, 32) and layer.scale == 8.0


@pytest.mark.parametrize(
    ("targets", "reason"),
    [
        (("q_prog",), "q_prog"),
        (("q_proj", "embed_tokens"), "embed_tokens"),  # no linear layer
        ((), "No matching"),
        (("vision_tower.blocks.0.attn.qkv",), "student.train_vision=true"),
        (("q_proj", "vision_tower.blocks.0.attn.qkv"), "student.train_vision=true"),
    ],
)
def test_targets_that_can_not_train_are_refused_in_one_line(targets, reason):
    with pytest.raises(Refusal) as refused:
        prepared(Student(rank=4, targets=targets))
    line = str(refused.value)
    assert line.startswith("student.targets: ") and reason in line and "\n" not in line and len(line) < 200


# --- before any training ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        Student(rank=4),
        Student(train="dora", rank=4),
        Student(train="full"),
        Student(rank=4, train_vision=True),
    ],
    ids=["lora", "dora", "full", "vision"],
)
def test_an_untrained_student_predicts_what_it_did_before(settings):
    before = logprobs(random_model(0))
    model = prepared(settings)
    np.testing.assert_allclose(logprobs(model), before, atol=1e-5)
    move(model)
    assert np.abs(logprobs(model) - before).max() > 0.05


def test_the_seed_alone_decides_where_an_adapter_starts():
    first, again, other = (
        adapters.trainable_weights(prepared(Student(rank=4), seed).module) for seed in (1, 1, 2)
    )
    assert all(mx.array_equal(first[name], again[name]) for name in first)
    assert not any(mx.array_equal(first[name], other[name]) for name in first if name.endswith("lora_a"))


# --- a packed base ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_packed_model_can_be_the_student(kind):
    """LoRA and DoRA stand beside packed layers; `full` unpacks them. All learn, and predict as in float32."""
    packed, unpacked = (load("embedded:teacher", native=native)
                        for native in (True, False))  # fmt: skip
    before = embedded_logprobs(unpacked)
    for model in (packed, unpacked):
        adapters.prepare(model, Student(train=kind, rank=4), seed=1)
        model.module.set_dtype(mx.float32)  # packed integers stay
    weights = adapters.trainable_weights(unpacked.module)
    assert weights.keys() == adapters.trainable_weights(packed.module).keys()
    learnt = {name: value + 0.02 * mx.random.normal(value.shape) for name, value in weights.items()}
    for model in (packed, unpacked):
        adapters.set_weights(model.module, learnt)
    np.testing.assert_allclose(embedded_logprobs(packed), embedded_logprobs(unpacked), atol=5e-3)
    assert np.abs(embedded_logprobs(packed) - before).max() > 0.05


PACKED_TOWER = [
    Student(rank=4, train_vision=True),
    Student(train="dora", rank=4, train_vision=True),
    Student(train="full", train_vision=True),
    Student(train="full"),
]


def with_packed_tower(native: bool = True):
    """The embedded student with every layer in 4 bits, its vision tower too, as foreign conversions have it."""
    model = load("embedded:student", native=True)
    nn.quantize(
        model.module,
        group_size=32,
        bits=4,
        class_predicate=lambda _, layer: hasattr(layer, "to_quantized") and layer.weight.shape[-1] % 32 == 0,
    )
    model.module.freeze()
    if not native:
        precision.in_float32(model.module)
        model.module.freeze()
    return model


@pytest.mark.parametrize("settings", PACKED_TOWER, ids=["lora", "dora", "full", "full, tower frozen"])
def test_a_packed_vision_tower_is_unpacked_where_it_trains_and_else_left_alone(settings):
    packed, unpacked = (with_packed_tower(native) for native in (True, False))
    before = embedded_logprobs(unpacked)
    tower = packed.module.vision_tower
    assert precision.is_quantised(tower)
    for model in (packed, unpacked):
        adapters.prepare(model, settings, seed=1)
    weights = adapters.trainable_weights(unpacked.module)
    assert weights.keys() == adapters.trainable_weights(packed.module).keys()
    assert {each.dtype for each in adapters.trainable_weights(packed.module).values()} == {mx.float32}
    assert precision.is_quantised(tower) != settings.train_vision
    found = adapters.trainable_weights(packed.module)
    whole = [name for name in weights if not adapters.is_adapter_weight(name)]
    assert all(mx.array_equal(found[name], weights[name]) for name in whole), "nothing is rounded"
    packed.module.set_dtype(mx.float32)  # packed integers stay
    learnt = {name: value + 0.02 * mx.random.normal(value.shape) for name, value in weights.items()}
    for model in (packed, unpacked):
        adapters.set_weights(model.module, learnt)
    np.testing.assert_allclose(embedded_logprobs(packed), embedded_logprobs(unpacked), atol=5e-3)
    assert np.abs(embedded_logprobs(packed) - before).max() > 0.05


def test_a_packing_that_can_not_be_unpacked_is_refused_where_it_would_train():
    model = random_model(0)
    layer = model.module.vision_tower.blocks[0].mlp
    layer.linear_fc1 = Unknown(mx.ones((4, 4), mx.uint32))
    with pytest.raises(Refusal, match=r"linear_fc1.*packed in a way that can't be unpacked.*not quantised"):
        adapters.prepare(model, Student(rank=4, train_vision=True), seed=1)
    adapters.prepare(model := random_model(0), Student(rank=4), seed=1)  # where it stays as it is, it may be


class Unknown(nn.Module):
    """A layer whose weights are integers."""

    def __init__(self, weight: mx.array):
        super().__init__()
        self.weight = weight


# --- files ------------------------------------------------------------------------------------------------------


def saved(folder, model, settings):
    folder.mkdir(parents=True, exist_ok=True)
    weights = adapters.trainable_weights(model.module)
    for file, part in adapters.weight_files(weights, settings).items():
        mx.save_safetensors(str(folder / file), part)
    if settings.train != "full":
        (folder / adapters.ADAPTER_CONFIG).write_text(json.dumps(adapters.adapter_config(model.module)))
    return folder


@pytest.mark.parametrize("base", ["student", "teacher"])
@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_stock_mlx_vlm_loads_a_saved_adapter_and_predicts_the_same(tmp_path, kind, base):
    """On a plain base and on a packed one. The rest is float32: bfloat16 is slow on the CPU."""
    settings = Student(train=kind, rank=4, targets=("q_proj", "v_proj", "down_proj"))
    model = load(f"embedded:{base}", native=True)
    model.module.set_dtype(mx.float32)
    before = embedded_logprobs(model)
    adapters.prepare(model, settings, seed=1)
    move(model)
    folder = saved(tmp_path / "adapter", model, settings)
    stock, _ = mlx_vlm.utils.load(str(tiny_model(base)), adapter_path=str(folder))
    stock.set_dtype(mx.float32)
    found = embedded_logprobs(replace(model, module=stock))
    np.testing.assert_array_equal(found, embedded_logprobs(model))
    assert np.abs(found - before).max() > 0.1


@pytest.mark.parametrize(
    ("settings", "files"),
    [
        (Student(rank=4), {"adapters.safetensors"}),
        (Student(train="dora", rank=4), {"adapters.safetensors"}),
        (Student(rank=4, train_vision=True), {"adapters.safetensors", "vision.safetensors"}),
        (Student(train="full"), {"weights.safetensors"}),
        (Student(train="full", train_vision=True), {"weights.safetensors"}),
    ],
    ids=["lora", "dora", "lora+vision", "full", "full+vision"],
)
def test_saved_weights_come_back_to_the_bit(tmp_path, settings, files):
    model = prepared(settings)
    move(model)
    folder = saved(tmp_path / "weights", model, settings)
    assert {file.name for file in folder.glob("*.safetensors")} == files
    fresh = prepared(settings, seed=2)
    adapters.load_weights(fresh.module, folder)
    kept, found = adapters.trainable_weights(model.module), adapters.trainable_weights(fresh.module)
    assert kept.keys() == found.keys() and all(mx.array_equal(kept[name], found[name]) for name in kept)
    np.testing.assert_array_equal(logprobs(fresh), logprobs(model))


def test_an_adapters_file_holds_nothing_but_the_adapter():
    """mlx-vlm would drop anything else without a word."""
    weights = adapters.trainable_weights(prepared(Student(train="dora", rank=4, train_vision=True)).module)
    files = adapters.weight_files(weights, Student(train="dora", rank=4, train_vision=True))
    assert set(files["adapters.safetensors"]) == adapter_names(PROJECTIONS, ("lora_a", "lora_b", "m"))
    assert set(files["vision.safetensors"]) == names_under("vision_tower.")


def renamed(weights):
    return {name.replace("layers.0", "layers.9"): value for name, value in weights.items()}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda weights: dict(list(weights.items())[1:]), "1 missing, 0 surplus, such as language_model"),
        (lambda weights: weights | {"more.lora_a": mx.zeros(2)}, "0 missing, 1 surplus, such as more.lora_a"),
        (renamed, "14 missing, 14 surplus, such as language_model.model.layers.0"),
        (lambda weights: {name: value.T for name, value in weights.items()}, "has shape"),
        (lambda weights: {}, "28 missing, 0 surplus"),
    ],
    ids=["missing", "surplus", "misnamed", "misshapen", "none"],
)
def test_weights_of_another_model_are_refused_in_one_line(tmp_path, change, reason):
    model = prepared(Student(rank=4))
    before = adapters.trainable_weights(model.module)
    mx.save_safetensors(str(tmp_path / adapters.ADAPTER_FILE), change(dict(before)))
    with pytest.raises(Refusal) as refused:
        adapters.load_weights(model.module, tmp_path)
    line = str(refused.value)
    assert reason in line and str(tmp_path) in line and "\n" not in line
    after = adapters.trainable_weights(model.module)
    assert all(mx.array_equal(before[name], after[name]) for name in before)  # nothing was put in


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda weights: {**weights, min(weights): weights[min(weights)].view(mx.int32)}, "stored as I32"),
    ],
)
def test_an_adapter_of_whole_numbers_is_refused(tmp_path, change, reason):
    model = prepared(Student(rank=4))
    weights = adapters.trainable_weights(model.module)
    mx.save_safetensors(str(tmp_path / adapters.ADAPTER_FILE), change(weights))
    with pytest.raises(Refusal, match=reason) as refused:
        adapters.load_weights(model.module, tmp_path)
    assert min(weights) in str(refused.value) and str(tmp_path) in str(refused.value)


def test_a_vision_file_that_is_missing_is_noticed(tmp_path):
    settings = Student(rank=4, train_vision=True)
    model = prepared(settings)
    folder = saved(tmp_path / "weights", model, settings)
    (folder / adapters.VISION_FILE).unlink()
    with pytest.raises(Refusal, match="missing, 0 surplus, such as vision_tower"):
        adapters.load_weights(model.module, folder)


# --- tracing ----------------------------------------------------------------------------------------------------


def test_weights_are_put_back_after_a_call_and_after_an_error():
    model = prepared(Student(rank=4))
    kept = adapters.trainable_weights(model.module)
    other = {name: value + 1 for name, value in kept.items()}
    seen = adapters.call_with(model.module, other, lambda: adapters.trainable_weights(model.module))
    assert all(mx.array_equal(seen[name], other[name]) for name in kept)

    def fails():
        raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        adapters.call_with(model.module, other, fails)
    after = adapters.trainable_weights(model.module)
    assert all(mx.array_equal(after[name], kept[name]) for name in kept)
