"""An ablation's loss terms by visual dependency, over steps and at the end."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from vgs_mlx.ablation import watched
from vgs_mlx.ablation.watched import QUANTITIES, Trace, Traces
from vgs_mlx.ablation.watched_figures import SHOWN
from vgs_mlx.figures.palette import SERIES
from vgs_mlx.figures.series import Series
from vgs_mlx.objective.binning import GROUPS
from vgs_mlx.report import figures
from vgs_mlx.report.cells import Numbers, short_name
from vgs_mlx.report.curves import TERMS
from vgs_mlx.report.figures import Frame
from vgs_mlx.report.record import read_rows
from vgs_mlx.report.wording import MINUS
from vgs_mlx.runs import folder as run_folder
from vgs_mlx.runs import forms


@dataclass(frozen=True)
class Row:
    """A cell's terms at the end minus the baseline's, as text: the mean and the spread of each."""

    name: str
    seeds: str
    values: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Terms:
    """The panels, which draw the first cells, and the table of all cells."""

    panels: tuple[tuple[str, Markup], ...]
    keys: tuple[tuple[Markup, str], ...]  # a sample of a cell's line, and the name of the cell
    seeds: int  # that all drawn cells have
    others: int  # cells that were watched but are not drawn
    rows: tuple[Row, ...]
    groups: tuple[str, ...] = tuple(GROUPS)
    titles: tuple[str, ...] = tuple(TERMS.values())


def read(folder: Path, cells: Sequence[Numbers], baseline: str, damaged: list[str]) -> Terms | None:
    """The terms that the summary's runs recorded; None where no run was watched. Damaged files are added to `damaged`.

    The panels draw the baseline and the first cells after it, one in each colour.
    """
    runs = []
    for cell in sorted(cells, key=lambda each: each["name"] != baseline):
        for seed in cell["seeds"]:
            run = folder / cell["name"] / f"seed-{seed}"
            unreadable = _unreadable(run)
            damaged += [f"{cell['name']}/{run.name}/{name}" for name in unreadable]
            if not unreadable and (run / run_folder.TERMS).is_file():
                runs.append(watched.read(run, cell["name"], seed))
    names = list(dict.fromkeys(run.cell for run in runs))
    drawn = watched.over_seeds(watched.shared([run for run in runs if run.cell in names[: len(SERIES)]]))
    if not any(each.quantity in QUANTITIES for each in drawn):
        return None
    return Terms(
        panels=tuple(_panel(drawn, term, group) for term in SHOWN for group in GROUPS),
        keys=tuple((figures.key(place), short_name(name)) for place, name in enumerate(names[: len(SERIES)])),
        seeds=drawn[0].spreads[0].count,
        others=len(names[len(SERIES) :]),
        rows=tuple(_rows(runs, baseline)),
    )


def _unreadable(run: Path) -> list[str]:
    """The damaged files of a run that was watched."""
    damaged: list[str] = []
    if (run / run_folder.TERMS).exists():
        read_rows(run / run_folder.TERMS, forms.WATCHED, damaged)
        read_rows(run / run_folder.METRICS, forms.METRICS, damaged)
    return damaged


def _panel(traces: Sequence[Trace], term: str, group: str) -> tuple[str, Markup]:
    """A term in one group of bins, a line for each cell."""
    title = f"{TERMS[term]}, {group}"
    series = [
        Series(short_name(each.cell), each.steps, [spread.mean for spread in each.spreads])
        for each in traces
        if each.quantity == f"{group} {term}"
    ]
    highest = max((value for each in series for value in each.y), default=0.0) or 1.0
    frame = Frame("step", limits=(0.0, 1.06 * highest), legend=False)
    return title, figures.lines(f"terms-{term}-{group}", f"{title}, over steps", series, frame)


def _rows(runs: Sequence[Traces], baseline: str) -> list[Row]:
    rows = []
    for row in watched.difference_rows(runs, baseline):
        texts = [row.get(name, "–").replace("-", MINUS).partition(" ± ") for name in QUANTITIES]
        values = tuple((mean, f"±\u00a0{spread}" if spread else "") for mean, _, spread in texts)
        rows.append(Row(short_name(row["cell"]), row["seeds"], values))
    return rows
