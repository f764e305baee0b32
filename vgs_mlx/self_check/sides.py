"""A side of a comparison: a device and a precision; the embedded models and fixed rollouts on it.

Whatever is not computed by MLX is the same on every side and every machine: answers are the rows' own solutions, and
the adapters' weights come from NumPy's frozen generator.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import mlx.core as mx
import numpy as np

from vgs_mlx.data import shapes
from vgs_mlx.device import backend
from vgs_mlx.models import adapters
from vgs_mlx.models.base import LoadedModel
from vgs_mlx.models.loading import EMBEDDED, load_model
from vgs_mlx.models.precision import in_float32
from vgs_mlx.recipe import file as recipe_file
from vgs_mlx.recipe.options import Recipe
from vgs_mlx.resources import quickstart
from vgs_mlx.rollout.collect import given_answers
from vgs_mlx.train.setup import render_prompt
from vgs_mlx.types import Rollout

Precision = Literal["float32", "stored"]
"""Of both models: widened to float32, or as their files hold them (bfloat16 student, 4-bit teacher)."""
PRECISIONS: tuple[Precision, ...] = ("float32", "stored")

PROMPTS = 4  # each with an answer in either style: 8 rollouts, 224 tokens
ADAPTER_SPREAD = 0.02  # of the adapters' weights: lora_b would start at 0, and lora_a then has no gradient


@dataclass(frozen=True)
class Side:
    """Where and in what precision something is computed."""

    name: str  # "CPU", "Metal", "CUDA"
    device: mx.Device
    precision: Precision


@dataclass(frozen=True, eq=False)
class Bench:
    """The embedded models of a side and the rows that they answer. Its arrays belong to the side's device."""

    side: Side
    recipe: Recipe
    student: LoadedModel
    teacher: LoadedModel
    rollouts: list[Rollout]


def devices() -> dict[str, mx.Device]:
    """The devices of this machine by name, the one that commands compute on last."""
    names = {"cpu": "CPU", "metal": "Metal", "cuda": "CUDA"}
    found = {"CPU": mx.Device(mx.cpu)}
    return found if backend() == "cpu" else {**found, names[backend()]: mx.default_device()}


@contextmanager
def computing_on(device: mx.Device) -> Iterator[None]:
    """While the body runs, MLX computes on this device."""
    before = mx.default_device()
    mx.set_default_device(device)
    try:
        yield
    finally:
        mx.set_default_device(before)


@contextmanager
def computing(side: Side) -> Iterator[None]:
    """While the body runs, MLX computes on a side's device, and as well as GPUs do.

    MLX's CPU adds up products of bfloat16 with packed weights in bfloat16, which is 4 % off and would hide what is to
    be seen; GPUs do so in float32.
    """
    original = mx.quantized_matmul

    def whole(x: mx.array, *packed: mx.array, **settings: Any) -> mx.array:
        return original(x.astype(mx.float32), *packed, **settings).astype(x.dtype)

    with computing_on(side.device):
        if side.device.type == mx.DeviceType.cpu:
            mx.quantized_matmul = whole
        try:
            yield
        finally:
            mx.quantized_matmul = original


def prepare(side: Side) -> Bench:
    """Load the models, and make the adapters and rollouts. Computes on the default device: see `computing`."""
    recipe = _recipe(side.precision)
    student, teacher = (_load(role, side) for role in ("student", "teacher"))
    adapters.prepare(student, recipe.student, recipe.seed)
    random = np.random.RandomState(0)
    drawn = {
        name: mx.array((ADAPTER_SPREAD * random.standard_normal(value.shape)).astype(np.float32))
        for name, value in sorted(adapters.trainable_weights(student.module).items())
        if adapters.is_adapter_weight(name)
    }
    adapters.set_weights(student.module, drawn)
    return Bench(side, recipe, student, teacher, _rollouts(student, recipe))


def _recipe(precision: Precision) -> Recipe:
    """The quickstart's, in several micro-batches and chunks. In float32 the vision tower trains too."""
    recipe = recipe_file.load_recipe(quickstart())
    return replace(
        recipe,
        student=replace(recipe.student, train_vision=precision == "float32"),
        objective=replace(recipe.objective, norm_scale="exact", chunk_size=64),
        train=replace(recipe.train, microbatch_size=4),
    )


def _load(role: str, side: Side) -> LoadedModel:
    model = load_model(EMBEDDED + role, f"--{role}", native=True, say=lambda _: None)
    if side.precision == "float32":
        in_float32(model.module)
        model.module.freeze()
    if side.device.type == mx.DeviceType.cpu:
        for rotary in rotaries(model):  # on a Mac mlx-vlm gives it a Metal kernel, which fails on the CPU
            rotary.fused_apply = False
    return model


def rotaries(model: LoadedModel) -> list[Any]:
    """The rotary embeddings of a model's layers; one whose `fused_apply` is True runs a kernel of mlx-vlm's own."""
    return [each for each in model.module.modules() if hasattr(each, "fused_apply")]


def _rollouts(student: LoadedModel, recipe: Recipe) -> list[Rollout]:
    """The solutions of the first held-out pictures in both styles, as if they had been sampled."""
    found = []
    for index in range(PROMPTS):
        prompt = render_prompt(student.processor, shapes.example("held_out", index), recipe)
        for style in ("teacher", "student"):
            worded = replace(prompt, example=shapes.example("held_out", index, style=style))
            [given] = given_answers(student, [worded])
            found.append(replace(given, prompt=prompt, number=index))
    return found
