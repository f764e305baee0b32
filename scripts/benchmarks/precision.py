"""How far a run in the stored precision is from one in float32: gradients, gate and terms on the same rollouts.

The embedded student (bfloat16) with adapters that have moved and the embedded teacher (4 bits), as they are stored,
beside the same weights in float32. Metal sums a packed product in float32, and so does CUDA for more than a few rows.
MLX's CPU build sums it in the type of its input: in bfloat16 its error grows with the width, 1.3 % at 128 and 7 % at
4,096, where rounding the sum alone costs 0.2 %. So the comparison is made with either sum.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import mlx.core as mx
import numpy as np

from vgs_mlx.data import shapes
from vgs_mlx.models import adapters
from vgs_mlx.models.base import LoadedModel
from vgs_mlx.models.loading import load_model
from vgs_mlx.models.precision import in_float32
from vgs_mlx.objective.objectives import OBJECTIVES
from vgs_mlx.objective.steering import cosine, norm
from vgs_mlx.recipe.options import Data, Recipe, Student
from vgs_mlx.recipe.options import Rollout as Sampled
from vgs_mlx.rollout.collect import collect
from vgs_mlx.train.gradients import Gradients, Weighing, compute
from vgs_mlx.train.setup import render_prompt
from vgs_mlx.train.step import encode_views
from vgs_mlx.types import Rollout

MOVED = 0.02  # by which lora_b, which starts at 0, has moved
RECIPE = Recipe(data=Data(system_prompt=""))
WEIGHING = Weighing(
    objective=OBJECTIVES["vgs"], steering_coef=2.0, preservation_coef=0.01, reduction="token", chunk_size=512,
    microbatch_size=16, max_tokens=None, grad_checkpoint=False, separate=True,
)  # fmt: skip


@dataclass(frozen=True)
class Beside:
    """What the stored precision computes, beside float32. Gradients by role: standard, steering, preservation."""

    cosine: Mapping[str, float]
    norm: Mapping[str, float]  # theirs over that of float32
    gate: float  # the share of tokens with the same gate
    terms: Mapping[str, tuple[float, float]]  # the mean and the largest difference of a token's, nats
    tokens: int


def run(prompts: int, completions: int, length: int, settings: Student) -> dict[str, Beside]:
    """The comparison with either sum of packed products, on the rollouts of the float32 student."""
    wide, stored = (pair(settings, widened=widened) for widened in (True, False))
    rollouts = sampled(wide[0], prompts, completions, length)
    expected = gradients(wide, rollouts)
    found = {"summed as MLX does here": beside(expected, gradients(stored, rollouts))}
    with summed_in_float32():
        return {**found, "summed in float32": beside(expected, gradients(stored, rollouts))}


def pair(settings: Student, *, widened: bool) -> tuple[LoadedModel, LoadedModel]:
    """Student and teacher in float32 or as stored, with the same adapters either way."""
    found = [load_model(f"embedded:{role}", role, native=True, say=str) for role in ("student", "teacher")]
    for model in found if widened else ():
        in_float32(model.module)
    student, teacher = (replace(model, shares_prefix=True) for model in found)
    adapters.prepare(student, settings, seed=0)
    mx.random.seed(1)
    weights = adapters.trainable_weights(student.module).items()
    moved = {
        name: value + MOVED * mx.random.normal(value.shape)
        for name, value in weights
        if name.endswith("lora_b")
    }
    adapters.set_weights(student.module, moved)
    return student, teacher


def sampled(student: LoadedModel, prompts: int, completions: int, length: int) -> list[Rollout]:
    """The student's answers to the first prompts of the embedded data."""
    rows = [render_prompt(student.processor, row, RECIPE) for row in shapes.examples("train", prompts)]
    settings = Sampled(completions_per_prompt=completions, max_completion_length=length, batch_size=256)
    encodings = encode_views(student, rows, OBJECTIVES["standard"])
    return collect(student, rows, settings, encodings, seed=0, step=0)


def gradients(models: tuple[LoadedModel, LoadedModel], rollouts: Sequence[Rollout]) -> Gradients:
    """The trees of VGS by role."""
    encodings = encode_views(models[0], [each.prompt for each in rollouts], WEIGHING.objective)
    return compute(*models, rollouts, WEIGHING, encodings)


def beside(expected: Gradients, found: Gradients) -> Beside:
    """Of the same rollouts."""
    trees = [(role, expected.trees[role], tree) for role, tree in found.trees.items()]
    apart = {name: np.abs(found.terms[name] - values) for name, values in expected.terms.items()}
    return Beside(
        cosine={role: float(cosine(wide, stored)) for role, wide, stored in trees},
        norm={role: float(norm(stored) / norm(wide)) for role, wide, stored in trees},
        gate=float((expected.gate == found.gate).mean()),
        terms={name: (float(each.mean()), float(each.max())) for name, each in apart.items()},
        tokens=len(expected.gate),
    )


@contextmanager
def summed_in_float32() -> Iterator[None]:
    """Let packed products sum in float32 and round the sum, as an accelerator does."""
    original = mx.quantized_matmul

    def product(x, w, scales, biases, transpose=True, **packing):
        weight = mx.dequantize(w, scales.astype(mx.float32), biases.astype(mx.float32), **packing)
        return (x.astype(mx.float32) @ (weight.T if transpose else weight)).astype(x.dtype)

    mx.quantized_matmul = product
    try:
        yield
    finally:
        mx.quantized_matmul = original


def show(found: Mapping[str, Beside]) -> None:
    """A line for each gradient, one for the gate, one for each term."""
    for name, each in found.items():
        print(f"\npacked products {name}, {each.tokens} tokens")
        for role, value in each.cosine.items():
            print(f"  gradient {role:14} cosine {value:.5f}   norm {each.norm[role]:.4f} of float32's")
        print(f"  gate     the same at {each.gate:.2%} of tokens")
        for term, (mean, largest) in each.terms.items():
            print(f"  term     {term:24} differs by {mean:.4f} nats, by {largest:.2f} at most")
