"""Whole steps (rollouts, scoring, backward, update): `standard` with a row for each completion, and our steps.

Our steps differentiate body and loss in one pass and in two. η is known, except in the step that measures it.
"""

from functools import partial

from benchmarks import made
from benchmarks.timing import Medians, alternate, one_step, ratio
from vgs_mlx.models.base import LoadedModel
from vgs_mlx.planning.plan import changed
from vgs_mlx.recipe.options import Recipe
from vgs_mlx.types import Prompt

PASSES = {"one": "one pass", "two": "two passes"}


def run(
    student: LoadedModel, teacher: LoadedModel, asked: list[Prompt], settings: Recipe, repetitions: int
) -> Medians:
    """Seconds by phase and peak memory of each kind of step, from the same prompts and weights."""
    standard, interval, exact = (
        made.with_objective(settings, name, norm_scale)
        for name, norm_scale in (("standard", "interval"), ("vgs", "interval"), ("vgs", "exact"))
    )
    ungated = changed(interval, "objective.preservation_coef", 0.0)
    passes = {
        f"{name}, {PASSES[count]}": partial(
            one_step, student, teacher, asked, changed(each, "train.passes", count), True, False
        )
        for name, each in {"standard": standard, "vgs, λ = 0": ungated, "vgs": interval}.items()
        for count in PASSES
    }
    return alternate(
        {
            "standard, a row each": partial(
                one_step, student, teacher, asked, changed(standard, "train.passes", "two"), False, False
            ),
            **passes,
            "vgs, η measured": partial(one_step, student, teacher, asked, exact, True, True),
        },
        repetitions,
    )


def compare(found: Medians) -> None:
    """The ratios that count, with two passes on both sides. `interval` measures η at one step in
    `norm_scale_every`."""
    every = made.recipe("vgs", "interval").objective.norm_scale_every
    known, measured = found["vgs, two passes"], found["vgs, η measured"]
    vgs = ((every - 1) * known["step"] + measured["step"]) / every
    apart, standard = found["standard, a row each"], found["standard, two passes"]
    ratio("VGS (η interval) / standard with a row each", vgs, apart["step"], most=0.95, aim=0.85)
    ratio("VGS (η interval) / our standard", vgs, standard["step"], most=1.35, aim=1.2)
    ratio("VGS (η exact) / VGS (η interval)", measured["step"], vgs, most=1.35, aim=1.2)
    ratio("peak memory, VGS / standard", known["peak_gb"], standard["peak_gb"], most=1.05, aim=1.02)
    for name in ("standard", "vgs, λ = 0", "vgs"):
        one, two = (found[f"{name}, {label}"] for label in PASSES.values())
        scoring, twice = (each["teacher"] + each["student"] for each in (one, two))
        ratio(f"{name}: one pass / two, time of teacher and student", scoring, twice)
        ratio(f"{name}: one pass / two, time of a step", one["step"], two["step"])
        ratio(f"{name}: one pass / two, peak memory", one["peak_gb"], two["peak_gb"])
