"""Where a run's data and models are now: they are recognised by their fingerprints, whatever the path."""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from vgs_mlx.data.datasets import DataSet
from vgs_mlx.errors import Refusal
from vgs_mlx.formats import hub_names
from vgs_mlx.models import hub
from vgs_mlx.models.loading import find_folder, load_processor
from vgs_mlx.planning.plan import changed
from vgs_mlx.recipe import file as recipe_file
from vgs_mlx.recipe.objective import needs_teacher
from vgs_mlx.recipe.options import Recipe
from vgs_mlx.recipe.paths import SHAPES, path_of
from vgs_mlx.runs import ledger
from vgs_mlx.runs.identity import PLACES, Identity, differences, of_data, of_model, worded
from vgs_mlx.runs.rows import load_data
from vgs_mlx.runs.screen import Screen
from vgs_mlx.runs.trained import kept_identity, refuse_missing
from vgs_mlx.types import Example


def pinned(recipe: Recipe, say: Callable[[str], None], known: dict[str, str] | None = None) -> Recipe:
    """The recipe with a commit for each model and data set of the Hub, so that later changes there change nothing.

    `known` maps names to pinned names; those that are looked up here are added to it. Raises `Refusal`.
    """
    known, flat = {} if known is None else known, recipe_file.flat(recipe)
    for key, option in PLACES.items():
        name, role = flat[key], key.partition(".")[0]
        if not _on_hub(name) or (role == "teacher" and not needs_teacher(recipe)):
            continue
        if name not in known:
            known[name] = _pinned(name, role, option.split()[0])
            if hub_names.without_commit(known[name]) == known[name]:
                say(f"WARNING  {role} {name}: the Hub can't say which commit this is, so none is recorded")
            else:
                say(f"hub      {role} {known[name]}")
        recipe = changed(recipe, key, known[name])
    return recipe


def _pinned(name: str, role: str, option: str) -> str:
    if role != "data":
        return str(hub.pinned(hub_names.parse(name), option))
    from vgs_mlx.data import hub as data_hub  # here, since `datasets` takes seconds to import

    found = data_hub.parse_name(name)
    return str(data_hub.pinned(found)) if found else name


def _on_hub(name: str | float) -> bool:
    """Whether a name is looked up on the Hub: it has the form of a Hub id and is not a local path."""
    if not isinstance(name, str) or name.endswith(".jsonl") or os.path.exists(path_of(name)):
        return False
    return hub_names.parse(name.partition(":")[0]) is not None


def refuse_others(run: Path, recipe: Recipe, moved: Sequence[str], screen: Screen) -> None:
    """What the keys `moved` of `recipe` name must be what the run was trained on. Raises `Refusal`.

    Only what moved is read; no weights are loaded.
    """
    ours: Identity = {}
    refuse_missing(run, recipe, "student.path", here=True)
    folder = find_folder(recipe.student.path, "--student")
    if "student.path" in moved:
        ours |= of_model("student", folder)
    if "teacher.path" in moved:
        ours |= of_model("teacher", find_folder(recipe.teacher.path, "--teacher"))
    if {"data.source", "data.held_out"} & set(moved):
        ours |= of_data(load_data(recipe, load_processor(folder, "--student"), screen, run))
    theirs = kept_identity(run)
    if unknown := sorted(ours.keys() - theirs.keys()):
        raise Refusal(
            f"{run}: kept no fingerprint of {worded(unknown[:1])} (another version of vgs-mlx made it, or it stopped "
            "before its first checkpoint): what moved can't be recognised: put it back where it was"
        )
    if others := differences(theirs, ours):
        raise Refusal(f"not what {run} was trained on: {others} changed: give an unchanged copy")


def own_held_out(run: Path, recipe: Recipe, source: str, screen: Screen) -> tuple[Example, ...] | None:
    """The run's held-out rows in `source`, where that is a copy of the run's own data; None where it is not.

    Prints which. Built-in shapes, and a file or folder of another name, never count as a copy.
    Raises `Refusal` where the held-out rows are a file that is no longer there.
    """
    if SHAPES.fullmatch(source) or _last_name(source) != _last_name(recipe.data.source):
        return None
    refuse_missing(run, recipe, "student.path")
    refuse_missing(run, recipe, "data.held_out", here=True)
    processor = load_processor(find_folder(recipe.student.path, "student.path"), "student.path")
    there = replace(recipe, data=replace(recipe.data, source=source))
    try:
        data = load_data(there, processor, Screen(Console(quiet=True)))
    except Refusal:  # all rows may be usable; if not, reading them gives the reason
        return None
    if others := _others(run, data):
        screen.say(f"data     {source}: not the run's own ({others}): all its rows are asked")
        return None
    screen.say(f"data     {source}: the run's own data: its {len(data.held_out):,} held-out rows are asked")
    return data.held_out


def _others(run: Path, data: DataSet) -> str:
    """How a data set differs from the one that the run had, in words; "" where it doesn't."""
    theirs, ours = kept_identity(run), of_data(data)
    if others := differences(theirs, ours) or worded(key for key in ours if key not in theirs):
        return f"{others} differ"
    try:
        ledger.refuse_changes(run, data)
    except Refusal as changed_pictures:
        return str(changed_pictures)
    return ""


def _last_name(source: str) -> str:
    """The name of a source's file or folder, which is part of its rows' ids."""
    return re.split(r"[:@]", Path(source).name)[0]
