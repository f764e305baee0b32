"""Makes sure that the runs of a grid have the same inputs: the contents of a path may change between two runs."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from vgs_mlx.ablation.grid import Grid
from vgs_mlx.ablation.jobs import Job
from vgs_mlx.errors import Refusal
from vgs_mlx.formats import hub_names
from vgs_mlx.recipe import file as recipe_file
from vgs_mlx.recipe.options import Data, Recipe
from vgs_mlx.recipe.paths import SHAPES
from vgs_mlx.runs import ledger, sources
from vgs_mlx.runs.identity import PLACES, worded
from vgs_mlx.runs.trained import kept_identity

PICTURES = "set of pictures"


def refuse_changed(jobs: Sequence[Job]) -> None:
    """Finished runs that name the same data, model or reward must have used the same: they are compared in pairs.

    An input of which a run recorded no fingerprint is trusted. Raises `Refusal`.
    """
    seen: dict[tuple, tuple[Job, str]] = {}
    for job in jobs:
        named = _named(job.recipe)
        kept = {**kept_identity(job.folder), PICTURES: ledger.fingerprint(job.folder)}
        for what, fingerprint in kept.items():
            path, *rest = named.get(what) or named.get(what.split()[0], (None,))
            if path is None or fingerprint in (None, "none"):
                continue
            first, theirs = seen.setdefault((what, path, *rest), (job, fingerprint))
            if fingerprint != theirs:
                raise Refusal(
                    f"{job.folder}: differs from {first.name} in {worded([what])}, though both name {path}: its "
                    "contents have changed. Restore the right ones, move away the runs that used the others, and "
                    "go on with --resume"
                )


def pinned(made: Grid, kept: Grid | None, say: Callable[[str], None]) -> Grid:
    """The grid with every Hub name pinned to one commit, the same for all runs. Commits in `kept`, the grid that the
    folder already holds, stay. Raises `Refusal`.
    """
    known: dict[str, str] = {}
    for cell in kept.cells if kept else ():
        places = [value for key, value in recipe_file.flat(cell.recipe).items() if key in PLACES]
        known |= {hub_names.without_commit(each): each for each in places if isinstance(each, str)}
    cells = [replace(cell, recipe=sources.pinned(cell.recipe, say, known)) for cell in made.cells]
    return replace(made, cells=tuple(cells))


def _named(recipe: Recipe) -> dict[str, tuple]:
    """Where a recipe's models, data and reward are (first), and whatever else determines what is read there."""
    student, data = recipe.student.path, recipe.data
    rows = (data.source, repr(data), student)  # the student's processor decides which rows fit
    return {
        "student": (student,),
        "teacher": (recipe.teacher.path,),
        "data": (*rows, recipe.seed if _cut_by_seed(data) else None),
        "all rows": rows,
        "data set": rows,  # the name in earlier versions
        PICTURES: rows,
        "reward": (recipe.grpo.reward,),
    }


def _cut_by_seed(data: Data) -> bool:
    """Whether the held-out rows are a fraction of a file, so that each seed has its own."""
    try:
        float(data.held_out)
    except ValueError:
        return False
    return not SHAPES.fullmatch(data.source)
