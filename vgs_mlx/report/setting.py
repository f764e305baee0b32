"""A run's recipe for its page: the essentials, and every setting that differs from its default."""

from dataclasses import asdict
from typing import Any

from vgs_mlx.recipe.objective import resolved
from vgs_mlx.recipe.options import Recipe
from vgs_mlx.report.headline import method
from vgs_mlx.report.wording import plural

STEERING = {"steering_coef": "γ", "preservation_coef": "λ", "norm_scale": "η"}


def essentials(recipe: Recipe, *, seed: bool = True) -> list[tuple[str, str]]:
    """The rows of the table of essentials: name, value. `seed` adds the seed."""
    rollout, train = recipe.rollout, recipe.train
    drawn = f"{plural(rollout.prompts_per_step, 'prompt')} × {plural(rollout.completions_per_prompt, 'completion')}"
    how = (
        "all weights"
        if recipe.student.train == "full"
        else f"{recipe.student.train}, rank {recipe.student.rank}"
    )
    return [
        ("Student", f"{recipe.student.path} ({how})"),
        ("Teacher", recipe.teacher.path or "none"),
        ("Data", recipe.data.source),
        ("Objective", _objective(recipe)),
        ("Steps", f"{train.steps:,} of {drawn}"),
        ("Learning rate", f"{train.learning_rate:g}, {train.schedule}"),
        *([("Seed", str(recipe.seed))] if seed else []),
    ]


def chosen(recipe: Recipe) -> list[tuple[str, str, str]]:
    """Every setting that differs from its default: key, value, default."""
    ours, defaults = _flat(asdict(recipe)), _flat(asdict(Recipe()))
    return [
        (key, _said(value), _said(defaults.get(key)))
        for key, value in ours.items()
        if value != defaults.get(key)
    ]


def _objective(recipe: Recipe) -> str:
    settings, objective = recipe.objective, resolved(recipe)
    used = {
        "steering_coef": objective.has("steering"),
        "preservation_coef": objective.has("preservation"),
        "norm_scale": objective.steers,
    }
    symbols = [_symbol(symbol, asdict(settings)[key]) for key, symbol in STEERING.items() if used[key]]
    name = settings.name if settings.name == "standard" else f"{method(settings.name)} ({settings.name})"
    mixed = f", mixed with {settings.mix:g} of {settings.mix_with}" if objective.mixed else ""
    return f"{name}{mixed}{': ' if symbols else ''}{', '.join(symbols)}"


def _symbol(symbol: str, value: float | str) -> str:
    """γ = 2, or how γ is measured."""
    return f"{symbol} measured ({value})" if isinstance(value, str) else f"{symbol}\u00a0=\u00a0{value:g}"


def _flat(section: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in section.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _said(value: Any) -> str:
    return '""' if value == "" else "none" if value is None else str(value)
