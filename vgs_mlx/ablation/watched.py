"""What the runs of a grid recorded over steps: the loss terms by visual dependency (Fig. 4), and η (Fig. 7).

Terms are in the terms.jsonl of runs with `train.watch_every`, η in the metrics of the steps at which it was measured.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vgs_mlx.ablation.tables import markdown_table
from vgs_mlx.evaluation.statistics import Spread, spread
from vgs_mlx.objective.binning import GROUPS
from vgs_mlx.objective.terms import DIAGNOSTICS
from vgs_mlx.runs import folder as run_folder
from vgs_mlx.runs.folder import write_text

TERMS_TITLE = """Loss terms on fixed held-out answers, nats per token, before training -> at the end

The untrained student gave the answers, for each seed its own. Low, middle and high are bins 0-2, 3-6 and 7-9 of ten by
visual dependency. `±` is the standard deviation over seeds."""
DIFFERENCES_TITLE = (
    "The same at the end, minus the baseline, in nats: mean ± sd over the seeds that both have"
)
NORM_SCALE_TITLE = "η, as measured"
QUANTITIES = [f"{group} {term}" for term in DIAGNOSTICS for group in GROUPS]


@dataclass(frozen=True)
class Traces:
    """One run: quantity -> its value by step. Quantities are "high visual" and so on, nats, and "η"."""

    cell: str
    seed: int
    values: dict[str, dict[int, float]]


@dataclass(frozen=True)
class Trace:
    """A quantity of a cell over its seeds, at the steps that all of them have."""

    cell: str
    quantity: str
    steps: tuple[int, ...]
    spreads: tuple[Spread, ...]


def read(run: Path, cell: str, seed: int) -> Traces:
    """What a finished run recorded; no quantities where it was not asked to record any."""
    values: dict[str, dict[int, float]] = defaultdict(dict)
    terms = run / run_folder.TERMS
    for row in run_folder.rows(terms) if terms.is_file() else ():
        for quantity, value in _terms(row):
            values[quantity][row["step"]] = value
    for row in run_folder.rows(run / run_folder.METRICS):
        if row.get("norm_scale_exact") is not None:
            values["η"][row["step"]] = row["norm_scale_exact"]
    return Traces(cell, seed, dict(values))


def _terms(row: Mapping[str, Any]) -> list[tuple[str, float]]:
    return [
        (f"{group} {term}", row[group][term]) for group in GROUPS if row.get(group) for term in DIAGNOSTICS
    ]


def shared(runs: Sequence[Traces]) -> list[Traces]:
    """The runs of the seeds that all cells have, so that a figure can compare them. Without such seeds, all runs."""
    by_cell: dict[str, set[int]] = defaultdict(set)
    for run in runs:
        if run.values:
            by_cell[run.cell].add(run.seed)
    seeds = set.intersection(*by_cell.values()) if by_cell else set()
    return [run for run in runs if run.seed in seeds] or list(runs)


def over_seeds(runs: Sequence[Traces]) -> list[Trace]:
    """Each quantity of each cell, where all runs of the cell have it."""
    by_cell: dict[str, list[Traces]] = defaultdict(list)
    for run in runs:
        by_cell[run.cell].append(run)
    traces = []
    for cell, members in by_cell.items():
        for quantity in members[0].values:
            courses = [run.values.get(quantity, {}) for run in members]
            if steps := sorted(set.intersection(*map(set, courses))):
                spreads = tuple(spread([course[step] for course in courses]) for step in steps)
                traces.append(Trace(cell, quantity, tuple(steps), spreads))
    return traces


def term_rows(traces: Sequence[Trace]) -> list[dict[str, str]]:
    """A row for each watched cell: each term at the first and at the last measurement, nats, as text."""
    return [
        {
            "cell": cell,
            "seeds": _seeds(by_quantity),
            **{
                name: _first_and_last(by_quantity[name]) if name in by_quantity else "-"
                for name in QUANTITIES
            },
        }
        for cell, by_quantity in _by_cell(traces).items()
        if any(name in by_quantity for name in QUANTITIES)
    ]


def norm_scale_rows(traces: Sequence[Trace]) -> list[dict[str, str]]:
    """A row for each cell whose η was measured, as text."""
    return [
        {
            "cell": cell,
            "seeds": str(by_quantity["η"].spreads[0].count),
            "measured at steps": f"{by_quantity['η'].steps[0]} to {by_quantity['η'].steps[-1]}",
            "η, first": _value(by_quantity["η"].spreads[0]),
            "η, last": _value(by_quantity["η"].spreads[-1]),
            "η, mean over steps": f"{np.mean([each.mean for each in by_quantity['η'].spreads]):.3f}",
        }
        for cell, by_quantity in _by_cell(traces).items()
        if "η" in by_quantity
    ]


def difference_rows(runs: Sequence[Traces], baseline: str) -> list[dict[str, str]]:
    """A row for each cell except the baseline: its last terms minus the baseline's last terms, nats, as text."""
    theirs = {run.seed: run.values for run in runs if run.cell == baseline}
    rows = []
    for cell in dict.fromkeys(run.cell for run in runs if run.cell != baseline):
        pairs = [(run.values, theirs[run.seed]) for run in runs if run.cell == cell and run.seed in theirs]
        row = {
            name: _value(spread([_last(ours[name]) - _last(base[name]) for ours, base in pairs]), "+")
            for name in QUANTITIES
            if pairs and all(name in values for pair in pairs for values in pair)
        }
        if row:
            rows.append({"cell": cell, "seeds": str(len(pairs)), **row})
    return rows


def write(folder: Path, runs: Sequence[Traces], baseline: str) -> None:
    """Write watched.md, with the tables of what was recorded."""
    traces = over_seeds(runs)
    tables = {
        TERMS_TITLE: term_rows(traces),
        DIFFERENCES_TITLE: difference_rows(runs, baseline),
        NORM_SCALE_TITLE: norm_scale_rows(traces),
    }
    parts = [f"## {title}\n\n{markdown_table(rows)}" for title, rows in tables.items() if rows]
    write_text(folder / "watched.md", "\n\n".join(parts) + "\n")


def _by_cell(traces: Sequence[Trace]) -> dict[str, dict[str, Trace]]:
    by_cell: dict[str, dict[str, Trace]] = defaultdict(dict)
    for each in traces:
        by_cell[each.cell][each.quantity] = each
    return by_cell


def _first_and_last(trace: Trace) -> str:
    return f"{trace.spreads[0].mean:.3f} -> {_value(trace.spreads[-1])}"


def _last(course: Mapping[int, float]) -> float:
    return course[max(course)]


def _seeds(by_quantity: Mapping[str, Trace]) -> str:
    return str(max(each.spreads[0].count for each in by_quantity.values()))


def _value(value: Spread, sign: str = "") -> str:
    mean = f"{value.mean:{sign}z.3f}"
    return mean if value.sd is None else f"{mean} ± {value.sd:.3f}"
