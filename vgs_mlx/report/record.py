"""The record of a run, read from its folder. Files that a kill left half-written never stop the reading."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from vgs_mlx.analysis.geometry import FILE as GEOMETRY
from vgs_mlx.recipe import file as recipe_file
from vgs_mlx.recipe.options import Recipe
from vgs_mlx.report.forms import GEOMETRY as GEOMETRY_FORM
from vgs_mlx.runs import folder as run_folder
from vgs_mlx.runs import forms

VERSIONS = "versions.json"
Row = dict[str, Any]


@dataclass(frozen=True)
class Record:
    """A run as its folder records it. Rows are in the order of their steps and have the forms of runs/forms.py."""

    name: str
    recipe: Recipe
    metrics: tuple[Row, ...]  # a row for each update, see train.metrics.METRICS
    evaluations: tuple[Row, ...]  # see evaluate.summary, with the step
    completions: tuple[Row, ...]  # a few answers of each evaluation
    answers: tuple[Row, ...]  # of each evaluation: the ids of its rows, and which were right
    terms: tuple[Row, ...]  # loss terms on fixed held-out rollouts, by group of VDS bins: see train.watch
    versions: Row
    result: Row  # {} until the run has finished
    geometry: Row | None  # None where `vgs-mlx analyze` was not run
    finished: bool
    damaged: tuple[str, ...]  # files that could not be read completely

    @property
    def step(self) -> int:
        """The last step that is recorded."""
        return max((row["step"] for row in (*self.metrics, *self.evaluations)), default=0)

    @property
    def skipped(self) -> list[int]:
        """The steps whose update was skipped, because the loss or its gradient was not finite."""
        return [row["step"] for row in self.metrics if not row.get("finite", True)]


def read(folder: Path) -> Record:
    """The record of a run folder. Raises `Refusal` where its recipe can't be read."""
    recipe = recipe_file.load_recipe(folder / run_folder.RECIPE)
    damaged: list[str] = []
    result = read_object(folder / run_folder.RESULT, forms.RESULT, damaged)
    return Record(
        name=folder.resolve().name,
        recipe=recipe,
        metrics=tuple(map(_numbers, read_rows(folder / run_folder.METRICS, forms.METRICS, damaged))),
        evaluations=read_rows(folder / run_folder.EVALUATIONS, forms.EVALUATIONS, damaged),
        completions=read_rows(folder / run_folder.COMPLETIONS, forms.COMPLETIONS, damaged),
        answers=read_rows(folder / run_folder.ANSWERS, forms.ANSWERS, damaged),
        terms=read_rows(folder / run_folder.TERMS, forms.WATCHED, damaged),
        versions=read_object(folder / VERSIONS, forms.VERSIONS, damaged),
        result=result,
        geometry=read_object(folder / GEOMETRY, GEOMETRY_FORM, damaged) or None,
        finished=(folder / run_folder.FINAL).exists() and result.get("steps", -1) >= recipe.train.steps,
        damaged=tuple(damaged),
    )


def read_object(file: Path, form: TypeAdapter, damaged: list[str]) -> Row:
    """A JSON object of that form; {} where there is no such file. A file that can't be read is {} and in `damaged`."""
    try:
        return form.validate_json(content) if (content := _content(file)) is not None else {}
    except (OSError, ValidationError):
        damaged.append(file.name)
        return {}


def read_rows(file: Path, form: TypeAdapter, damaged: list[str]) -> tuple[Row, ...]:
    """The rows of a .jsonl file that have that form, in the order of their steps. A file with other rows is added to
    `damaged`: a run may be writing it, or was killed while writing."""
    try:
        lines = [line for line in (_content(file) or b"").split(b"\n") if line]
    except OSError:
        damaged.append(file.name)
        return ()
    rows = []
    for line in lines:
        try:
            rows.append(form.validate_json(line))
        except ValidationError:
            continue
    if len(rows) < len(lines):
        damaged.append(file.name)
    return tuple(sorted(rows, key=lambda row: row["step"]))


def _content(file: Path) -> bytes | None:
    """The bytes of a file; None where there is none. Raises `OSError`, also for a folder or a pipe."""
    if not file.exists():
        return None
    if not file.is_file():
        raise OSError(f"{file} is not a file")
    return file.read_bytes()


def _numbers(row: Row) -> Row:
    """A row of metrics without the values that are neither named by the form nor numbers."""
    return {
        name: value
        for name, value in row.items()
        if name in forms.Metrics.__annotations__ or _is_number(value)
    }


def _is_number(value: Any) -> bool:
    try:
        return forms.NUMBER.validate_python(value, strict=True) is not None
    except ValidationError:
        return False
