"""Copies of the embedded models to damage or change, and what a model predicts for one of their questions."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import mlx_vlm.utils
import numpy as np
import pytest

from random_models import random_completion
from vgs_mlx.data import shapes
from vgs_mlx.data.prompts import render
from vgs_mlx.errors import Refusal
from vgs_mlx.exporting import fusing
from vgs_mlx.models import loading
from vgs_mlx.models.base import LoadedModel
from vgs_mlx.models.logprobs import compute_logprobs
from vgs_mlx.models.rows import Continued
from vgs_mlx.recipe.options import Data
from vgs_mlx.resources import tiny_model

EMBEDDING = "language_model.model.embed_tokens.weight"

Weights = dict[str, mx.array]


def silent(_: str) -> None: ...


def copied(to: Path, role: str = "student", dtype: mx.Dtype | None = None) -> Path:
    """A copy of an embedded model; `dtype` for all its weights."""
    shutil.copytree(tiny_model(role), to)
    if dtype is not None:
        rewrite(to, lambda weights: {name: value.astype(dtype) for name, value in weights.items()})
    return to


def rewrite(folder: Path, change: Callable[[Weights], Weights]) -> None:
    """Put other weights into a model folder."""
    weights = change(mx.load(str(folder / "model.safetensors")))
    mx.save_safetensors(str(folder / "new.safetensors"), weights)
    os.replace(folder / "new.safetensors", folder / "model.safetensors")


def stored_packed(folder: Path, **packing) -> Path:
    """The tiny student with layers packed in 4 bits by `nn.quantize`, as a model folder."""
    model = load("embedded:student", native=True)
    nn.quantize(model.module, bits=4, **packing)
    mlx_vlm.utils.save_weights(folder, model.module)
    config = json.loads((model.folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(fusing.fused_config(config, model.module)))
    for file in model.folder.iterdir():
        if file.name not in ("config.json", "model.safetensors"):
            (folder / file.name).write_bytes(file.read_bytes())
    return folder


def language_part(path: str, layer: nn.Module) -> bool:
    """For `stored_packed`: the language model alone, as mlx-vlm packs models."""
    return path.startswith("language_model.") and hasattr(layer, "to_quantized")


def configure(folder: Path, name: str = "config.json", **changes) -> None:
    """Change keys of a JSON file of the model; None takes one out."""
    config = json.loads((folder / name).read_text()) | changes
    (folder / name).write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def load(path: str | Path, **options) -> LoadedModel:
    return loading.load_model(str(path), "--student", **({"say": silent} | options))


def refusal(path: str | Path) -> str:
    """The line with which a model is refused."""
    with pytest.raises(Refusal) as refused:
        load(path)
    return str(refused.value)


def embedded_logprobs(model: LoadedModel) -> np.ndarray:
    """Log-probs of a completion after a question about shapes, in both views."""
    [example] = shapes.examples("held_out", 1)
    prompt = render(model.processor, example, Data(system_prompt="", max_pixels=None))
    completion = random_completion(0, 8) + 10
    sequences = [
        Continued(view, completion) for view in (prompt.student["with_image"], prompt.student["text_only"])
    ]
    return np.array(compute_logprobs(model, sequences)[0])
