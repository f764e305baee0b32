"""The run folder: what it holds, and how files get into it without ever being half there.

    recipe.yaml  versions.json  README.md     before any model is loaded
    metrics.jsonl  evaluations.jsonl  completions.jsonl  skipped.jsonl
    checkpoints/step-000020/ ...              see checkpoint.py
    result.json  final/                       written last
"""

import importlib.metadata
import json
import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vgs_mlx import recipe_file
from vgs_mlx.errors import Refusal
from vgs_mlx.recipe import Recipe

RECIPE, METRICS, EVALUATIONS, COMPLETIONS = "recipe.yaml", "metrics.jsonl", "evaluations.jsonl", "completions.jsonl"
SKIPPED, BAD_BATCHES, RESULT, FINAL, CHECKPOINTS = "skipped.jsonl", "skipped_updates.jsonl", "result.json", "final", "checkpoints"
STEP_FILES = (METRICS, EVALUATIONS, COMPLETIONS, BAD_BATCHES)  # rows carry the step that wrote them
PACKAGES = ("vgs-mlx", "mlx", "mlx-lm", "mlx-vlm", "transformers", "numpy")


def default_folder(name: str) -> Path:
    """The first of runs/NAME-1, runs/NAME-2, ... that doesn't exist."""
    number = 1
    while (folder := Path("runs") / f"{name}-{number}").exists():
        number += 1
    return folder


@contextmanager
def created(folder: Path, recipe: Recipe) -> Iterator[None]:
    """A new run folder for the body; gone again if the body refuses its input before a checkpoint is there."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Refusal(
            f"--output {folder}: already there and not empty: give another folder, "
            "or continue the run in it with --resume"
        )
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        write_text(folder / RECIPE, recipe_file.dump(recipe))
        write_text(folder / "versions.json", json.dumps(versions(), indent=2) + "\n")
        write_text(folder / "README.md", _readme(folder))
        yield
    except Refusal:
        if not (folder / CHECKPOINTS).exists():
            for name in os.listdir(folder):
                _remove(folder / name)
            for each in made:
                each.rmdir()
        raise


def opened(folder: Path) -> Recipe:
    """The resolved recipe of an existing run. Raises `Refusal`."""
    if not (folder / RECIPE).is_file():
        raise Refusal(f"--output {folder}: no run to resume there (no {RECIPE}): leave --resume away to start one")
    return recipe_file.load_recipe(folder / RECIPE)


def append(file: Path, row: Mapping[str, Any]) -> None:
    """Add one row to a .jsonl file."""
    with file.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(row, ensure_ascii=False) + "\n")


def forget_after(folder: Path, step: int) -> None:
    """Drop what steps after `step` have written: they are about to be done again. -1 drops everything."""
    for name in STEP_FILES:
        file = folder / name
        if file.exists():
            lines = [line for line in file.read_text(encoding="utf-8").splitlines() if _step(line) <= step]
            write_text(file, "".join(f"{line}\n" for line in lines))


def rows(file: Path) -> list[dict[str, Any]]:
    """The rows of a .jsonl file; none where it isn't there."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def write_text(file: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all."""
    beside = file.with_name(f".{file.name}.writing")
    with beside.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    beside.replace(file)


def replace_folder(beside: Path, folder: Path) -> None:
    """Rename the finished `beside` to `folder`, whose earlier content goes."""
    old = folder.with_name(f".{folder.name}.old")
    _remove(old)
    if folder.exists():
        folder.rename(old)
    beside.rename(folder)
    _remove(old)


def versions() -> dict[str, str]:
    """The versions that a result depends on."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # run from a checkout that isn't installed
            found[name] = "not installed"
    return found


def _step(line: str) -> float:
    """The step of a row; a line that a kill cut in half belongs to no step that is kept."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError):
        return float("inf")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _readme(folder: Path) -> str:
    return f"""# A run of vgs-mlx

`{RECIPE}` is the whole recipe, `{METRICS}` what every step measured, `{EVALUATIONS}` the accuracy on held-out
rows, `{COMPLETIONS}` some answers, `{FINAL}/` the trained weights (there once the run has finished).

    vgs-mlx distill --resume --output {folder}
    vgs-mlx evaluate {folder}
    vgs-mlx export {folder} --output {folder}-fused
"""
