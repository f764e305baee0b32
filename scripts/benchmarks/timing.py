"""How things are measured: in one process, taking turns, medians after a warm-up; as a table and as JSON."""

import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
from rich.console import Console
from rich.table import Table

from vgs_mlx.models import adapters
from vgs_mlx.models.base import LoadedModel
from vgs_mlx.objective.steering import scaled
from vgs_mlx.recipe import options as recipes
from vgs_mlx.recipe.objective import resolved
from vgs_mlx.train import optimizer as adamw
from vgs_mlx.train.step import (
    Collected,
    Progress,
    between_measurements,
    compute_gradients,
    encode_views,
    run_step,
)
from vgs_mlx.types import Prompt, Rollout

Medians = dict[str, dict[str, float]]
"""What was measured -> quantity -> its median."""
NORM_SCALE = 0.5  # η where it isn't measured
console = Console(highlight=False, soft_wrap=True)


def one_step(student: LoadedModel, teacher: LoadedModel, asked: list[Prompt], settings: recipes.Recipe, shared: bool,
             measured: bool) -> dict[str, float]:  # fmt: skip
    """Seconds of a step's phases and its peak memory. The student's weights are put back afterwards."""
    kept = adapters.trainable_weights(student.module)
    progress = Progress(step=0 if measured else 1, norm_scales=[NORM_SCALE])
    mx.clear_cache()
    mx.reset_peak_memory()
    result = run_step(
        replace(student, shares_prefix=shared), replace(teacher, shares_prefix=shared), asked, settings,
        adamw.make(settings.train, student), progress,
    )  # fmt: skip
    adapters.set_weights(student.module, kept)
    return {**result.seconds, "peak_gb": mx.get_peak_memory() / 1e9}


def one_update(student: LoadedModel, teacher: LoadedModel, rollouts: list[Rollout], settings: recipes.Recipe,
               shared: bool) -> dict[str, float]:  # fmt: skip
    """Seconds and peak memory of scoring, backward and AdamW on given rollouts, η known; weights are put back."""
    student, teacher = replace(student, shares_prefix=shared), replace(teacher, shares_prefix=shared)
    kept = adapters.trainable_weights(student.module)
    optimizer = adamw.make(settings.train, student)
    mx.clear_cache()
    mx.reset_peak_memory()
    begin = time.perf_counter()
    encodings = encode_views(student, [each.prompt for each in rollouts], resolved(settings))
    collected = Collected(rollouts, encodings, None)
    found = compute_gradients(student, teacher, collected, slice(None), settings, between_measurements())
    adamw.update(optimizer, student, scaled(found.trees["total"], NORM_SCALE))
    seconds = time.perf_counter() - begin
    adapters.set_weights(student.module, kept)
    return {"seconds": seconds, "peak_gb": mx.get_peak_memory() / 1e9}


def alternate(
    variants: dict[str, Callable[[], dict[str, float]]], repetitions: int, *, warm: bool = True
) -> Medians:
    """Medians of what each variant measures, the variants taking turns, after one round of warm-up (`warm`)."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in variants}
    for repetition in range(repetitions + warm):
        for name, run in variants.items():
            found = run()
            if repetition >= warm:
                runs[name].append(found)
    return {
        name: {key: statistics.median(each[key] for each in found) for key in found[0]}
        for name, found in runs.items()
    }


def show(title: str, found: Medians, file: Path | None) -> None:
    """Print a table, "-" where something was not measured; write the medians to the file first."""
    if file:
        machine = {"platform": platform.platform(), "device": str(mx.default_device()), "mlx": mx.__version__}
        file.write_text(json.dumps({"title": title, "machine": machine, "medians": found}, indent=2) + "\n")
    table = Table(title=title, title_justify="left", box=None)
    names = list(dict.fromkeys(name for values in found.values() for name in values))
    for heading in ("", *names):
        table.add_column(heading, justify="right" if heading else "left")
    for name, values in found.items():
        table.add_row(name, *(f"{values[key]:.3f}" if key in values else "-" for key in names))
    console.print(table)


def ratio(
    text: str,
    left: float,
    right: float,
    *,
    most: float | None = None,
    least: float | None = None,
    aim: float | None = None,
) -> None:
    """Print a ratio, whether it is within its bound, and what it should become."""
    found = left / right
    told = f"{text}: {found:.2f}"
    if most is not None or least is not None:
        met = found <= most if most is not None else found >= least
        bound = f"<= {most}" if most is not None else f">= {least}"
        told += f"   {'met' if met else 'MISSED'}: must be {bound}" + (
            f", aim {aim}" if aim is not None else ""
        )
    console.print(told, markup=False)
