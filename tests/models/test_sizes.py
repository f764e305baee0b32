"""A model's size from its config and headers: the same as the loaded model's, and clear words where there is none."""

import json
from pathlib import Path

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten

from vgs_mlx.errors import Refusal
from vgs_mlx.models.loading import load_model
from vgs_mlx.models.sizes import Weights, implied, linears, parse, read_size
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
    listed = implied(config, size.text, size.vision)
    twice = [*listed, type(listed[0])("lm_head.weight", "BF16", (151_936, 2048))]
    assert parse("x", config, twice).language_weights == size.language_weights


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"model_type": "llava"}, "model_type 'llava' is not supported; supported: qwen3_vl"),
        ([], "model_type None is not supported"),
        ({"model_type": "qwen3_vl", "text_config": {}}, "config.json lacks"),
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


def test_a_damaged_header_is_refused(tmp_path):
    (tmp_path / "config.json").write_text((CONFIGS / "qwen3-vl-2b.json").read_text())
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 9)
    with pytest.raises(Refusal, match="header is damaged"):
        read_size(str(tmp_path), "--student")


def test_a_hub_id_reads_config_and_header_only(monkeypatch, tmp_path):
    """Stands for the Hub: nothing but these two calls is allowed."""
    from types import SimpleNamespace

    from vgs_mlx.models import sizes

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
