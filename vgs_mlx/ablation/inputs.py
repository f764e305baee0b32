"""What the runs of a grid were made from: a path may come to hold other data, or another model, between two runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vgs_mlx.ablation.jobs import Job
from vgs_mlx.errors import Refusal
from vgs_mlx.recipe import SHAPES, Data, Recipe
from vgs_mlx.train import checkpoint, ledger, run_folder
from vgs_mlx.trained import read_json

PICTURES = "set of pictures"


def refuse_changed(jobs: Sequence[Job]) -> None:
    """Finished runs that name the same data, model or reward must have had the same: they are paired. Raises `Refusal`.

    What a run kept no record of is taken on trust.
    """
    seen: dict[tuple, tuple[Job, str]] = {}
    for job in jobs:
        kept = _kept(job.folder)
        for what, (path, *rest) in _named(job.recipe).items():
            if kept.get(what) in (None, "none"):
                continue
            first, theirs = seen.setdefault((what, path, *rest), (job, kept[what]))
            if kept[what] != theirs:
                raise Refusal(
                    f"{job.folder}: its {what} isn't what {first.name} had, though both name {path}: what is there has "
                    "changed. Put back what is right, move away the runs that had the other, and go on with --resume"
                )


def _kept(run: Path) -> dict[str, Any]:
    """The fingerprints of what a run was made from: from its result or its newest checkpoint, and of its pictures."""
    found = read_json(run / run_folder.RESULT).get("identity")
    if not found:
        newest = checkpoint.newest(run)
        found = read_json(newest / checkpoint.STATE_FILE).get("identity", {}) if newest else {}
    return {**found, PICTURES: ledger.fingerprint(run)}


def _named(recipe: Recipe) -> dict[str, tuple]:
    """Where a recipe's models, data and reward are (first), and all else that decides about what is read there."""
    student, data = recipe.student.path, recipe.data
    return {
        "student": (student,),
        "teacher": (recipe.teacher.path,),
        # the student's processor checks rows
        "data": (data.source, repr(data), student, recipe.seed if _cut_by_seed(data) else None),
        "data set": (data.source, repr(data), student),
        PICTURES: (data.source, repr(data), student),
        "reward": (recipe.grpo.reward,),
    }


def _cut_by_seed(data: Data) -> bool:
    """Whether the held-out rows are a fraction of a file: each seed then has its own."""
    try:
        float(data.held_out)
    except ValueError:
        return False
    return not SHAPES.fullmatch(data.source)
