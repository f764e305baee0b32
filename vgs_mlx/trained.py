"""The model that a run trained: which weights of its folder, and how they are put into the student again."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vgs_mlx import recipe_file
from vgs_mlx.errors import Refusal
from vgs_mlx.models import adapters
from vgs_mlx.models.base import LoadedModel
from vgs_mlx.models.loading import load_model
from vgs_mlx.models.precision import compute
from vgs_mlx.recipe import Recipe
from vgs_mlx.train import checkpoint
from vgs_mlx.train.run_folder import FINAL, RECIPE, RESULT


@dataclass(frozen=True)
class Trained:
    """The weights of a run, and where they stand."""

    recipe: Recipe
    weights: Path  # the folder that holds them
    origin: str  # for readers: which run, and which of its weights


def find(run: Path) -> Trained:
    """A run's final weights or, until it has finished, those of its newest checkpoint. Raises `Refusal`."""
    if not (run / RECIPE).is_file():
        raise Refusal(f"{run}: no run folder (no {RECIPE} in it): give the --output of a `vgs-mlx distill`")
    recipe = recipe_file.load_recipe(run / RECIPE)
    newest = checkpoint.newest(run)
    step = int(newest.name.removeprefix("step-")) if newest else 0
    if (run / FINAL).is_dir() and step <= read_json(run / RESULT).get("steps", step):  # else it was resumed
        return Trained(recipe, run / FINAL, f"{run.name}, a finished run")
    if newest is None:
        raise Refusal(f"{run}: nothing trained yet, it stopped before its first checkpoint: resume it first")
    checkpoint.verified_state(newest)
    origin = f"{run.name}, step {step}: the newest checkpoint of a run that has not finished"
    return Trained(recipe, newest, origin)


def load(
    run: Path, found: Trained, say: Callable[[str], None] = print, *, lazy: bool = False
) -> LoadedModel:
    """The trained student: as `load_model` gives it, its adapters beside its layers. Raises `Refusal`."""
    student = load_model(found.recipe.student.path, "student.path", lazy=lazy, say=say)
    adapters.prepare(student, found.recipe.student, found.recipe.seed, lazy=lazy)
    put(run, found, student, lazy=lazy)
    return student


def put(run: Path, found: Trained, student: LoadedModel, *, lazy: bool = False) -> None:
    """Put the trained weights into a student that is ready to train as the run's recipe says. Raises `Refusal`."""
    _refuse_another_student(run, student)
    try:
        adapters.load_weights(student.module, found.weights)
        if not lazy:
            compute(student.module)
    except RuntimeError as error:  # mlx's word for a file that it can't read
        reason = " ".join(str(error).split())
        raise Refusal(f"{found.weights}: damaged: {reason}: delete it and resume the run") from error
    student.module.eval()


def _refuse_another_student(run: Path, student: LoadedModel) -> None:
    newest = checkpoint.newest(run)
    trained = read_json(newest / checkpoint.STATE_FILE).get("identity", {}).get("student") if newest else None
    if trained not in (None, checkpoint.fingerprint(student.folder)):
        raise Refusal(f"{student.folder}: not the model that {run} trained (its files differ): put it back")


def read_json(file: Path) -> dict[str, Any]:
    """A run's JSON file; {} where there is none. Raises `Refusal`."""
    try:
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    except ValueError as error:
        raise Refusal(f"{file}: no readable JSON ({error}): delete it, or put it back") from error
