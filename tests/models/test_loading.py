"""Models are loaded strictly: what is missing, surplus, damaged or of another model is refused in one line."""

import gc
import json
import logging
import sys
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from model_folders import EMBEDDING, configure, copied, embedded_logprobs, load, refusal, rewrite
from vgs_mlx.errors import Refusal
from vgs_mlx.planning.sizes import read_size

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "scripts"))
from benchmarks.folders import Sizes, write_model


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
    configure(folder, text_config=config["text_config"] | {"vocab_size": 100})
    rewrite(folder, lambda weights: weights | {EMBEDDING: weights[EMBEDDING][:100]})


def as_transformers_5(folder):
    """The config of a Qwen3-VL as `save_pretrained` of transformers 5 writes it."""
    config = json.loads((folder / "config.json").read_text())
    text, vision = config["text_config"], config["vision_config"]
    text["rope_parameters"] = {"rope_theta": text.pop("rope_theta"), **text.pop("rope_scaling")}
    configure(folder, text_config=text, vision_config=vision | {"model_type": "qwen3_vl_vision"})


def as_its_refusal_says(folder):
    """The edit that undoes it."""
    config = json.loads((folder / "config.json").read_text())
    text, vision = config["text_config"], config["vision_config"]
    text["rope_theta"] = text["rope_parameters"].pop("rope_theta")
    text["rope_scaling"] = text.pop("rope_parameters")
    configure(folder, text_config=text, vision_config=vision | {"model_type": "qwen3_vl"})


def heads_of_no_size(folder):
    config = json.loads((folder / "config.json").read_text())
    configure(folder, vision_config=config["vision_config"] | {"num_heads": 0})


def as_fp8(folder):
    """Bytes of F8_E4M3 for one weight, which MLX would read as whole numbers."""
    file = folder / "model.safetensors"
    rewrite(folder, lambda weights: weights | {"language_model.model.norm.weight": mx.zeros(128, mx.uint8)})
    size = int.from_bytes(file.read_bytes()[:8], "little")
    header = file.read_bytes()[8 : 8 + size].replace(b'"U8"', b'"F8_E4M3"')
    file.write_bytes(len(header).to_bytes(8, "little") + header + file.read_bytes()[8 + size :])


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
        (no_vision, "lacks its picture part", "take the whole model"),
        (no_vision_in_the_index_either, "lacks its picture part", "take the whole model"),
        (missing_shard, "vision_tower", WEIGHTS),
        (cut_short, "damaged", WEIGHTS),
        (cut_in_the_header, "damaged", WEIGHTS),
        (empty_file, "damaged", WEIGHTS),
        (as_transformers_5, "transformers 5", "or edit config.json"),
        (heads_of_no_size, "division", "take an mlx-community conversion"),
        (as_fp8, "norm.weight is stored as F8_E4M3", "take the bfloat16 checkpoint"),
        (setting(quantization_config={"quant_method": "gptq", "bits": 4}), "packed by gptq", "mlx-community"),
        (without("model.safetensors"), "no weights", "download the whole model"),
        (
            fewer_rows_than_ids,
            "its head has 100 rows, its tokenizer",
            "one of the two belongs to another model",
        ),
        (setting(image_token_id=90_000), "no id 90000", "one of the two belongs to another model"),
        (setting(model_type="llava"), "model_type 'llava' is not supported", "supported: qwen3_vl"),
        (setting(model_type=None), "its config.json names no model_type", "copy it from"),
        (setting(text_config=None), "num_hidden_layers", WEIGHTS),
        (text("config.json", "[]"), "not supported", "supported: qwen3_vl"),
        (text("config.json", "{"), "config.json: broken JSON", "copy it from the original model"),
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


def test_a_checkpoint_in_the_layout_of_transformers_5_is_refused_by_name_and_its_mend_works(tmp_path):
    folder = copied(tmp_path / "model")
    as_transformers_5(folder)
    line = refusal(folder)
    assert "damaged" not in line and "downloading it again changes nothing" in line
    with pytest.raises(Refusal) as planned:
        read_size(str(folder), "--student")
    assert str(planned.value) == line
    as_its_refusal_says(folder)
    np.testing.assert_array_equal(
        embedded_logprobs(load(folder)), embedded_logprobs(load("embedded:student"))
    )


def test_a_rotary_base_at_its_new_place_alone_is_refused(tmp_path):
    """mlx-vlm would drop what it doesn't know."""
    folder = copied(tmp_path / "model")
    text = json.loads((folder / "config.json").read_text())["text_config"]
    both = text | {"rope_parameters": {"rope_theta": 1e4}}
    configure(folder, text_config=both)
    load(folder)  # the old places say it all
    configure(folder, text_config={key: value for key, value in both.items() if key != "rope_scaling"})
    assert "text_config" in refusal(folder)


def test_an_undamaged_copy_is_loaded(tmp_path):
    """Else the refusals above would show nothing."""
    folder = copied(tmp_path / "model")
    model = load(folder)
    assert model.folder == folder and model.vocabulary == len(model.processor.tokenizer.get_vocab())
    np.testing.assert_array_equal(embedded_logprobs(model), embedded_logprobs(load("embedded:student")))


def test_a_model_comes_frozen_in_evaluation_mode_with_its_end_ids(tmp_path):
    folder = copied(tmp_path / "model")
    configure(folder, eos_token_id=7)
    (folder / "generation_config.json").unlink()
    model = load(folder)
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
        load(folder)
    except Refusal as refused:
        assert "model_file" in str(refused)
    assert not ran.exists()


def test_nothing_of_a_checkpoint_is_written_to(tmp_path):
    folder = copied(tmp_path / "model")
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*")}
    load(folder, bits=4)
    assert before == {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*")}


def test_libraries_add_no_noise_to_a_refusal(tmp_path, caplog):
    folder = copied(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    with caplog.at_level(logging.WARNING):
        refusal(folder)
    assert not caplog.records


@pytest.mark.parametrize("options", [{}, {"native": True, "bits": 4}], ids=["widened", "packed"])
def test_loading_never_holds_all_that_is_read_and_all_that_is_made_of_it(options, tmp_path):
    folder = write_model(tmp_path / "model", Sizes(hidden=256, layers=8, ids=1024, rows=1024), seed=0)
    rewrite(folder, lambda weights: {name: value.astype(mx.bfloat16) for name, value in weights.items()})
    gc.collect()
    mx.clear_cache()
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    model = load(folder, **options)
    assert mx.get_peak_memory() - before < 1.15 * (mx.get_active_memory() - before)
    assert model.vocabulary == 1024


@pytest.mark.parametrize(
    "path", ["x" * 5000, "~nobody-of-that-name/model", "a\nb", "/dev/null", "a\0b"], ids=range(5)
)
def test_a_path_that_leads_to_no_folder_is_refused(path):
    for refused in (lambda: load(path), lambda: read_size(path, "--student")):
        with pytest.raises(Refusal, match="no such folder, and not a Hub id"):
            refused()
