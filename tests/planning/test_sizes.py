"""A model's size from its config and headers: the same as the loaded model's, and clear words where there is none."""

import json
import os
import re
import struct
from pathlib import Path

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten

from model_folders import copied
from vgs_mlx.errors import Refusal
from vgs_mlx.models import families
from vgs_mlx.models.headers import BYTES, PICTURE_SETTINGS
from vgs_mlx.models.loading import load_model, load_processor
from vgs_mlx.planning.sizes import Weights, implied, linears, parse, read_size
from vgs_mlx.resources import recipes_folder, tiny_model

CONFIGS = recipes_folder() / "configs"


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_a_header_s_bytes_are_those_of_the_loaded_model(role):
    size = read_size(f"embedded:{role}", "--student")
    stored = load_model(f"embedded:{role}", "--student", native=True, say=lambda _: None).module
    widened = load_model(f"embedded:{role}", "--student", say=lambda _: None).module
    parts = (size.language_weights, size.vision_weights)
    assert size.source == "header"
    assert sum(each.stored for each in parts) == nbytes(stored)
    if mx.default_device() == mx.cpu:
        assert 4 * sum(each.elements for each in parts) == nbytes(widened)


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_a_config_alone_implies_the_same_numbers(role):
    config = json.loads((tiny_model(role) / "config.json").read_text())
    header = read_size(f"embedded:{role}", "--student")
    alone = parse("x", config, None)
    assert alone.source == "config"
    assert alone.language_weights == header.language_weights
    assert alone.vision_weights.elements == header.vision_weights.elements


def test_published_sizes_are_met():
    """8.77 billion weights as published; 4-bit files of 5.38 GiB as reported by users of mlx-vlm."""
    whole = read_size(str(CONFIGS / "qwen3-vl-8b.json"), "--teacher")
    packed = read_size(str(CONFIGS / "qwen3-vl-8b-4bit.json"), "--teacher")
    assert elements(whole) == elements(packed) == pytest.approx(8.77e9, rel=0.001)
    assert (packed.language_weights.stored + packed.vision_weights.stored) / 2**30 == pytest.approx(
        5.38, rel=0.005
    )
    assert elements(read_size(str(CONFIGS / "qwen3-vl-2b.json"), "--student")) == pytest.approx(
        2.13e9, rel=0.01
    )
    assert elements(read_size(str(CONFIGS / "qwen3-vl-4b.json"), "--student")) == pytest.approx(
        4.44e9, rel=0.01
    )


def test_a_layer_s_linear_layers_have_the_shapes_that_the_config_says():
    text = read_size(str(CONFIGS / "qwen3-vl-4b.json"), "--student").text
    assert linears(text)["q_proj"] == (2560, 4096) and linears(text)["k_proj"] == (2560, 1024)


def test_a_tied_head_that_is_stored_twice_counts_once():
    config = json.loads((CONFIGS / "qwen3-vl-2b.json").read_text())
    size = parse("x", config, None)
    listed = implied(config, families.declared("qwen3_vl").architecture(config))
    twice = [*listed, type(listed[0])("lm_head.weight", "BF16", (151_936, 2048))]
    assert parse("x", config, twice).language_weights == size.language_weights


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"model_type": "llava"}, "model_type 'llava' is not supported; supported: qwen3_vl"),
        ([], "model_type None is not supported"),
        ({"model_type": ["qwen3_vl"]}, "is not supported"),
        ({"model_type": "qwen3_vl", "text_config": {}}, "config.json lacks text_config.num_attention_heads"),
        ({"model_type": "qwen3_vl"}, "config.json lacks text_config"),
        ({"model_type": "qwen3_vl", "text_config": []}, "config.json has no keys below text_config"),
    ],
)
def test_what_is_no_qwen3_vl_is_refused(config, told, tmp_path):
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config))
    with pytest.raises(Refusal, match=told):
        read_size(str(file), "--student")
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(Refusal):
        read_size(str(tmp_path), "--student")


@pytest.mark.parametrize(
    ("section", "key", "value", "told"),
    [
        (
            "text_config",
            "hidden_size",
            "2048",
            "has text_config.hidden_size '2048', not a whole number from 1",
        ),
        (
            "text_config",
            "num_attention_heads",
            0,
            "has text_config.num_attention_heads 0, not a whole number",
        ),
        ("text_config", "num_hidden_layers", 10**9, "not a whole number from 1 to 1,000,000"),
        ("text_config", "head_dim", [1], "has text_config.head_dim [1], not a whole number"),
        ("vision_config", "depth", None, "lacks vision_config.depth"),
        (
            "vision_config",
            "out_hidden_size",
            1.5,
            "has vision_config.out_hidden_size 1.5, not a whole number",
        ),
        ("vision_config", "deepstack_visual_indexes", 3, "deepstack_visual_indexes 3, not a list of layers"),
    ],
)
def test_a_number_of_a_config_that_is_none_is_refused(section, key, value, told):
    config = json.loads((CONFIGS / "qwen3-vl-2b.json").read_text())
    config[section][key] = value
    with pytest.raises(Refusal, match=re.escape(told)):
        parse("x", config, None)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"quantization": [4]}, "has no keys below quantization"),
        ({"quantization": {"bits": "four"}}, "has quantization.bits 'four', not a whole number"),
        ({"dtype": "float8_e4m3fn"}, "has the dtype 'float8_e4m3fn', not one of float32, float16, bfloat16"),
        ({"dtype": ["bfloat16"]}, "has the dtype ['bfloat16']"),
    ],
)
def test_a_packing_or_dtype_that_is_none_is_refused(changes, told):
    config = json.loads((CONFIGS / "qwen3-vl-2b.json").read_text())
    with pytest.raises(Refusal, match=re.escape(told)):
        parse("x", config | changes, None)


def model(folder: Path, header: object, data: bytes = b"", length: int | None = None) -> Path:
    """A model folder with one weight file, of which any part may be damaged."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    (folder / "config.json").write_text((CONFIGS / "qwen3-vl-2b.json").read_text())
    (folder / "preprocessor_config.json").write_text("{}")
    size = struct.pack("<Q", len(text) if length is None else length)
    (folder / "model.safetensors").write_bytes(size + text + data)
    return folder


def entry(dtype: str, bits: int) -> dict:
    return {"dtype": dtype, "shape": [8, 64], "data_offsets": [0, 64 * bits]}


def refused(folder: Path) -> str:
    with pytest.raises(Refusal) as caught:
        read_size(str(folder), "--student")
    line = str(caught.value)
    assert line.startswith(f"--student {folder}: ") and "\n" not in line
    return line


@pytest.mark.parametrize(
    "damage",
    [
        {"header": b"\xff" * 9},
        {"header": b""},
        {"header": []},
        {"header": "text"},
        {"header": b"[" * 100_000},
        {"header": {"a": {"shape": [1], "data_offsets": [0, 4]}}, "data": bytes(4)},
        {"header": {"a": [1]}},
        {"header": {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, "data": bytes(4)},
        {
            "header": {"a": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]}},
            "data": bytes(4),
        },
        {"header": {"a": {"dtype": "F33", "shape": [1], "data_offsets": [0, 4]}}, "data": bytes(4)},
        {"header": {"a": entry("F32", 32)}, "data": bytes(100)},
        {"header": {}, "length": 2**60},
        {"header": {}, "length": 2**63},
    ],
    ids=range(13),
)
def test_a_damaged_header_is_refused(damage, tmp_path):
    line = refused(model(tmp_path, **damage))
    assert "model.safetensors: its header is damaged (" in line and line.endswith("download the model again")


@pytest.mark.parametrize(
    ("dtype", "bits"),
    [("F8_E4M3", 8), ("F8_E5M2", 8), ("F8_E8M0", 8), ("F4", 4), ("F6_E2M3", 6), ("F6_E3M2", 6), ("F64", 64)],
)
def test_numbers_that_mlx_does_not_compute_with_are_refused_by_name(dtype, bits, tmp_path):
    line = refused(model(tmp_path, {"a.weight": entry(dtype, bits)}, bytes(64 * bits)))
    assert f"a.weight is stored as {dtype}" in line
    assert line.endswith("take the bfloat16 checkpoint, or an mlx-community conversion")


@pytest.mark.parametrize("dtype", sorted(BYTES))
def test_the_bytes_of_a_dtype_are_those_that_mlx_loads(dtype, tmp_path):
    bits = 8 * BYTES[dtype]
    floating = {"b": {"dtype": "F32", "shape": [4], "data_offsets": [64 * bits, 64 * bits + 16]}}
    folder = model(tmp_path, {"a": entry(dtype, bits)} | floating, bytes(64 * bits + 16))
    loaded = mx.load(str(folder / "model.safetensors"))["a"]
    assert read_size(str(folder), "--student").language_weights.stored == loaded.nbytes + 16


def test_weights_of_whole_numbers_alone_are_refused(tmp_path):
    line = refused(model(tmp_path, {"a": entry("I32", 32)}, bytes(64 * 32)))
    assert "hold no floating-point weights" in line


def test_a_weight_file_that_is_no_file_is_refused(tmp_path):
    folder = model(tmp_path, {})
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").mkdir()
    assert "model.safetensors is not a file" in refused(folder)
    (folder / "model.safetensors").rmdir()
    os.mkfifo(folder / "model.safetensors")
    assert "model.safetensors is not a file" in refused(folder)  # and nobody waits for one that writes


@pytest.mark.parametrize(
    ("plain", "nested"),
    [
        ({}, None),
        ({"max_pixels": 5184}, None),
        ({"size": {"longest_edge": 6912, "shortest_edge": 576}}, None),
        ({"max_pixels": None, "size": {"longest_edge": 6912}}, None),
        ({"max_pixels": 5184, "size": {"longest_edge": 6912}}, {"image_processor": None}),
        (None, {"image_processor": {"size": {"longest_edge": 6912, "shortest_edge": 576}, "patch_size": 12}}),
        (None, {"image_processor": {"max_pixels": 5184}, "processor_class": "Qwen3VLProcessor"}),
        ({"max_pixels": 5184}, {"image_processor": {"max_pixels": 6912}}),
        ({"max_pixels": 5184}, {"image_processor": {"size": {"longest_edge": 6912}}}),
        ({"size": {"longest_edge": 6912}}, {"image_processor": {"size": {}}}),
    ],
    ids=str,
)
def test_the_picture_limit_is_the_processor_s_own(plain, nested, tmp_path):
    folder = copied(tmp_path / "model")
    for name, settings in zip(PICTURE_SETTINGS, (plain, nested), strict=True):
        (folder / name).unlink(missing_ok=True)
        if settings is not None:
            (folder / name).write_text(json.dumps(settings))
    limit = load_processor(folder, "--student").inner.image_processor.max_pixels
    assert read_size(str(folder), "--student").max_pixels == limit


@pytest.mark.parametrize("name", PICTURE_SETTINGS)
@pytest.mark.parametrize(
    "content", ["{", "", "[]", "null", "3", '{"size": 3, "image_processor": {"size": 3}}', "\udcff", "[" * 10**5,
                '{"max_pixels": "many", "image_processor": {"max_pixels": "many"}}',
                '{"max_pixels": 0, "image_processor": 7}'],
    ids=range(10),
)  # fmt: skip
def test_damaged_picture_settings_are_refused(name, content, tmp_path):
    folder = copied(tmp_path / "model")
    (folder / name).write_bytes(content.encode("utf-8", "surrogateescape"))
    assert refused(folder).endswith("copy it from the original model")


def test_a_hub_id_reads_config_and_header_only(monkeypatch, tmp_path):
    """Stands for the Hub: nothing but these two calls is allowed."""
    from types import SimpleNamespace

    from vgs_mlx.planning import sizes

    file = Path(CONFIGS / "qwen3-vl-2b.json")
    info = SimpleNamespace(dtype="BF16", shape=[10, 64])
    found = SimpleNamespace(files_metadata={"a": SimpleNamespace(tensors={"language_model.x.weight": info})})
    asked = []

    def download(*what, **which):
        asked.append((*what, which))
        return file

    def metadata(*what, **which):
        asked.append((*what, which))
        return found

    monkeypatch.setattr(sizes, "hf_hub_download", download)
    monkeypatch.setattr(sizes, "get_safetensors_metadata", metadata)
    for name, revision in (("a/b", None), ("a/b@refs/pr/1", "refs/pr/1")):
        size = read_size(name, "--student")
        assert size.source == "header" and size.language_weights == Weights(640, 1280, 640)
        assert asked == [("a/b", "config.json", {"revision": revision}), ("a/b", {"revision": revision})]
        asked.clear()


def elements(size) -> int:
    return size.language_weights.elements + size.vision_weights.elements


def nbytes(module) -> int:
    return sum(each.nbytes for _, each in tree_flatten(module.parameters()))
