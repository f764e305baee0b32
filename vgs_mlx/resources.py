"""Where the files of the package are: the recipes and the tiny models."""

from importlib import resources
from pathlib import Path
from typing import Literal

from vgs_mlx.errors import Refusal

PACKAGE = Path(str(resources.files("vgs_mlx")))


def recipes_folder() -> Path:
    """The folder of recipes: inside an installed package, beside the package in a checkout."""
    for folder in (PACKAGE / "recipes", PACKAGE.parent / "recipes"):
        if folder.is_dir():
            return folder
    raise Refusal(f"{PACKAGE / 'recipes'}: the recipes are missing: install vgs-mlx again")


def shipped_recipe(path: Path) -> Path | None:
    """The package's own recipe of the name in `recipes/NAME.yaml`, in whatever folder; None where there is none."""
    shipped = recipes_folder() / path.name
    return shipped if path.parent.name == "recipes" and shipped.is_file() else None


def quickstart() -> Path:
    """The recipe that the built-in models are made for."""
    return recipes_folder() / "quickstart.yaml"


def tiny_model(role: Literal["student", "teacher"]) -> Path:
    """The folder of a built-in tiny model, as mlx-vlm loads it."""
    folder = PACKAGE / "tiny" / role
    if not (folder / "config.json").is_file():
        raise Refusal(
            f"{folder}: the built-in {role} is missing: install vgs-mlx again, "
            "or make it with scripts/make_tiny_models.py"
        )
    return folder
