"""What a run folder says about its run, read without ever failing on what a kill left half-written."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vgs_mlx import recipe_file
from vgs_mlx.analyze import FILE as GEOMETRY
from vgs_mlx.recipe import Recipe
from vgs_mlx.train import run_folder
from vgs_mlx.train.loop import finished_steps

VERSIONS = "versions.json"
Row = dict[str, Any]


@dataclass(frozen=True)
class Record:
    """A run as its folder tells it. Rows are in the order of their steps."""

    name: str
    recipe: Recipe
    metrics: tuple[Row, ...]  # a row for each update, see train.metrics.METRICS
    evaluations: tuple[Row, ...]  # see evaluate.summary, with the step
    completions: tuple[Row, ...]  # some answers of each evaluation
    answers: tuple[Row, ...]  # which rows each evaluation had right: ids, right
    terms: tuple[Row, ...]  # loss terms on fixed held-out rollouts, by group of VDS bins: see train.watch
    versions: Row
    result: Row  # {} until the run has finished
    geometry: Row | None  # of `vgs-mlx analyze`, where it was run
    finished: bool
    damaged: tuple[str, ...]  # files of which something could not be read

    @property
    def step(self) -> int:
        """The last step that left a trace."""
        return max((row["step"] for row in (*self.metrics, *self.evaluations)), default=0)

    @property
    def skipped(self) -> list[int]:
        """The steps whose update was skipped, since something was not finite."""
        return [row["step"] for row in self.metrics if not row.get("finite", True)]


def read(folder: Path) -> Record:
    """The record of a run folder. Raises `Refusal` where its recipe can't be read."""
    recipe = recipe_file.load_recipe(folder / run_folder.RECIPE)
    damaged: list[str] = []
    metrics, evaluations, completions, answers, terms = (
        tuple(_rows(folder / name, damaged))
        for name in (
            run_folder.METRICS,
            run_folder.EVALUATIONS,
            run_folder.COMPLETIONS,
            run_folder.ANSWERS,
            run_folder.TERMS,
        )
    )
    versions, result, geometry = (
        read_object(folder / name, damaged) for name in (VERSIONS, run_folder.RESULT, GEOMETRY)
    )
    steps = finished_steps(folder)
    return Record(
        name=folder.resolve().name,
        recipe=recipe,
        metrics=metrics,
        evaluations=evaluations,
        completions=completions,
        answers=answers,
        terms=terms,
        versions=versions,
        result=result,
        geometry=geometry or None,
        finished=steps is not None and steps >= recipe.train.steps,
        damaged=tuple(damaged),
    )


def read_object(file: Path, damaged: list[str]) -> Row:
    """A JSON object; {} where there is none, and a word in `damaged` where it can't be read."""
    if not file.exists():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError):
        found = None
    if isinstance(found, dict):
        return found
    damaged.append(file.name)
    return {}


def _rows(file: Path, damaged: list[str]) -> list[Row]:
    """The readable rows of a .jsonl file that have a step: a run may be writing, or was killed while it wrote."""
    lines = [line for line in file.read_bytes().split(b"\n") if line] if file.exists() else []
    found = [row for row in map(_row, lines) if row is not None]
    if len(found) < len(lines):
        damaged.append(file.name)
    return sorted(found, key=lambda row: row["step"])


def _row(line: bytes) -> Row | None:
    try:
        row = json.loads(line)
        return row if isinstance(row["step"], int) else None
    except (ValueError, KeyError, TypeError):
        return None
