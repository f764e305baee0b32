"""The prompts that an export is proven on: the first held-out rows of the run, or rows that the user gives."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vgs_mlx.models.loading import find_folder, load_processor
from vgs_mlx.recipe.options import Recipe
from vgs_mlx.runs import sources, trained
from vgs_mlx.runs.rows import all_rows, first_held_out
from vgs_mlx.runs.screen import LIBRARIES, Screen
from vgs_mlx.train.setup import render_prompt
from vgs_mlx.types import Example, Prompt

HELD_OUT = "held-out prompts"


@dataclass(frozen=True, eq=False)
class ProofPrompts:
    """Prompts to compare models on, rendered by the student's processor."""

    prompts: Sequence[Prompt]
    about: str = HELD_OUT  # what they are, for the model card


def find(run: Path, recipe: Recipe, data: str | None, count: int, screen: Screen) -> ProofPrompts:
    """The first `count` held-out rows of a run, whose recipe this is, as prompts. Raises `Refusal`.

    Where `data` is given and is not a copy of the run's own data, the first rows of `data`.
    """
    trained.refuse_missing(run, recipe, "student.path")
    if data is None:
        trained.refuse_missing(run, recipe, "data.source", "data.held_out", here=True)
        processor = _processor(recipe, "--student", screen)
        return _rendered(processor, recipe, first_held_out(recipe, processor, count, screen, [run]))
    own = sources.own_held_out(run, recipe, data, screen)
    processor = _processor(recipe, "student.path", screen)
    examples = own or all_rows(processor, recipe, data, count, screen)
    return _rendered(
        processor, recipe, examples[:count], HELD_OUT if own else f"prompts of {Path(data).name}"
    )


def _rendered(
    processor: Any, recipe: Recipe, examples: Sequence[Example], about: str = HELD_OUT
) -> ProofPrompts:
    return ProofPrompts([render_prompt(processor, example, recipe) for example in examples], about)


def _processor(recipe: Recipe, option: str, screen: Screen) -> Any:
    with screen.working(LIBRARIES):
        return load_processor(find_folder(recipe.student.path, option), option)
