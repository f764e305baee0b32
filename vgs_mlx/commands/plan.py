"""What `vgs-mlx plan` does: print the memory and, if asked, the time that a run would take."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from vgs_mlx.commands import distill
from vgs_mlx.exporting import earlier_run
from vgs_mlx.planning import report
from vgs_mlx.runs import recipes


def run(
    file: Path | None, shorthands: Mapping[str, str], sets: Sequence[str], *, timed: bool, **machine: Any
) -> int:
    """See the command's help; `machine` goes to `planning.report.run`. Returns the exit code: 1 where the run
    doesn't fit. Raises `Refusal`."""
    recipe, _ = recipes.resolve(file, shorthands, sets)
    fits = report.run(earlier_run.planned_as_base(recipe, click.echo), say=click.echo, **machine)
    if timed:
        distill.dry_run(recipe, None)
    return 0 if fits else 1
