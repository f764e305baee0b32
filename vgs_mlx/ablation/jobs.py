"""The runs of a grid, and where each is in its folder.

DIR/grid.json             the grid
DIR/CELL/seed-0/          an ordinary run folder
DIR/CELL/seed-0.yaml      its recipe
DIR/CELL/seed-0.log       its output
DIR/summary/              the results
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vgs_mlx.ablation.grid import Grid
from vgs_mlx.errors import Refusal
from vgs_mlx.formats import hub_names
from vgs_mlx.recipe import file as recipe_file
from vgs_mlx.recipe.options import Recipe
from vgs_mlx.runs import folder as run_folder
from vgs_mlx.train import loop

State = Literal["waiting", "running", "done", "failed", "stopped"]


@dataclass(frozen=True, eq=False)
class Job:
    """One run of one cell."""

    cell: str
    recipe: Recipe
    folder: Path

    @property
    def recipe_file(self) -> Path:
        return self.folder.with_suffix(".yaml")

    @property
    def log(self) -> Path:
        return self.folder.with_suffix(".log")

    @property
    def name(self) -> str:
        return f"{self.cell}, seed {self.recipe.seed}"


def jobs_of(folder: Path, grid: Grid) -> list[Job]:
    """Every run of the grid, seed by seed, so that cells can be compared early."""
    jobs = [
        Job(cell.name, recipe, folder.absolute() / cell.name / f"seed-{recipe.seed}")
        for cell in grid.cells
        for recipe in cell.runs()
    ]
    return sorted(jobs, key=lambda job: job.recipe.seed)


def finished(job: Job) -> bool:
    """Whether the run has finished. Raises `Refusal` for a run with another recipe."""
    if not (job.folder / run_folder.RECIPE).is_file():
        return False
    there, here = (recipe_file.flat(each) for each in (run_folder.opened(job.folder), job.recipe))
    if changed := [key for key in here if not _same(there[key], here[key])]:
        raise Refusal(f"{job.folder}: its {changed[0]} is no longer that of the grid: move this run away")
    return loop.finished_steps(job.folder) is not None


def _same(there: Any, here: Any) -> bool:
    """Whether two recipes have the same value, apart from the commit that a run adds to a Hub name."""
    return there == here or (isinstance(there, str) and hub_names.without_commit(there) == here)
