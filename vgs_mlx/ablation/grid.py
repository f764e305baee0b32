"""A grid of experiments: its cells, what each of them sets, its seeds, and the baseline of the comparison.

The runs of one seed share their starting weights, their prompts and the order of the data: all of these are
functions of the recipe's seed. So are the held-out rows where they are a fraction of a file: each seed then has its
own, the same for all cells. Equal experiments are one cell: settings that a recipe doesn't use (`unused_keys`) do not
count.
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
LONGEST_NAME = 120  # bytes; file systems allow 255, and the name of a log is slightly longer
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._=,+-]*")

Settings = Mapping[str, Any]
"""Dotted key of the recipe -> plain value."""


@dataclass(frozen=True)
class Cell:
    """One experiment, to be run with several seeds."""

    name: str  # also the name of its folder
    settings: Settings  # what it sets on the base recipe
    recipe: Recipe  # complete, except for its seed
    seeds: int  # 0, 1, ... seeds - 1

    def runs(self) -> Iterator[Recipe]:
        """The recipe of each seed."""
        return (dataclasses.replace(self.recipe, seed=seed) for seed in range(self.seeds))


@dataclass(frozen=True)
class Grid:
    """All cells, and the name of the one that the others are compared with."""

    cells: tuple[Cell, ...]
    baseline: str


def product(
    varied: Mapping[str, Sequence[Any]], resolve: Callable[[Settings], Recipe], seeds: int
) -> tuple[tuple[Cell, ...], list[str]]:
    """A cell for each combination of values, in order, and a note about each cell that stands for several of them.

    `resolve` makes the complete recipe of a combination. Raises `Refusal` for an invalid one.
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
        f"{name}: one experiment for {'; '.join(equal)}" for name, equal in merged.items() if len(equal) > 1
    ]
    return tuple(cells.values()), notes


def unused_keys(recipe: Recipe) -> set[str]:
    """The keys that don't affect this recipe's training, as its objective declares.

    Keys that aren't listed count as used. At worst, an experiment runs twice.
    """
    settings = recipe.objective
    # with all parts, even those that a coefficient of 0 would remove: 0 is a value of the key too
    objective = resolve_objective(settings.name, 1.0, 1.0, settings.mix, settings.mix_with)
    # vds-weighted uses γ as a weight
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


def refuse_duplicates(cells: Sequence[Cell]) -> None:
    """Named cells must be different experiments, and their folders different on a Mac too. Raises `Refusal`."""
    seen: list[tuple[dict[str, Any], Cell]] = []
    for cell in cells:
        unused = unused_keys(cell.recipe)
        used = {key: value for key, value in recipe_file.flat(cell.recipe).items() if key not in unused}
        for other_used, other in seen:
            if used == other_used:
                raise Refusal(f"cells {other.name} and {cell.name} are the same experiment: omit one")
            if other.name.casefold() == cell.name.casefold():
                raise Refusal(
                    f"cells {other.name} and {cell.name}: a Mac treats these folders as one: rename one"
                )
        seen.append((used, cell))


def is_name(name: str) -> bool:
    """Whether a cell may have this name."""
    bad = not _SAFE.fullmatch(name) or name[-1] in " ." or len(name) > LONGEST_NAME
    return not bad and name.casefold() != SUMMARY


def refuse_name(name: str) -> None:
    """The name of a cell must be a valid folder name on any system. Raises `Refusal`."""
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
    matches = [cell.name for cell in cells if cell.name == wanted] or [
        cell.name for cell in cells if parts <= set(spelled(cell.settings).split(","))
    ]
    if len(matches) != 1:
        which = f"{len(matches)} cells match: {'; '.join(matches)}" if matches else "no cell matches"
        names = "; ".join(cell.name for cell in cells)
        raise Refusal(f"{option} {wanted}: {which}: give one of: {names}")
    return matches[0]


def spelled(settings: Settings) -> str:
    """Settings as a user writes them: objective.name=vgs,objective.steering_coef=2."""
    return ",".join(f"{key}={value_text(value)}" for key, value in settings.items())


def unnamed_settings(name: str, settings: Settings) -> str:
    """What a cell sets, in one line; "" where its name spells that out."""
    text = " ".join(spelled(settings).split())
    return "" if text == name else text


def value_text(value: Any) -> str:
    """A value in one line."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def folder_name(settings: Settings) -> str:
    """The settings as a folder name that is safe on any system. Other characters become -, and a checksum is added."""
    name = spelled(settings) or "base"
    safe = re.sub(r"[^A-Za-z0-9._=,+-]", "-", name)
    if safe == name and len(name) <= LONGEST_NAME:
        return name
    return f"{safe[: LONGEST_NAME - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
