"""Random Qwen3-VLs, prompts and recipes of the sizes that are measured. Completions never end early."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "tests"))
import random_models as random
from vgs_mlx import device
from vgs_mlx.data import shapes
from vgs_mlx.data.prompts import render
from vgs_mlx.models import adapters
from vgs_mlx.models.base import LoadedModel
from vgs_mlx.models.loading import load_model
from vgs_mlx.models.precision import in_float32, quantise_language
from vgs_mlx.recipe import file as recipe_file
from vgs_mlx.recipe import options as recipes
from vgs_mlx.resources import tiny_model
from vgs_mlx.types import Example, Prompt, Rollout, View

VOCABULARY = 8192
REAL_ROWS, REAL_IDS = 151_936, 151_669  # of Qwen3-VL's head and tokenizer
PATCH = 16
SIZES = {"student": (256, 0), "teacher": (512, 1)}  # width, seed


def scaled_models(layers: int = 8) -> tuple[LoadedModel, LoadedModel]:
    """Student and teacher with the proportions of 2B and 8B: a tied head of about 15 %, a teacher 4 times as big."""
    student, teacher = plain_model("student", layers), plain_model("teacher", layers)
    adapters.prepare(student, recipes.Student(rank=16), seed=0)
    return student, teacher


def plain_model(name: str, layers: int = 8) -> LoadedModel:
    """The student or the teacher of `scaled`, frozen."""
    hidden, seed = SIZES[name]
    return sized_model(name, hidden, layers, seed)


def sized_model(name: str, hidden: int, layers: int, seed: int) -> LoadedModel:
    """A random Qwen3-VL of a width and depth, its other sizes in proportion."""
    text = dict(
        num_hidden_layers=layers, hidden_size=hidden, intermediate_size=3 * hidden, num_attention_heads=hidden // 64,
        num_key_value_heads=max(1, hidden // 128), head_dim=64, vocab_size=VOCABULARY, tie_word_embeddings=True,
        rope_scaling={"type": "default", "mrope_section": [12, 10, 10]},
    )  # fmt: skip
    vision = dict(
        depth=4, hidden_size=hidden // 2, intermediate_size=2 * hidden, out_hidden_size=hidden, num_heads=hidden // 64,
        patch_size=PATCH, num_position_embeddings=256, deepstack_visual_indexes=[0, 1, 2],
    )  # fmt: skip
    model = random.sized_model(name, text, vision, seed=seed, scale=1.0, vocabulary=VOCABULARY)
    return replace(model, end_ids=frozenset())  # completions run to their full length


def prompts(count: int, image_tokens: int, words: int = 24) -> list[Prompt]:
    """Prompts with one random picture of `image_tokens` tokens each."""
    side = 2 * round(image_tokens**0.5)
    rng = np.random.default_rng(0)
    found = []
    for row in range(count):
        text = rng.integers(6, VOCABULARY, words).astype(np.int32)
        ids = np.concatenate([[random.VISION_START], np.full(side * side // 4, random.IMAGE), text]).astype(
            np.int32
        )
        pixels = rng.normal(size=(side * side, 3 * 2 * PATCH * PATCH)).astype(np.float32)
        view = View(ids, {"pixel_values": pixels, "image_grid_thw": np.array([[1, side, side]])})
        views = {"with_image": view, "text_only": View(text, {})}
        found.append(Prompt(Example(f"row-{row}", "?", "1", ()), views, views))
    return found


def recipe(
    objective: str, norm_scale: str, *, completions: int = 4, length: int = 128, micro: int = 8
) -> recipes.Recipe:
    """The settings of a workload; micro-batches of `micro` rollouts."""
    settings = recipes.Recipe(
        rollout=recipes.Rollout(
            completions_per_prompt=completions, max_completion_length=length, batch_size=64
        ),
        train=recipes.Train(microbatch_size=micro),
    )
    return with_objective(settings, objective, norm_scale)


def with_objective(settings: recipes.Recipe, objective: str, norm_scale: str) -> recipes.Recipe:
    """The same settings for another objective."""
    return replace(settings, objective=replace(settings.objective, name=objective, norm_scale=norm_scale))


def answers(asked: list[Prompt], completions: int, length: int) -> list[Rollout]:
    """Random completions of one length for each prompt, as if they had been sampled."""
    rng = np.random.default_rng(1)
    return [
        Rollout(
            prompt,
            rng.integers(6, VOCABULARY, length).astype(np.int32),
            np.zeros(length, np.float32),
            True,
            number,
        )
        for number, prompt in enumerate(asked)
        for _ in range(completions)
    ]


def paper_models(layers: int | None = None) -> tuple[LoadedModel, LoadedModel]:
    """The 2B student in bfloat16 with adapters and the 8B teacher in 4 bits, with random weights.

    Sizes are those of recipes/configs. On a CPU both are float32, as every model is there. `layers`: fewer decoder
    layers, for a look at whether it runs.
    """
    configs = Path(__file__).parent.parent.parent / "recipes" / "configs"
    found = []
    for seed, name in enumerate(("qwen3-vl-2b", "qwen3-vl-8b")):
        sizes = json.loads((configs / f"{name}.json").read_text(encoding="utf-8"))
        text = {**sizes["text_config"], "rope_scaling": {"type": "default", "mrope_section": [24, 20, 20]}}
        text["num_hidden_layers"] = layers or text["num_hidden_layers"]
        given = ("spatial_merge_size", "temporal_patch_size")  # by sized_model
        vision = {key: value for key, value in sizes["vision_config"].items() if key not in given}
        model = random.sized_model(
            name, text, vision, seed=seed, scale=1.0, vocabulary=VOCABULARY, dtype=mx.bfloat16
        )
        found.append(replace(model, vocabulary=text["vocab_size"], end_ids=frozenset()))
    student, teacher = found
    quantise_language(teacher.module, bits=4)
    for model in found if device.widens(device.backend()) else ():  # as when models are loaded
        in_float32(model.module)
    mx.eval(student.module.parameters(), teacher.module.parameters())
    adapters.prepare(student, recipes.Student(rank=16), seed=0)
    return student, teacher


def with_real_vocabulary(folder: Path) -> Path:
    """A copy of the embedded student with as many ids and rows of the head as Qwen3-VL; the new ones are made up."""
    shutil.copytree(tiny_model("student"), folder)
    config, tokenizer = (
        json.loads((folder / name).read_text(encoding="utf-8")) for name in ("config.json", "tokenizer.json")
    )
    config["vocab_size"] = config["text_config"]["vocab_size"] = REAL_ROWS
    words = tokenizer["model"]["vocab"]
    words |= {f"made-up-{number}": number for number in range(len(words), REAL_IDS)}
    for name, content in (("config.json", config), ("tokenizer.json", tokenizer)):
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    weights = mx.load(str(folder / "model.safetensors"))
    rows = weights["language_model.model.embed_tokens.weight"]
    mx.random.seed(0)
    new = 0.1 * mx.random.normal((REAL_ROWS - rows.shape[0], rows.shape[1]))
    weights["language_model.model.embed_tokens.weight"] = mx.concatenate([rows, new.astype(rows.dtype)])
    mx.eval(weights)  # before the file that they are read from is written
    mx.save_safetensors(str(folder / "model.safetensors"), weights)
    return folder


def embedded() -> tuple[LoadedModel, LoadedModel, list[Prompt], recipes.Recipe]:
    """The shipped student and teacher, the quickstart's settings, and the prompts of one of its steps."""
    settings = recipe_file.load_recipe(Path(__file__).parent.parent.parent / "recipes" / "quickstart.yaml")
    student, teacher = (load_model(f"embedded:{name}", f"--{name}") for name in ("student", "teacher"))
    adapters.prepare(student, settings.student, seed=0)
    asked = [
        render(student.processor, each, settings.data)
        for each in shapes.examples("train", settings.rollout.prompts_per_step)
    ]
    return student, teacher, asked, settings
