"""Random Qwen3-VLs as folders that every command loads, of any width and vocabulary, and rows to run them on."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten
from mlx_vlm.models.qwen3_vl import Model, ModelConfig
from PIL import Image

from vgs_mlx.resources import tiny_model

TOKEN_SIDE = 24  # pixels of an image token's side: the embedded models' patches of 12, merged 2 x 2
COPIED = ("chat_template.jinja", "generation_config.json", "tokenizer_config.json")


@dataclass(frozen=True)
class Sizes:
    """A model's sizes; all others follow in proportion."""

    hidden: int
    layers: int
    ids: int = 8192  # that the tokenizer has
    rows: int = 8192  # of the head
    vision: int = 128  # width of the tower


def write_model(folder: Path, sizes: Sizes, seed: int) -> Path:
    """A model folder with random float32 weights. Its completions hardly ever end early: one id in thousands does."""
    folder.mkdir(parents=True)
    source = tiny_model("student")
    for name in COPIED:
        shutil.copyfile(source / name, folder / name)
    config = _config(json.loads((source / "config.json").read_text(encoding="utf-8")), sizes)
    _write_json(folder / "config.json", config)
    preprocessor = json.loads((source / "preprocessor_config.json").read_text(encoding="utf-8"))
    _write_json(folder / "preprocessor_config.json", preprocessor | {"max_pixels": 2**24})
    tokenizer = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    first = 1 + max([*vocabulary.values(), *(each["id"] for each in tokenizer["added_tokens"])])
    vocabulary.update({f"<filler {number}>": number for number in range(first, sizes.ids)})
    _write_json(folder / "tokenizer.json", tokenizer)
    mx.random.seed(seed)
    module = Model(ModelConfig.from_dict(config))
    mx.save_safetensors(
        str(folder / "model.safetensors"), dict(tree_flatten(module.parameters())), {"format": "mlx"}
    )
    return folder


def write_rows(folder: Path, count: int, image_tokens: int, solution_words: int = 0) -> Path:
    """A .jsonl file of questions about noise, each with a picture of `image_tokens` tokens (a square number)."""
    folder.mkdir(parents=True)
    side = round(image_tokens**0.5) * TOKEN_SIDE
    rng = np.random.default_rng(0)
    lines = []
    for row in range(count):
        pixels = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{row}.png", compress_level=0)
        words = " ".join(["circle"] * solution_words)
        solution = {"solution": f"{words} \\boxed{{red}}"} if solution_words else {}
        lines.append({"image": f"{row}.png", "question": "What colour is it?", "answer": "red", **solution})
    file = folder / "rows.jsonl"
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    return file


def _config(config: dict, sizes: Sizes) -> dict:
    heads = sizes.hidden // 64
    text = config["text_config"] | dict(
        hidden_size=sizes.hidden, num_hidden_layers=sizes.layers, intermediate_size=3 * sizes.hidden,
        num_attention_heads=heads, num_key_value_heads=max(1, heads // 2), head_dim=64, vocab_size=sizes.rows,
        max_position_embeddings=32_768, dtype="float32",
        rope_scaling={"type": "default", "mrope_interleaved": True, "mrope_section": [12, 10, 10]},
    )  # fmt: skip
    vision = config["vision_config"] | dict(
        hidden_size=sizes.vision, depth=4, intermediate_size=4 * sizes.vision, num_heads=sizes.vision // 64,
        out_hidden_size=sizes.hidden, num_position_embeddings=256, deepstack_visual_indexes=[0, 1, 2],
    )  # fmt: skip
    return config | dict(text_config=text, vision_config=vision, vocab_size=sizes.rows, dtype="float32")


def _write_json(file: Path, value: dict) -> None:
    file.write_text(json.dumps(value), encoding="utf-8")
