"""The recipe of a command line. Imports nothing of MLX, so that a wrong key is refused at once."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from vgs_mlx.recipe import file as recipe_file
from vgs_mlx.recipe.file import Setting
from vgs_mlx.recipe.options import SHORTHANDS, Recipe
from vgs_mlx.resources import quickstart
from vgs_mlx.runs.folder import RECIPE
from vgs_mlx.runs.named import named


def resolve(file: Path | None, shorthands: Mapping[str, str], sets: Sequence[str]) -> tuple[Recipe, str]:
    """The recipe of a command line and a name for its run. Raises `Refusal`.

    Where neither a recipe nor a model is given, `shorthands` and `sets` change the quickstart's recipe. Where the
    student is an earlier run and no recipe is given, they change that run's recipe.
    """
    earlier = named(shorthands.get("student", ""))
    if file is None and earlier:
        own = recipe_file.load_recipe(earlier[0] / RECIPE, sets, settings(shorthands))
        return own, earlier[0].resolve().name
    if file is None and not {"student", "teacher"} & shorthands.keys():
        file = quickstart()
    return recipe_file.load_recipe(file, sets, settings(shorthands)), file.stem if file else "run"


def settings(shorthands: Mapping[str, str]) -> list[Setting]:
    """The recipe's settings that options such as --student stand for."""
    return [Setting(SHORTHANDS[name], value, f"--{name} {value}") for name, value in shorthands.items()]
