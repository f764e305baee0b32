"""The objective that a recipe asks for."""

from vgs_mlx.objective.objectives import Objective, resolve
from vgs_mlx.recipe import Recipe


def resolved(recipe: Recipe) -> Objective:
    """The recipe's objective, without the parts that it switches off."""
    settings = recipe.objective
    return resolve(
        settings.name, settings.steering_coef, settings.preservation_coef, settings.mix, settings.mix_with
    )
