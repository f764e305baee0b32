"""A grid of experiments, frozen: its cells, what each sets, its seeds, and the one that the others are compared with.

The runs of one seed share their starting weights, their prompts and the order of the data: all of these are
functions of the recipe's seed. So are the held-out rows where they are a fraction of a file: a seed then has its own,
the same for all cells. Experiments that are the same are one cell: settings that a recipe doesn't use (`unused_keys`)
make no difference.
"""

import dataclasses
import hashlib
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vgs_mlx.errors import Refusal
from vgs_mlx.objective.objectives import resolve as resolve_objective
from vgs_mlx.recipe import file as recipe_file
from vgs_mlx.recipe.options import Grpo, Recipe

SUMMARY = "summary"  # the folder of the results, beside those of the cells
LONGEST_NAME = 120  # bytes; file systems allow 255, and a log's name is longer by a little
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._=,+-]*")

Settings = Mapping[str, Any]
"""Dotted key of the recipe -> plain value."""


@dataclass(frozen=True)
class Cell:
    """One experiment, to be run with several seeds."""

    name: str  # its folder's name too
    settings: Settings  # what it sets on the base recipe
    recipe: Recipe  # whole, but for its seed
    seeds: int  # 0, 1, ... seeds - 1

    def runs(self) -> Iterator[Recipe]:
        """The recipe of each seed."""
        return (dataclasses.replace(self.recipe, seed=seed) for seed in range(self.seeds))


@dataclass(frozen=True)
class Grid:
    """All cells; `baseline` is the name of one of them."""

    cells: tuple[Cell, ...]
    baseline: str


def product(
    varied: Mapping[str, Sequence[Any]], resolve: Callable[[Settings], Recipe], seeds: int
) -> tuple[tuple[Cell, ...], list[str]]:
    """A cell for each combination of values, in their order, and a line for each cell that stands for several.

    `resolve` makes the whole recipe of a combination. Raises `Refusal` for one that can't be.
    """
    cells: dict[str, Cell] = {}
    merged: dict[str, list[str]] = {}
    for values in itertools.product(*varied.values()):
        whole = dict(zip(varied, values, strict=True))
        unused = unused_keys(resolve(whole))
        settings = {key: value for key, value in whole.items() if key not in unused}
        recipe = resolve(settings)
        same = next((each.name for each in cells.values() if each.recipe == recipe), None)
        name = same or folder_name(settings)
        merged.setdefault(name, []).append(spelled(whole))
        if same is None:
            cells[name] = Cell(name, settings, recipe, seeds)
    notes = [
        f"{name}: one experiment for {'; '.join(all_)}" for name, all_ in merged.items() if len(all_) > 1
    ]
    return tuple(cells.values()), notes


def unused_keys(recipe: Recipe) -> set[str]:
    """The keys that change nothing about this recipe's training, by the declaration of its objective.

    What isn't listed counts as used: at worst an experiment runs twice.
    """
    settings = recipe.objective
    # with every part that a coefficient of 0 would take away: 0 is a value too
    objective = resolve_objective(settings.name, 1.0, 1.0, settings.mix, settings.mix_with)
    # vds-weighted takes γ for a weight
    upweighted = any(part.weighting == "upweighted" for part in objective.parts)
    scaled = objective.steers or settings.watch_norm_scale
    adapted = recipe.student.train != "full"
    used = {
        "objective.steering_coef": objective.has("steering") or upweighted,
        "objective.preservation_coef": objective.has("preservation"),
        "objective.norm_scale": scaled,
        "objective.norm_scale_every": scaled,
        "objective.jsd_weight": any(part.term == "jsd" for part in objective.parts),
        "objective.mix": objective.rewarded,
        "objective.mix_with": objective.mixed,
        "objective.answers": not objective.on_policy,
        **dict.fromkeys(("student.rank", "student.alpha", "student.targets"), adapted),
        **{f"grpo.{each.name}": objective.rewarded for each in dataclasses.fields(Grpo)},
    }
    return {key for key, needed in used.items() if not needed}


def refuse_doubles(cells: Sequence[Cell]) -> None:
    """Cells that were named one by one must be different experiments with names that are safe. Raises `Refusal`."""
    seen: list[tuple[dict[str, Any], Cell]] = []
    for cell in cells:
        unused = unused_keys(cell.recipe)
        used = {key: value for key, value in recipe_file.flat(cell.recipe).items() if key not in unused}
        for other_used, other in seen:
            if used == other_used:
                raise Refusal(f"cells {other.name} and {cell.name} are the same experiment: leave one away")
            if other.name.casefold() == cell.name.casefold():
                raise Refusal(
                    f"cells {other.name} and {cell.name}: a Mac takes these folders for one: rename one"
                )
        seen.append((used, cell))


def is_name(name: str) -> bool:
    """Whether a cell may be called so."""
    bad = not _SAFE.fullmatch(name) or name[-1] in " ." or len(name) > LONGEST_NAME
    return not bad and name.casefold() != SUMMARY


def refuse_name(name: str) -> None:
    """A cell's name must do for a folder on any system. Raises `Refusal`."""
    if not is_name(name):
        raise Refusal(
            f"cell {name!r}: can't name a folder: use letters, digits and . _ = , + -, at most {LONGEST_NAME}, "
            f"and not {SUMMARY!r}"
        )


def baseline_of(cells: Sequence[Cell], wanted: str | None, option: str = "--baseline") -> str:
    """The cell that `wanted` names or describes as key=value,key=value; the first cell for None. Raises `Refusal`."""
    if wanted is None:
        return cells[0].name
    parts = set(wanted.split(","))
    found = [cell.name for cell in cells if cell.name == wanted] or [
        cell.name for cell in cells if parts <= set(spelled(cell.settings).split(","))
    ]
    if len(found) != 1:
        which = f"{len(found)} cells are such: {'; '.join(found)}" if found else "no cell is such"
        names = "; ".join(cell.name for cell in cells)
        raise Refusal(f"{option} {wanted}: {which}: give one of: {names}")
    return found[0]


def spelled(settings: Settings) -> str:
    """Settings as a person writes them: objective.name=vgs,objective.steering_coef=2."""
    return ",".join(f"{key}={value_text(value)}" for key, value in settings.items())


def unnamed_settings(name: str, settings: Settings) -> str:
    """What a cell sets, in one line; "" where its name spells that out."""
    said = " ".join(spelled(settings).split())
    return "" if said == name else said


def value_text(value: Any) -> str:
    """A plain value in one line."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def folder_name(settings: Settings) -> str:
    """The settings as a folder's name, safe on macOS too: other characters give way to -, and a checksum is added."""
    name = spelled(settings) or "base"
    safe = re.sub(r"[^A-Za-z0-9._=,+-]", "-", name)
    if safe == name and len(name) <= LONGEST_NAME:
        return name
    return f"{safe[: LONGEST_NAME - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
