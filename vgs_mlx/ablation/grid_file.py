"""Reads a grid from `--vary` and a recipe, or from a file of named cells, and stores it in its folder.

A file of cells holds `recipe` (a recipe file, relative to this one, or the sections of a recipe), `cells` (name ->
dotted keys and, where a cell has fewer seeds, `seeds`), and optionally `set`, `seeds` and `baseline`.
"""

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from vgs_mlx.ablation import grid
from vgs_mlx.ablation.grid import Cell, Grid, Settings
from vgs_mlx.errors import Refusal
from vgs_mlx.formats import strict_json, strict_yaml
from vgs_mlx.recipe import file as recipe_file
from vgs_mlx.recipe.file import Setting
from vgs_mlx.recipe.options import Count, Recipe
from vgs_mlx.runs import folder as run_folder

GRID = "grid.json"
SEEDS = 3  # by default


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True))
class CellsFile:
    """A file of cells, as read from YAML."""

    recipe: str | dict[str, Any]
    cells: dict[str, dict[str, Any]]
    set: dict[str, Any] | None = None  # dotted keys, for all cells
    seeds: Count = SEEDS
    baseline: str | None = None


@dataclass(frozen=True, config=ConfigDict(strict=True))
class KeptCell:
    """A cell in grid.json."""

    name: str
    settings: dict[str, Any]
    recipe: dict[str, Any]
    seeds: Count


@dataclass(frozen=True, config=ConfigDict(strict=True))
class Kept:
    """grid.json."""

    baseline: str
    cells: Annotated[list[KeptCell], Field(min_length=1)]


KEPT = TypeAdapter(Kept)


def read(
    file: Path, vary: Sequence[str], sets: Sequence[str], seeds: int | None, baseline: str | None
) -> tuple[Grid, list[str]]:
    """The grid that a command line describes, and notes to print about it. Raises `Refusal`."""
    values = recipe_file.read(file)
    if "cells" in values or "recipe" in values:
        if vary:
            raise Refusal(f"--vary {vary[0]}: {file} names its cells itself: add the setting there")
        return _of_cells(file, values, sets, seeds, baseline), []
    if not vary:
        raise Refusal(f"{file}: a recipe alone is one cell: say what differs with --vary key=value,value")
    varied, common = _varied(vary), recipe_file.settings(sets)
    if twice := next((each for each in common if each.key in varied), None):
        raise Refusal(f"{twice.where}: {twice.key} is varied: leave it to --vary")
    resolve = _resolver(values, file.parent, common, str(file))

    def of_combination(settings: Settings) -> Recipe:
        return resolve(_settings(settings, "--vary ", Path()))

    cells, notes = grid.product(varied, of_combination, seeds or SEEDS)
    return Grid(cells, grid.baseline_of(cells, baseline)), notes


def save(folder: Path, made: Grid) -> None:
    """Write the grid to its folder."""
    cells = [{**asdict(cell), "recipe": asdict(cell.recipe)} for cell in made.cells]
    text = json.dumps({"baseline": made.baseline, "cells": cells}, indent=1, ensure_ascii=False, default=str)
    run_folder.write_text(folder / GRID, text + "\n")


def load(folder: Path) -> Grid:
    """The grid that a folder holds. Raises `Refusal`."""
    file = folder / GRID
    if not file.is_file():
        raise Refusal(
            f"{folder}: is not the folder of an ablation (no {GRID}): give the --output of a `vgs-mlx ablate`"
        )
    try:
        kept = KEPT.validate_json(json.dumps(strict_json.load(file.read_bytes())))
        if kept.baseline not in {each.name for each in kept.cells} or not all(
            grid.is_name(each.name) for each in kept.cells
        ):
            raise ValueError("invalid names")
        cells = tuple(
            Cell(each.name, each.settings, recipe_file.build(each.recipe, str(file)), each.seeds)
            for each in kept.cells
        )
        return Grid(cells, kept.baseline)
    except ValueError as error:  # those of pydantic too
        raise Refusal(
            f"{file}: damaged ({error.__class__.__name__}): restore it, or give another folder"
        ) from error


def refuse_another(folder: Path, ours: Grid) -> None:
    """A folder's grid may grow by cells and seeds, and its baseline may change; nothing else. Raises `Refusal`."""
    theirs, cells = load(folder).cells, {cell.name: cell for cell in ours.cells}
    fix = f"give another folder, or go on with --resume {shlex.quote(str(folder))}"
    for cell in theirs:
        if cell.name in cells and (differs := _first_difference(cell, cells[cell.name])):
            raise Refusal(f"--output {folder}: holds another grid ({differs}): {fix}")
    more = [_more(cell, cells.get(cell.name)) for cell in theirs]
    if more := [each for each in more if each]:
        raise Refusal(
            f"--output {folder}: holds a larger grid ({'; '.join(more)}), and runs are never dropped: {fix}"
        )


def _first_difference(there: Cell, here: Cell) -> str:
    """The first key in which two cells differ, with both values; "" for cells with the same recipe."""
    theirs, ours = (recipe_file.flat(each.recipe) for each in (there, here))
    key = next((key for key in ours if ours[key] != theirs[key]), None)
    return f"{key} of {here.name} is {theirs[key]!r} there and {ours[key]!r} here" if key else ""


def _more(there: Cell, here: Cell | None) -> str:
    """What a cell of the folder has beyond the same cell of the command; "" for nothing."""
    if here is None:
        return f"also the cell {there.name}"
    return f"{there.seeds} seeds of {there.name}, not {here.seeds}" if there.seeds > here.seeds else ""


def _of_cells(
    file: Path, values: Mapping, sets: Sequence[str], seeds: int | None, baseline: str | None
) -> Grid:
    try:
        given = TypeAdapter(CellsFile).validate_json(json.dumps(values, default=str))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(each) for each in first["loc"])
        raise Refusal(f"{file}: {place}: {first['msg'].lower()}") from error
    base, folder, where = given.recipe, file.parent, str(file)
    if isinstance(base, str):
        source = folder / base
        base, folder, where = recipe_file.read(source), source.parent, str(source)
    common = _settings(given.set or {}, f"{file}: set: ", file.parent)
    resolve = _resolver(base, folder, [*common, *recipe_file.settings(sets)], where)
    cells = [_cell(file, name, dict(own), resolve, seeds, given.seeds) for name, own in given.cells.items()]
    if not cells:
        raise Refusal(f"{file}: cells: none: name at least one")
    grid.refuse_duplicates(cells)
    which = "--baseline" if baseline else f"{file}: baseline"
    return Grid(tuple(cells), grid.baseline_of(cells, baseline or given.baseline, which))


def _cell(
    file: Path,
    name: str,
    settings: dict[str, Any],
    resolve: Callable[[Sequence[Setting]], Recipe],
    all_seeds: int | None,
    usual_seeds: int,
) -> Cell:
    grid.refuse_name(name)
    own = settings.pop("seeds", None)
    if own is not None and (not isinstance(own, int) or isinstance(own, bool) or own < 1):
        raise Refusal(f"{file}: cells.{name}.seeds: give a number from 1 on, got {own!r}")
    _refuse_seed(settings, f"{file}: cells.{name}")
    recipe = resolve(_settings(settings, f"{file}: cells.{name}: ", file.parent))
    return Cell(name, settings, recipe, all_seeds or own or usual_seeds)


def _varied(vary: Sequence[str]) -> dict[str, list[Any]]:
    """--vary key=a,b as key -> [a, b]."""
    values_by_key: dict[str, list[Any]] = {}
    for text in vary:
        key, separator, values = text.partition("=")
        key = key.strip()
        parsed = strict_yaml.load(f"[{values}]", f"--vary {text}")
        if not separator or not key or not parsed:
            raise Refusal(f"--vary {text}: write it as key=value,value")
        if key in values_by_key:
            raise Refusal(f"--vary {text}: {key} is varied already: give all its values at once")
        values_by_key[key] = parsed
    _refuse_seed(values_by_key, "--vary")
    return values_by_key


def _refuse_seed(settings: Settings, where: str) -> None:
    if "seed" in settings:
        raise Refusal(f"{where}: seed: the seeds are 0, 1, ...: say how many with --seeds")


def _resolver(
    values: Mapping, folder: Path, common: Sequence[Setting], where: str
) -> Callable[[Sequence[Setting]], Recipe]:
    """A function from settings to the valid recipe that they make of the base. Raises `Refusal` for an invalid one.

    The blind score is measured unless the base says not to.
    """
    train = values.get("train") or {}
    if isinstance(train, Mapping):
        values = {**values, "train": {"evaluate_blind": True, **train}}

    def resolve(own: Sequence[Setting]) -> Recipe:
        return recipe_file.from_values(values, folder, [*common, *own], where)

    if resolve(()).seed:
        at_fault = next((each.where for each in reversed(common) if each.key == "seed"), f"{where}: seed")
        raise Refusal(
            f"{at_fault}: an ablation's seeds are 0, 1, ...: omit it, and say how many with --seeds"
        )
    return resolve


def _settings(given: Settings, place: str, folder: Path) -> list[Setting]:
    """Settings given at `place`, with which their errors begin. Paths are relative to `folder`."""
    return [
        Setting(key, value, f"{place}{grid.spelled({key: value})}", folder) for key, value in given.items()
    ]
