"""Models are loaded strictly: what is missing, surplus, damaged or of another model is refused in one line."""

import json
import logging
import os
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from huggingface_hub import constants
from mlx.utils import tree_flatten

from random_models import random_completion
from vgs_mlx.data import shapes
from vgs_mlx.data.prompts import render
from vgs_mlx.errors import Refusal
from vgs_mlx.models import hub, loading
from vgs_mlx.models.logprobs import compute_logprobs
from vgs_mlx.models.precision import is_quantised
from vgs_mlx.models.rows import Continued
from vgs_mlx.resources import tiny_model

EMBEDDING = "language_model.model.embed_tokens.weight"


def silent(_: str) -> None: ...


def copied(to: Path, role: str = "student", dtype: mx.Dtype | None = None) -> Path:
    """A copy of an embedded model; `dtype` for all its weights."""
    shutil.copytree(tiny_model(role), to)
    if dtype is not None:
        rewrite(to, lambda weights: {name: value.astype(dtype) for name, value in weights.items()})
    return to


def rewrite(folder: Path, change: Callable[[dict], dict]) -> None:
    weights = change(mx.load(str(folder / "model.safetensors")))
    mx.save_safetensors(str(folder / "new.safetensors"), weights)
    os.replace(folder / "new.safetensors", folder / "model.safetensors")


def configure(folder: Path, name: str = "config.json", **changes) -> None:
    """Change keys of a JSON file of the model; None takes one out."""
    config = json.loads((folder / name).read_text()) | changes
    (folder / name).write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def refusal(path: str | Path) -> str:
    with pytest.raises(Refusal) as refused:
        loading.load_model(str(path), "--student", say=silent)
    return str(refused.value)


def logprobs(model) -> np.ndarray:
    [example] = shapes.examples("held_out", 1)
    prompt = render(model.processor, example, system_prompt="", max_pixels=None)
    sequences = [Continued(view, random_completion(0, 9) + 10) for view in (prompt.with_image, prompt.text_only)]
    return np.array(compute_logprobs(model, sequences)[0])


# --- damage ----------------------------------------------------------------------------------------------------


def missing_weight(folder):
    rewrite(folder, lambda weights: {name: value for name, value in weights.items() if name != EMBEDDING})


def surplus_weight(folder):
    rewrite(folder, lambda weights: weights | {"language_model.model.extra.weight": mx.zeros(3)})


def misshapen_weight(folder):
    rewrite(folder, lambda weights: weights | {EMBEDDING: weights[EMBEDDING][:, :-1]})


def no_vision(folder):
    rewrite(folder, lambda weights: {name: value for name, value in weights.items() if "vision" not in name})


def no_vision_in_the_index_either(folder):
    """mlx-vlm then drops the picture part with a warning."""
    no_vision(folder)
    names = mx.load(str(folder / "model.safetensors"))
    index = {"weight_map": dict.fromkeys(names, "model.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def missing_shard(folder):
    """The index names a second file, which was never downloaded."""
    names = mx.load(str(folder / "model.safetensors"))
    index = {name: "model.safetensors" if "vision" not in name else "second.safetensors" for name in names}
    no_vision(folder)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))


def cut_short(folder):
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])


def cut_in_the_header(folder):
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:100])


def empty_file(folder):
    (folder / "model.safetensors").write_bytes(b"")


def fewer_rows_than_ids(folder):
    config = json.loads((folder / "config.json").read_text())
    configure(folder, text_config=config["text_config"] | {"vocab_size": 500})
    rewrite(folder, lambda weights: weights | {EMBEDDING: weights[EMBEDDING][:500]})


def without(*names: str):
    return lambda folder: [(folder / name).unlink() for name in names]


def text(name: str, content: str):
    return lambda folder: (folder / name).write_text(content)


def setting(**changes):
    return lambda folder: configure(folder, **changes)


WEIGHTS = "download the model again"


@pytest.mark.parametrize(
    ("damage", "reason", "mend"),
    [
        (missing_weight, EMBEDDING, WEIGHTS),
        (surplus_weight, "language_model.model.extra.weight", WEIGHTS),
        (misshapen_weight, EMBEDDING, WEIGHTS),
        (no_vision, "without its picture part", "take the whole model"),
        (no_vision_in_the_index_either, "without its picture part", "take the whole model"),
        (missing_shard, "vision_tower", WEIGHTS),
        (cut_short, "damaged", WEIGHTS),
        (cut_in_the_header, "damaged", WEIGHTS),
        (empty_file, "damaged", WEIGHTS),
        (without("model.safetensors"), "no weights", "download the whole model"),
        (fewer_rows_than_ids, "its head has 500 rows, its tokenizer", "one of the two is of another model"),
        (setting(image_token_id=90_000), "no id 90000", "one of the two is of another model"),
        (setting(model_type="llava"), "model_type 'llava' is not supported", "supported: qwen3_vl"),
        (setting(model_type=None), "model_type None is not supported", "supported: qwen3_vl"),
        (setting(text_config=None), "num_hidden_layers", WEIGHTS),
        (text("config.json", "[]"), "not supported", "supported: qwen3_vl"),
        (text("config.json", "{"), "no readable config.json", "give a model folder"),
        (without("config.json"), "no readable config.json", "give a model folder"),
        (without("tokenizer.json"), "tokenizer", "download the model again"),
        (without("tokenizer.json", "tokenizer_config.json"), "no tokenizer there", "copy tokenizer.json"),
        (text("tokenizer.json", "{}"), "tokenizer", "download the model again"),
        (without("chat_template.jinja"), "no chat template", "copy chat_template.jinja"),
        (without("preprocessor_config.json"), "no preprocessor_config.json", "copy it"),
    ],
    ids=lambda value: getattr(value, "__name__", None) if callable(value) else "",
)
def test_a_damaged_model_is_refused_in_one_line(tmp_path, damage, reason, mend):
    folder = copied(tmp_path / "model")
    damage(folder)
    line = refusal(folder)
    assert line.startswith(f"--student {folder}: ")
    assert reason in line and mend in line and "\n" not in line and len(line) < 700


def test_an_undamaged_copy_is_loaded(tmp_path):
    """Else the refusals above would show nothing."""
    folder = copied(tmp_path / "model")
    model = loading.load_model(str(folder), "--student", say=silent)
    assert model.folder == folder and model.vocabulary == len(model.processor.tokenizer.get_vocab())
    np.testing.assert_array_equal(logprobs(model), logprobs(load_embedded("student")))


def load_embedded(role: str, **options):
    return loading.load_model(f"embedded:{role}", f"--{role}", **({"say": silent} | options))


def test_a_model_comes_frozen_in_evaluation_mode_with_its_end_ids(tmp_path):
    folder = copied(tmp_path / "model")
    configure(folder, eos_token_id=7)
    (folder / "generation_config.json").unlink()
    model = loading.load_model(str(folder), "--student", say=silent)
    assert not tree_flatten(model.module.trainable_parameters()) and not model.module.training
    assert model.end_ids == {7, model.processor.tokenizer.eos_token_id}


@pytest.mark.parametrize(
    "ask",
    [
        setting(model_file="code.py"),  # mlx-vlm runs this one unasked
        setting(auto_map={"AutoModel": "code.Tokenizer", "AutoProcessor": "code.Tokenizer"}),
        lambda folder: configure(folder, "tokenizer_config.json", tokenizer_class="Tokenizer",
                                 auto_map={"AutoTokenizer": ["code.Tokenizer", "code.Tokenizer"]}),
        lambda folder: configure(folder, "preprocessor_config.json",
                                 auto_map={"AutoImageProcessor": "code.Tokenizer"}),
    ],
    ids=["model_file", "config auto_map", "tokenizer auto_map", "image processor auto_map"],
)  # fmt: skip
def test_code_that_comes_with_a_model_never_runs(tmp_path, ask):
    folder = copied(tmp_path / "model")
    ask(folder)
    ran = tmp_path / "ran"
    code = f"open({str(ran)!r}, 'w').close()\nfrom transformers import PreTrainedTokenizerFast as Tokenizer\n"
    (folder / "code.py").write_text(code)
    try:
        loading.load_model(str(folder), "--student", say=silent)
    except Refusal as refused:
        assert "model_file" in str(refused)
    assert not ran.exists()


def test_nothing_of_a_checkpoint_is_written_to(tmp_path):
    folder = copied(tmp_path / "model")
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*")}
    loading.load_model(str(folder), "--student", bits=4, say=silent)
    assert before == {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*")}


# --- precision -------------------------------------------------------------------------------------------------


@pytest.fixture
def cpu(monkeypatch):
    """What holds on the CPU build, wherever the tests run."""
    monkeypatch.setattr(loading, "on_cpu", lambda: True)


def said(path, **options):
    lines = []
    return loading.load_model(str(path), "--teacher", say=lines.append, **options), lines


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16])
def test_on_the_cpu_half_precision_becomes_float32_and_one_line_says_so(tmp_path, cpu, dtype):
    folder = copied(tmp_path / "model", dtype=dtype)
    model, lines = said(folder)
    assert {value.dtype for _, value in tree_flatten(model.module.parameters())} == {mx.float32}
    [line] = lines
    assert str(dtype).removeprefix("mlx.core.") in line and "float32 on the CPU" in line and "\n" not in line


def test_on_the_cpu_packed_layers_become_plain_ones_and_one_line_says_so(cpu):
    model, lines = said("embedded:teacher")
    assert not is_quantised(model.module)
    [line] = lines
    assert "4/8-bit" in line and "float32 on the CPU" in line


def test_nothing_is_rounded_on_the_way_to_float32(cpu):
    """A packed weight is scale * integer + bias: in float32 that is exact, in the scales' bfloat16 it isn't."""
    packed = load_embedded("teacher", native=True).module.language_model.model.layers[0].mlp.up_proj
    scales, biases = packed.scales.astype(mx.float32), packed.biases.astype(mx.float32)
    exact = mx.dequantize(packed.weight, scales, biases, group_size=packed.group_size, bits=packed.bits)
    found = load_embedded("teacher").module.language_model.model.layers[0].mlp.up_proj.weight
    assert mx.array_equal(found, exact)
    rounded = mx.dequantize(packed.weight, packed.scales, packed.biases, group_size=packed.group_size, bits=packed.bits)
    assert packed.scales.dtype == mx.float32 or not mx.array_equal(found, rounded.astype(mx.float32))


def test_a_float32_checkpoint_is_taken_as_it_is_and_nothing_said(tmp_path, cpu):
    assert said(copied(tmp_path / "model", dtype=mx.float32))[1] == []


def test_native_keeps_the_numbers_of_the_checkpoint(tmp_path, cpu):
    model, lines = said(copied(tmp_path / "model", dtype=mx.float16), native=True)
    assert {value.dtype for _, value in tree_flatten(model.module.parameters())} == {mx.float16}
    assert lines == [] and is_quantised(load_embedded("teacher", native=True).module)


@pytest.mark.parametrize("bits", [4, 8])
def test_bits_pack_the_language_model_and_leave_vision_alone(tmp_path, bits):
    folder = copied(tmp_path / "model", dtype=mx.float32)
    plain, packed = (loading.load_model(str(folder), "--teacher", bits=each, native=True, say=silent)
                     for each in (None, bits))  # fmt: skip
    layers = dict(packed.module.named_modules())
    found = {path for path, layer in layers.items() if isinstance(layer, (nn.QuantizedLinear, nn.QuantizedEmbedding))}
    expected = {path for path, layer in plain.module.language_model.named_modules()
                if isinstance(layer, (nn.Linear, nn.Embedding)) and layer.weight.shape[1] % 64 == 0}  # fmt: skip
    assert found == {f"language_model.{path}" for path in expected} and len(found) > 10
    assert {layers[path].bits for path in found} == {bits}
    for name, value in tree_flatten(plain.module.vision_tower.parameters()):
        assert mx.array_equal(value, dict(tree_flatten(packed.module.vision_tower.parameters()))[name])


@pytest.mark.parametrize("bits", [4, 8])
def test_a_packed_model_and_its_float32_version_predict_the_same(tmp_path, cpu, bits):
    folder = copied(tmp_path / "model", dtype=mx.float32)
    packed, unpacked = (loading.load_model(str(folder), "--teacher", bits=bits, native=native, say=silent)
                        for native in (True, False))  # fmt: skip
    assert is_quantised(packed.module) and not is_quantised(unpacked.module)
    np.testing.assert_allclose(logprobs(packed), logprobs(unpacked), atol=1e-3)
    plain = loading.load_model(str(folder), "--teacher", say=silent)
    assert np.abs(logprobs(plain) - logprobs(unpacked)).max() > 1e-3  # packing did something


def test_fewer_bits_are_further_from_the_plain_model(tmp_path):
    folder = copied(tmp_path / "model", dtype=mx.float32)
    plain, eight, four = (logprobs(loading.load_model(str(folder), "--teacher", bits=bits, say=silent))
                          for bits in (None, 8, 4))  # fmt: skip
    assert 0 < np.abs(eight - plain).mean() < 0.3 * np.abs(four - plain).mean()


def test_bits_change_nothing_in_a_packed_model_and_one_line_says_so():
    model, lines = said("embedded:teacher", bits=8, native=True)
    [line] = lines
    assert "already quantised" in line and "teacher.bits=8" in line
    layers = [each for each in model.module.modules() if isinstance(each, nn.QuantizedLinear)]
    assert {each.bits for each in layers} == {4}


# --- paths and the Hub -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("", "no model given"),
        ("/no/such/model", "no such folder, and no Hub id"),
        ("./model", "no such folder, and no Hub id"),
        ("~/model", "no such folder, and no Hub id"),
        ("model", "no such folder, and no Hub id"),
        ("a/b/c", "no such folder, and no Hub id"),
        ("a b/c", "the Hub refused"),
    ],
)
def test_a_path_that_leads_nowhere_is_refused(tmp_path, monkeypatch, path, reason):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    line = refusal(path)
    assert line.startswith("--student") and reason in line and "\n" not in line


def test_a_folder_of_two_parts_is_never_taken_for_a_hub_id(tmp_path, monkeypatch):
    """Libraries further on would ask the Hub for files that a relative folder doesn't have."""
    copied(tmp_path / "own" / "model")
    monkeypatch.chdir(tmp_path)
    assert loading.find_folder("own/model", "--student") == tmp_path / "own" / "model"


def test_without_network_a_hub_id_is_one_clear_line_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens
    start = time.perf_counter()
    line = refusal("someone/something")
    assert time.perf_counter() - start < 10
    assert line.startswith("--student someone/something: no such folder, and the Hub can't be reached")
    assert "go online, or give a local folder" in line and "\n" not in line


@pytest.fixture
def mute_hub(tmp_path, monkeypatch):
    """A Hub that takes calls and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(8)
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{listening.getsockname()[1]}")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(hub, "PATIENCE", 0.3)
        yield tmp_path / "cache"


def test_a_hub_that_never_answers_is_not_waited_for(mute_hub):
    start = time.perf_counter()
    assert "the Hub can't be reached (timed out)" in refusal("someone/something")
    assert time.perf_counter() - start < 30


def test_what_was_downloaded_before_is_used_without_the_hub(mute_hub):
    repository = mute_hub / "models--someone--something"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    copied(repository / "snapshots" / "abc")
    model = loading.load_model("someone/something", "--student", say=silent)
    assert model.name == "someone/something" and model.folder.name == "abc"


def test_libraries_add_no_noise_to_a_refusal(tmp_path, caplog):
    folder = copied(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    with caplog.at_level(logging.WARNING):
        refusal(folder)
    assert not caplog.records
