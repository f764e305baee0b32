"""What a run folder says about its run, read without ever failing on what a kill left half-written."""

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
    """A run as its folder tells it. Rows are in the order of their steps, and hold what `forms` asks of them."""

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
    """A JSON object of that form; {} where there is none, and a word in `damaged` where it can't be read."""
    try:
        return form.validate_json(content) if (content := _content(file)) is not None else {}
    except (OSError, ValidationError):
        damaged.append(file.name)
        return {}


def read_rows(file: Path, form: TypeAdapter, damaged: list[str]) -> tuple[Row, ...]:
    """The rows of a .jsonl file that have that form, by their steps: a run may be writing, or was killed meanwhile."""
    try:
        lines = [line for line in (_content(file) or b"").split(b"\n") if line]
    except OSError:
        damaged.append(file.name)
        return ()
    found = []
    for line in lines:
        try:
            found.append(form.validate_json(line))
        except ValidationError:
            continue
    if len(found) < len(lines):
        damaged.append(file.name)
    return tuple(sorted(found, key=lambda row: row["step"]))


def _content(file: Path) -> bytes | None:
    """What a file holds; None where there is none. Raises `OSError`, for what is no file too."""
    if not file.exists():
        return None
    if not file.is_file():
        raise OSError(f"{file} is not a file")
    return file.read_bytes()


def _numbers(row: Row) -> Row:
    """A row of metrics with what the form names and, besides, the numbers alone."""
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
