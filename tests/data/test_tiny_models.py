"""The shipped tiny models: complete folders that stock mlx-vlm loads, alike where distillation needs it."""

import json
from pathlib import Path

import numpy as np
import pytest

import vgs_mlx
from scripts.tiny import card
from vgs_mlx.data.shapes import examples

TINY = Path(vgs_mlx.__file__).parent / "tiny"
OWN = {"config.json", "model.safetensors", "README.md"}


@pytest.fixture(scope="module", params=["teacher", "student"])
def loaded(request):
    import mlx_vlm

    return mlx_vlm.load(str(TINY / request.param))


def test_both_models_share_everything_but_weights_and_configuration():
    files = {path.name for path in (TINY / "teacher").iterdir()} - OWN
    assert files == {path.name for path in (TINY / "student").iterdir()} - OWN
    assert {"tokenizer.json", "chat_template.jinja", "preprocessor_config.json"} <= files
    for name in files:
        assert (TINY / "teacher" / name).read_bytes() == (TINY / "student" / name).read_bytes(), name


@pytest.mark.parametrize("role", ["teacher", "student"])
def test_each_has_the_card_and_the_license_that_its_script_writes(role, tmp_path):
    card.write(tmp_path, role)
    for name in ("README.md", "LICENSE"):
        assert (TINY / role / name).read_bytes() == (tmp_path / name).read_bytes()


def test_together_they_stay_under_ten_megabytes():
    assert sum(path.stat().st_size for path in TINY.rglob("*") if path.is_file()) < 10e6


def test_only_the_teachers_language_model_is_quantised():
    import mlx.core as mx

    teacher, student = (mx.load(str(TINY / name / "model.safetensors")) for name in ("teacher", "student"))
    assert any(key.endswith(".scales") for key in teacher)
    assert not any(key.endswith(".scales") and "vision" in key for key in teacher)
    assert {value.dtype for value in student.values()} == {mx.bfloat16}
    assert json.loads((TINY / "teacher" / "config.json").read_text())["quantization"]["bits"] == 4


def test_a_picture_costs_nine_tokens_and_keeps_its_size(loaded):
    _, processor = loaded
    row = examples("held_out", 1)[0]
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": row.question}]}]
    text = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    fed = processor(images=[row.pictures[0].open()], text=[text])
    image = processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")
    assert int((np.array(fed["input_ids"]) == image).sum()) == 9
    assert np.array(fed["image_grid_thw"]).tolist() == [[1, 6, 6]]
    assert text.startswith("<|im_start|>user\n") and text.endswith("<|im_start|>assistant\n")


def test_tokens_give_back_the_text(loaded):
    tokenizer = loaded[1].tokenizer
    for row in examples("held_out", 20, style="student"):
        ids = tokenizer.encode(row.solution)
        assert tokenizer.decode(ids) == row.solution
        assert len(ids) < 48
