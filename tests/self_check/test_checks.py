"""The tests' own machine agrees with the stored figures, and each kind of fault is found and named.

A fault is put into one of two sides on the same device: what differs between them is the fault alone.
"""

import functools
import json
import re

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_map

from toy_runs import command
from vgs_mlx.models import caches, precision, prefix, probes
from vgs_mlx.models.families import plain
from vgs_mlx.objective import chunked, weightings
from vgs_mlx.self_check import behaviour, checks, operations, reference, sides, step
from vgs_mlx.self_check.checks import Check, attempt
from vgs_mlx.self_check.comparing import Line, distance, group
from vgs_mlx.self_check.numpy_truth import unpacked
from vgs_mlx.self_check.sides import Side, computing, computing_on, prepare
from vgs_mlx.train import gradients
from vgs_mlx.train import optimizer as adamw

CPU = mx.Device(mx.cpu)
TIGHT = 2e-5  # float32 on any CPU; another order of sums moves figures by 2e-6, the update by 1e-4


@functools.cache
def two_sides() -> dict[str, Check]:
    """The checks of a machine with two devices that are the same one, by title; the first has done its step."""
    found = {each.title: each for each in checks.checks({"CPU": CPU, "other": CPU}, reference.read())}
    attempt(found["a step, float32, CPU"])
    return found


@pytest.fixture
def wrong(monkeypatch):
    """Of a check of the second side, the names of the lines that don't agree, by group. One prompt is asked."""
    monkeypatch.setattr(sides, "PROMPTS", 1)
    two_sides()

    def found(title: str) -> dict[str, list[str]]:
        names: dict[str, list[str]] = {}
        for line in attempt(two_sides()[title]):
            if not line.agrees:
                names.setdefault(group(line.name), []).append(line.name)
        return names

    return found


# --- the whole command


def test_this_machine_computes_what_the_tests_computed(tmp_path):
    """Else, after a change of what a step computes: scripts/self_check_reference.py."""
    ended = command("doctor", "--check", "--json", tmp_path / "figures.json")
    assert ended.exit_code == 0, ended.output
    assert ended.output.endswith("this machine computes what the tests computed\n")
    assert re.search(
        r"^ok +\S+ +at most 0.001 +a step, float32, CPU beside the tests' figures: terms", ended.output, re.M
    )
    held = json.loads((tmp_path / "figures.json").read_text())
    assert held["agrees"] and held["machine"]["mlx"] == mx.__version__
    lines = [Line(**{key: each[key] for key in ("part", "name", "value", "limit")}) for each in held["lines"]]
    figures = [each for each in lines if each.part.startswith("a step, float32")]
    assert {group(each.name) for each in figures} == {
        "logits",
        "terms",
        "gate",
        "scale",
        "gradients",
        "update",
    }
    assert [each.text for each in figures if each.value > TIGHT and group(each.name) != "update"] == []
    parts = {group(each.name) for each in lines}
    assert {"inputs", "products", "packed products", "attention", "norms", "losses", "draws"} <= parts
    assert {"sampling", "continuation", "checkpointing", "buffers"} <= parts
    assert {each.part for each in lines if "stored" in each.part} == {
        "a step, stored, CPU beside the tests' figures"
    }


@pytest.fixture
def short(monkeypatch):
    """The command without what takes long."""
    monkeypatch.setattr(checks, "PRECISIONS", ("float32",))
    monkeypatch.setattr(checks, "OPERATIONS", (operations.norms,))
    monkeypatch.setattr(checks, "BEHAVIOUR", ())


def test_a_fault_is_exit_1_and_a_block_to_paste_with_versions_and_figures(short, monkeypatch):
    monkeypatch.setattr(step, "steer", shifted_scale(step.steer))
    ended = command("doctor", "--check")
    assert ended.exit_code == 1
    before, _, pasted = ended.output.partition("Please paste this into a bug report:\n")
    assert re.search(
        r"^NO +0.1 +at most 0.001 +a step, float32, CPU beside the tests' figures: scale: η$", before, re.M
    )
    lines = [line.strip() for line in pasted.splitlines() if line]
    assert lines[0] == "vgs-mlx doctor --check"
    assert f"mlx: {mx.__version__}" in lines and any(line.startswith("device: ") for line in lines)
    assert lines[-1] == "a step, float32, CPU beside the tests' figures: scale: η: 0.1, at most 0.001"
    assert len([line for line in lines if "at most" in line]) == 1
    assert "computes what the tests computed\n" not in ended.output


def test_a_check_that_crashes_is_a_line_and_the_others_still_run(short, monkeypatch):
    def crash(*_):
        raise RuntimeError("[metal::Device]\nUnable to load kernel")

    monkeypatch.setattr(step, "figures", crash)
    ended = command("doctor", "--check")
    assert ended.exit_code == 1 and "Traceback" not in ended.output
    why = "could not run (RuntimeError: [metal::Device] Unable to load kernel)"
    assert ended.output.count(f"a step, float32, CPU: run: {why}") == 1
    assert re.search(r"^ok .*norms", ended.output, re.M)
    assert mx.default_device() == CPU
    monkeypatch.setattr(checks, "rounds", crash)
    assert not checks.any_rounds({"CPU": CPU})


def test_figures_are_only_written_of_a_check_and_only_where_they_can_be(tmp_path):
    refused = command("doctor", "--json", tmp_path / "figures.json")
    assert refused.exit_code == 2 and "--json belongs to --check" in refused.output
    nowhere = command("doctor", "--check", "--json", tmp_path / "none" / "figures.json")
    assert nowhere.exit_code == 2 and "give a file in a folder that exists" in nowhere.output


# --- faults of one side, in a step


def shifted_scale(steer):
    def shifted(*arguments):
        tree, measured = steer(*arguments)
        return tree, {**measured, "norm_scale": 1.1 * measured["norm_scale"]}

    return shifted


def test_two_sound_sides_agree(wrong):
    assert wrong("a step, float32, other") == {}


def test_a_wrong_product_is_found_from_the_logits_on(wrong, monkeypatch):
    original = nn.Linear.__call__
    monkeypatch.setattr(nn.Linear, "__call__", lambda self, x: 1.001 * original(self, x))
    found = wrong("a step, float32, other")
    assert len(found["logits"]) == 4 and {"terms", "gradients"} <= found.keys()


def test_attention_that_sees_what_follows_is_found_from_the_logits_on(wrong, monkeypatch):
    original = mx.fast.scaled_dot_product_attention

    def unmasked(*arrays, mask=None, **settings):
        return original(*arrays, mask=None if isinstance(mask, str) else mask, **settings)

    monkeypatch.setattr(mx.fast, "scaled_dot_product_attention", unmasked)
    found = wrong("a step, float32, other")
    assert len(found["logits"]) == 4 and {"terms", "gradients"} <= found.keys()


def test_a_wrong_vision_tower_is_found_in_the_view_with_the_picture_alone(wrong, monkeypatch):
    original = plain.placed
    monkeypatch.setattr(plain, "placed", lambda ids, places, features: original(ids, places, 1.01 * features))
    assert wrong("a step, float32, other")["logits"] == [
        "logits: student, with_image", "logits: teacher, with_image",
    ]  # fmt: skip


def test_a_wrong_softmax_is_found_in_the_terms_and_not_in_the_logits(wrong, monkeypatch):
    original = chunked.compare

    def hotter(student, *others):
        return original(type(student)(*(each if each is None else 0.99 * each for each in student)), *others)

    monkeypatch.setattr(chunked, "compare", hotter)
    found = wrong("a step, float32, other")
    assert "logits" not in found and {"terms: standard", "terms: entropy"} <= set(found["terms"])
    assert "gradients: standard, adapters" in found["gradients"]


def test_a_wrong_gate_is_found_in_itself_and_in_what_it_keeps(wrong, monkeypatch):
    def lower(scores):
        return (scores > np.quantile(scores, 0.6)).astype(np.float32)

    monkeypatch.setattr(weightings, "dependency_gate", lower)
    monkeypatch.setattr(gradients, "dependency_gate", lower)
    found = wrong("a step, float32, other")
    assert found["gate"] == ["gate: tokens"]
    assert found["gradients"] == ["gradients: preservation, adapters"]
    assert not {"logits", "terms", "scale"} & found.keys()


@pytest.mark.parametrize(
    ("weight", "part"), [("lora_a", "adapters"), ("patch_embed.proj.weight", "vision tower")]
)
def test_the_wrong_gradient_of_one_weight_is_found_in_its_part(wrong, weight, part, monkeypatch):
    original = gradients.backward

    def shifted(*arguments):
        tree = original(*arguments)
        name = next(name for name in tree if weight in name)
        return {**tree, name: 1.3 * tree[name]}

    monkeypatch.setattr(gradients, "backward", shifted)
    found = wrong("a step, float32, other")
    assert {name.rpartition(", ")[2] for name in found["gradients"]} == {part}
    assert not {"logits", "terms", "gate"} & found.keys()


def test_a_wrong_scale_and_a_wrong_update_are_found_alone(wrong, monkeypatch):
    original = step.steer
    monkeypatch.setattr(step, "steer", shifted_scale(original))
    assert wrong("a step, float32, other") == {"scale": ["scale: η"]}
    monkeypatch.setattr(step, "steer", original)
    make = adamw.make
    monkeypatch.setattr(
        adamw, "make", lambda settings, student: adamw.optim.SGD(0.1) if make(settings, student) else None
    )
    assert wrong("a step, float32, other") == {"update": ["update: weights"]}


# --- faults of single operations


@pytest.mark.parametrize(
    ("operation", "holder", "name"),
    [
        ("packed products", mx, "quantized_matmul"),
        ("attentions", mx.fast, "scaled_dot_product_attention"),
        ("norms", mx.fast, "rms_norm"),
    ],
)
def test_a_wrong_operation_is_found_in_every_line_of_its_own(operation, holder, name, monkeypatch):
    original = getattr(holder, name)
    monkeypatch.setattr(holder, name, lambda *given, **settings: 1.1 * original(*given, **settings))
    lines = attempt(two_sides()[f"{operation}, other"])
    values = [line for line in lines if "gradient" not in line.name or not line.name.endswith("of v")]
    assert values and not any(line.agrees for line in values)


def test_a_mask_that_hides_nothing_is_found_where_there_is_one(wrong, monkeypatch):
    original = mx.fast.scaled_dot_product_attention
    monkeypatch.setattr(
        mx.fast,
        "scaled_dot_product_attention",
        lambda *given, mask=None, **settings: original(*given, **settings),
    )
    found = wrong("attentions, other")["attention"]
    assert not [name for name in found if "a picture" in name]
    for name in ("a prompt", "a completion after its prompt", "a token beside padding"):
        assert f"attention: {name}, float32" in found and f"attention: {name}, bfloat16" in found


def test_a_wrong_loss_and_a_wrong_draw_are_found(wrong, monkeypatch):
    compare, choose = operations.compare, operations.choose

    def shifted(*given):
        terms, pulls = compare(*given)
        return {**terms, "visual": 1.001 * terms["visual"]}, pulls

    monkeypatch.setattr(operations, "compare", shifted)
    assert wrong("losses, other") == {"losses": ["losses: visual"]}
    monkeypatch.setattr(operations, "choose", lambda *given: choose(*given) + 1)
    assert list(wrong("draws, other")) == ["draws"]


# --- faults of what a run relies on


def test_sampling_from_another_distribution_than_is_scored_is_found(wrong, monkeypatch):
    original = behaviour.taken_logprobs
    monkeypatch.setattr(behaviour, "taken_logprobs", lambda *given: original(*given) * 1.01)
    assert list(wrong("sampling, float32, other")) == ["sampling"]


def test_completions_that_do_not_see_their_prompt_are_found(wrong, monkeypatch):
    """Caches whose values are lost where they are repeated."""
    original = caches.taken

    def emptied(cache, rows):
        return [caches.mapped(each, mx.zeros_like) for each in original(cache, rows)]

    monkeypatch.setattr(prefix.caches, "taken", emptied)
    assert len(wrong("continuation, float32, other")["continuation"]) == 4


def test_checkpointing_with_other_gradients_is_found(wrong, monkeypatch):
    original = behaviour.recomputing

    def halved(layers):
        monkeypatch.setattr(
            mx, "checkpoint", lambda run: lambda *given: tree_map(mx.stop_gradient, run(*given))
        )
        return original(layers)

    monkeypatch.setattr(behaviour, "recomputing", halved)
    assert list(wrong("checkpointing, float32, other")) == ["checkpointing"]


def test_buffers_beyond_their_limit_and_memory_that_stays_in_use_are_found(wrong, monkeypatch):
    kept, original = [], behaviour.backward

    def leaking(*given):
        kept.append(mx.ones(2**18))
        mx.eval(kept)
        return original(*given)

    limit = mx.set_cache_limit(2**30)
    mx.set_cache_limit(limit)
    monkeypatch.setattr(behaviour, "backward", leaking)
    monkeypatch.setattr(mx, "get_cache_memory", lambda: 2 * behaviour.KEPT)
    assert len(wrong("buffers, float32, other")["buffers"]) == 2
    assert mx.set_cache_limit(limit) == limit


# --- sides


def test_a_cpu_that_rounds_float32_products_is_at_fault_and_not_excused(monkeypatch):
    monkeypatch.setattr(checks, "rounds_float32", lambda: True)
    assert not checks.rounds(CPU)


def test_products_of_ten_bits_are_recognised(monkeypatch):
    assert not precision.rounds_float32()
    original = mx.array.__matmul__
    monkeypatch.setattr(mx.array, "__matmul__", lambda left, right: original(cut(left), cut(right)))
    assert precision.rounds_float32()


def cut(array: mx.array) -> mx.array:
    """The array with 10 bits of each number, as TF32 has."""
    return (array.view(mx.uint32) & mx.array(0xFFFFE000, dtype=mx.uint32)).view(mx.float32)


def test_a_cpu_adds_up_packed_products_as_exactly_as_a_gpu_for_a_side_alone():
    random = np.random.RandomState(0)
    x, weight = (
        mx.array(random.standard_normal(shape).astype(np.float32)) for shape in ((4, 512), (64, 512))
    )
    x, packed = x.astype(mx.bfloat16), mx.quantize(weight.astype(mx.bfloat16), bits=4)
    words, *rest = (np.array(each if each.dtype == mx.uint32 else each.astype(mx.float32)) for each in packed)
    true = np.array(x.astype(mx.float32)) @ unpacked(words, *rest, bits=4).T

    def apart() -> float:
        return distance(np.array(mx.quantized_matmul(x, *packed, bits=4).astype(mx.float32)), true)

    with computing(Side("CPU", CPU, "stored")):
        assert apart() < 3e-3
    assert apart() > 1e-2


def test_the_device_is_put_back_after_a_crash(monkeypatch):
    asked = []
    monkeypatch.setattr(mx, "set_default_device", asked.append)
    with pytest.raises(RuntimeError), computing_on(mx.Device(mx.gpu)):
        raise RuntimeError
    assert asked == [mx.Device(mx.gpu), CPU]


def test_what_a_side_is_asked_does_not_depend_on_mlx_s_random_numbers(monkeypatch):
    side, seed = Side("CPU", CPU, "float32"), mx.random.seed
    first = prepare(side).student.module.trainable_parameters()
    monkeypatch.setattr(mx.random, "seed", lambda number: seed(number + 1))
    second = prepare(side).student.module.trainable_parameters()
    same = [mx.array_equal(*pair).item() for pair in zip(*map(flat, (first, second)), strict=True)]
    assert same and all(same)


def flat(tree) -> list[mx.array]:
    return [value for _, value in nn.utils.tree_flatten(tree)]


def test_the_stored_precision_is_what_the_files_hold():
    assert probes.tolerance(prepare(Side("CPU", CPU, "stored")).student) == 0.25
    assert probes.tolerance(prepare(Side("CPU", CPU, "float32")).student) == 1e-3
