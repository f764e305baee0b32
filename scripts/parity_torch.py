"""Compares the package's numbers with PyTorch's: transformers' Qwen3-VL and autograd, on the same rollouts.

    pip install -e '.[torch]'
    python scripts/parity_torch.py

The student gets adapters of random weights and answers a few prompts of the built-in shapes; then both sides
compute logits, terms, gate, losses, η and the adapters' gradients in float32. Without options it takes the
tiny models that the package ships. The PyTorch side, scripts/pytorch, is written apart from the package.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import cycle

import vgs_mlx  # noqa: F401  (before mlx: it loads a fast BLAS)

# isort: split
import click
import mlx.core as mx
import numpy as np
import torch
from PIL import Image
from transformers.utils.logging import disable_progress_bar

from scripts.pytorch.model import TorchModel, adapt, completion_hidden, encode_pictures, load
from scripts.pytorch.step import Settings, Step, step_gradients
from vgs_mlx.data.prompts import render
from vgs_mlx.data.shapes import examples
from vgs_mlx.models import adapters, logprobs
from vgs_mlx.models.base import LoadedModel
from vgs_mlx.models.loading import load_model
from vgs_mlx.models.rows import Continued
from vgs_mlx.models.rows import encode as encode_views
from vgs_mlx.objective.steering import steer
from vgs_mlx.recipe import options as recipe
from vgs_mlx.rollout.collect import collect
from vgs_mlx.train.gradients import Gradients
from vgs_mlx.train.step import Collected, Progress, compute_gradients
from vgs_mlx.types import Example, Picture, Rollout

__all__ = ["adapt", "load", "step_gradients"]  # the PyTorch side, for a benchmark

LENGTHS = (17, 1, 24, 5, 11, 8)  # what completions are cut to, one after the other
GAMMA, LAMBDA = 2.0, 0.5
VIEWS = ("with_image", "text_only")
LINE = "{:48}{:22}{:>11}{:>9}{:>9}"
LIMIT = 1e-4  # of relative differences, and of 1 - cosine


@dataclass(frozen=True)
class Figure:
    """One line of the comparison."""

    quantity: str
    measure: str
    value: float
    limit: float

    @property
    def within(self) -> bool:
        return self.value <= self.limit


@dataclass(frozen=True, eq=False)
class Case:
    """Student, teacher and rollouts, and what PyTorch makes of them."""

    student: LoadedModel
    teacher: LoadedModel
    rollouts: list[Rollout]
    torch_student: TorchModel
    torch_teacher: TorchModel
    torch_adapters: dict[str, torch.nn.Parameter]
    torch_logits: dict[tuple[str, str], torch.Tensor]  # by (role, view)
    torch_steps: dict[str, Step]  # by reduction


def prepare(student_path: str, teacher_path: str, seed: int = 0) -> Case:
    """Load both models on both sides, move the student's adapters away from 0, let it answer, and ask PyTorch."""
    torch.set_num_threads(1)  # on tiny products threads only wait for each other: minutes on a busy machine
    student, teacher = (
        load_model(path, "model", say=lambda _: None) for path in (student_path, teacher_path)
    )
    options = recipe.Student(rank=8)
    adapters.prepare(student, options, seed)
    mx.random.seed(seed)
    moved = {
        name: value + 0.05 * mx.random.normal(value.shape)
        for name, value in adapters.trainable_weights(student.module).items()
    }
    adapters.set_weights(student.module, moved)
    rollouts = sample_rollouts(student, seed)
    sides = {"student": load(student.folder), "teacher": load(teacher.folder)}
    values = {name: np.array(value) for name, value in moved.items()}
    parameters = adapt(sides["student"], values, options.alpha / options.rank)
    logits = {
        (role, view): torch_logits(side, rollouts, view) for role, side in sides.items() for view in VIEWS
    }
    steps = {
        reduction: step_gradients(*sides.values(), parameters, rollouts, Settings(GAMMA, LAMBDA, reduction))
        for reduction in ("token", "sequence")
    }
    return Case(student, teacher, rollouts, *sides.values(), parameters, logits, steps)


@torch.no_grad()
def torch_logits(model: TorchModel, rollouts: Sequence[Rollout], view: str) -> torch.Tensor:
    """Logits over all rows of the head at every completion token, (N, rows)."""
    pictures = encode_pictures(model, [each.prompt.student[view] for each in rollouts])
    return model.logits(completion_hidden(model, rollouts, view, pictures))


def sample_rollouts(student: LoadedModel, seed: int) -> list[Rollout]:
    """The student's own ragged completions, three of each prompt."""
    asked = recipe.Data(max_pixels=None)
    prompts = [render(student.processor, example, asked) for example in chosen_examples()]
    sampling = recipe.Rollout(completions_per_prompt=3, max_completion_length=max(LENGTHS))
    views = [
        view for prompt in prompts for view in (prompt.student["with_image"], prompt.student["text_only"])
    ]
    drawn = collect(student, prompts, sampling, encode_views(student, views), seed, 0)
    return [
        replace(each, completion=each.completion[:length], sampling_logprobs=each.sampling_logprobs[:length])
        for each, length in zip(drawn, cycle(LENGTHS), strict=False)
    ]


def chosen_examples() -> list[Example]:
    """Questions about one picture, a wide one, two pictures, and none."""
    plain, wide, double, blind = examples("train", 4)
    return [
        plain,
        replace(wide, pictures=(_widened(wide.pictures[0]),)),
        replace(double, pictures=(*double.pictures, *plain.pictures)),
        replace(blind, pictures=()),
    ]


def _widened(picture: Picture) -> Picture:
    return Picture(
        f"{picture.name}, wide", lambda: picture.open().resize((144, 72), Image.Resampling.BILINEAR)
    )


def compare(case: Case, *, shares_prefix: bool) -> list[Figure]:
    """Every quantity, with completions that continue one run of their prompt on our side (`shares_prefix`) or not."""
    student, teacher = (replace(model, shares_prefix=shares_prefix) for model in (case.student, case.teacher))
    roles = {"student": student, "teacher": teacher}
    found = []
    for (role, view), theirs in case.torch_logits.items():
        ours = our_logits(roles[role], case.rollouts, view)
        found.append(relative(f"logits, {role}, {view}", ours, theirs[:, : student.vocabulary]))
    views = [
        view
        for each in case.rollouts
        for view in (each.prompt.student["with_image"], each.prompt.student["text_only"])
    ]
    encodings = encode_views(student, views)
    for reduction, theirs in case.torch_steps.items():
        options = recipe.Objective(steering_coef=GAMMA, preservation_coef=LAMBDA, reduction=reduction)
        collected = Collected(case.rollouts, encodings, None)
        ours = compute_gradients(
            student, teacher, collected, slice(None), recipe.Recipe(objective=options), Progress()
        )
        found += compare_terms(ours, theirs) if reduction == "token" else []
        found += compare_losses(ours, theirs, reduction) + compare_gradients(ours, theirs, reduction)
    return found


def our_logits(model: LoadedModel, rollouts: Sequence[Rollout], view: str) -> mx.array:
    """Logits over the tokenizer's ids at every completion token, (N, V), before any id is excluded."""
    sequences = [Continued(each.prompt.student[view], each.completion) for each in rollouts]
    return model.logits(
        logprobs.completion_hidden(model, sequences, encode_views(model, [v for v, _ in sequences]))
    )


def compare_terms(ours: Gradients, theirs: Step) -> list[Figure]:
    """Terms, VDS and gate at every token."""
    differing = int((ours.gate.astype(bool) != theirs.gate.numpy()).sum())
    return [
        *(relative(f"term, {name}", ours.terms[name], values) for name, values in theirs.terms.items()),
        relative("VDS", ours.terms["visual_dependency_score"], theirs.dependency),
        Figure(
            f"gate, {int(theirs.gate.sum())} of {len(theirs.gate)} tokens", "tokens that differ", differing, 0
        ),
    ]


def compare_losses(ours: Gradients, theirs: Step, reduction: str) -> list[Figure]:
    """The losses and η."""
    values = {
        "standard": ours.terms["standard"],
        "steering": ours.terms["visual"],
        "preservation": ours.terms["language"] * ours.gate,
    }
    trees = ours.trees
    _, measured = steer(
        trees["standard"],
        trees["steering"],
        trees["preservation"],
        mx.array(GAMMA),
        mx.array(LAMBDA),
        mx.zeros((0,)),
    )
    return [
        *(
            relative(f"loss, {part}, {reduction}", (ours.batch.weights * values[part]).sum(), loss)
            for part, loss in theirs.losses().items()
        ),
        relative(f"η, {reduction}", measured["norm_scale"], theirs.norm_scale(GAMMA)),
    ]


def compare_gradients(ours: Gradients, theirs: Step, reduction: str) -> list[Figure]:
    """Each part's gradient: the angle over all adapters, the worst angle of one matrix, and the size."""
    found = []
    for part, tree in theirs.gradients.items():
        mine = {name: np.array(value).ravel() for name, value in ours.trees[part].items()}
        other = {name: value.numpy().ravel() for name, value in tree.items()}
        if mine.keys() != other.keys():
            raise ValueError("the two sides' adapters have different names")
        whole = [np.concatenate([side[name] for name in sorted(side)]) for side in (mine, other)]
        label = f"gradient, {part}, {reduction}"
        found += [
            Figure(label, "1 - cosine", 1 - cosine(*whole), LIMIT),
            Figure(
                f"{label}, worst matrix",
                "1 - cosine",
                1 - min(cosine(mine[n], other[n]) for n in mine),
                LIMIT,
            ),
            relative(f"{label}, norm", np.linalg.norm(whole[0]), np.linalg.norm(whole[1])),
        ]
    return found


def relative(quantity: str, ours, theirs) -> Figure:
    """The largest difference, relative to the largest value of PyTorch's."""
    ours, theirs = (np.asarray(each).astype(np.float64) for each in (ours, theirs))
    if ours.shape != theirs.shape:
        raise ValueError(f"{quantity}: shapes {ours.shape} and {theirs.shape}")
    return Figure(
        quantity, "relative difference", float(np.abs(ours - theirs).max() / np.abs(theirs).max()), LIMIT
    )


def cosine(left: np.ndarray, right: np.ndarray) -> float:
    left, right = left.astype(np.float64), right.astype(np.float64)
    return float(left @ right / (np.linalg.norm(left) * np.linalg.norm(right)))


@click.command(help=__doc__)
@click.option("--student", default="embedded:student", show_default=True, help="A model folder.")
@click.option("--teacher", default="embedded:teacher", show_default=True, help="A model folder.")
@click.option("--seed", default=0, show_default=True)
def main(student: str, teacher: str, seed: int) -> None:
    disable_progress_bar()
    case = prepare(student, teacher, seed)
    apart, continued = (compare(case, shares_prefix=shared) for shared in (False, True))
    click.echo(LINE.format("quantity", "measure", "rows apart", "continued", "limit"))
    for one, other in zip(apart, continued, strict=True):
        click.echo(
            LINE.format(one.quantity, one.measure, f"{one.value:.1e}", f"{other.value:.1e}", f"{one.limit:g}")
        )
    outside = [each.quantity for each in (*apart, *continued) if not each.within]
    if outside:
        raise SystemExit(f"Outside the limits: {'; '.join(outside)}")


if __name__ == "__main__":
    main()
