"""A grid's numbers as tables: CSV, JSON and Markdown files, and on the screen."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from vgs_mlx.ablation import grid
from vgs_mlx.ablation.summary import CellSummary, Difference, Summary
from vgs_mlx.evaluation.statistics import Interval, Spread
from vgs_mlx.runs.folder import write_text

Row = dict[str, Any]
NONE = "-"
# on the screen; the files have all columns
CELLS_SHOWN = ("seeds", "final", "95 % interval", "blind", "s/step")
DIFFERENCES_SHOWN = ("seeds", "difference", "95 %, seeds", "95 %, prompts", "McNemar p")

HOW_TO_READ = """\
Final is the accuracy after the last step. Best is the highest of all evaluations; it is chosen on the rows that it is
measured on, so it is too optimistic. Blind is the final accuracy without the picture. `±` is the standard deviation
over seeds. 95 % intervals are Student's t over seeds: what another seed might give on these prompts. There is none
where all seeds give the same. Where a column says "prompts", they are a paired bootstrap over prompts: what other
prompts might give for these seeds. A prompt's score is its mean over the seeds; seeds with prompts of their own are
resampled separately. McNemar's exact p pools the seeds and treats a prompt in two seeds as two independent prompts.
There is no correction for the number of cells. "To reach" counts up to the first evaluation that is at least as high,
over the seeds that reached it. Seconds are those of training steps, comparable only if the machine was otherwise
idle."""


def write(folder: Path, summary: Summary) -> None:
    """Write summary.json, cells.csv, differences.csv, curves.csv and summary.md."""
    # with the field names of named tuples, which JSON would write as lists
    write_text(folder / "summary.json", json.dumps(_plain(asdict(summary)), indent=2) + "\n")
    for name, rows in (
        ("cells", [_cell_numbers(each) for each in summary.cells]),
        ("differences", [_difference_numbers(each, summary.baseline) for each in summary.differences]),
        ("curves", [row for each in summary.cells for row in _curve_numbers(each)]),
    ):
        write_text(folder / f"{name}.csv", _csv(rows))
    write_text(folder / "summary.md", markdown(summary))


def markdown(summary: Summary) -> str:
    """The summary as Markdown."""
    parts = ["# Ablation", HOW_TO_READ]
    if summary.unfinished:
        parts.append(f"**Not finished, and omitted: {'; '.join(summary.unfinished)}.**")
    parts.append(markdown_table(cell_rows(summary)))
    if summary.differences:
        parts += [f"{compared(summary)}:", markdown_table(difference_rows(summary))]
    if kinds := kind_rows(summary):
        parts += [
            f"By kind of question: final accuracy, and its difference from that of {summary.baseline}:",
            markdown_table(kinds),
        ]
    return "\n\n".join(parts) + "\n"


def cell_rows(summary: Summary) -> list[Row]:
    """A row for each cell, as text."""
    reach = NONE if summary.reach is None else f"{summary.reach:.3f}"
    sets = {each.name: grid.unnamed_settings(each.name, each.settings) for each in summary.cells}
    return [
        {
            "cell": each.name,
            **({"sets": sets[each.name] or NONE} if any(sets.values()) else {}),
            "seeds": len(each.seeds),
            "before": _mean(each.before),
            "final": _with_sd(each.final),
            "95 % interval": _interval(each.final),
            "best": _with_sd(each.best),
            "blind": _with_sd(each.blind),
            f"reached {reach}": f"{each.reached}/{len(each.seeds)}",
            "tokens to reach": _mean(each.tokens_to_reach, ",.0f"),
            "seconds to reach": _mean(each.seconds_to_reach, ",.0f"),
            "s/step": _mean(each.step_seconds, ".2f"),
        }
        for each in summary.cells
    ]


def difference_rows(summary: Summary) -> list[Row]:
    """A row for each cell except the baseline, as text."""
    return [
        {
            "cell": each.name,
            "seeds": len(each.seeds),
            "difference": f"{each.over_seeds.mean:+z.3f}",
            "95 %, seeds": _interval(each.over_seeds, "+z.3f"),
            "95 %, prompts": _interval(each.over_prompts, "+z.3f"),
            "by seed": " ".join(f"{value:+z.3f}" for value in each.by_seed),
            "right only here": f"{each.only_cell:,}",
            "only in baseline": f"{each.only_baseline:,}",
            "McNemar p": f"{each.mcnemar:.2g}",
        }
        for each in summary.differences
    ]


def kind_rows(summary: Summary) -> list[Row]:
    """By kind of question: the baseline's final accuracy and each cell's difference, mean ± sd; empty without kinds."""
    base = next((each for each in summary.cells if each.name == summary.baseline), None)
    if base is None or len(base.by_kind) < 2:
        return []
    added = [
        {
            "cell": each.name,
            **{kind: _with_sd(each.by_kind.get(kind), "+z.3f") for kind in base.by_kind},
        }
        for each in summary.differences
    ]
    return [{"cell": base.name, **{kind: _with_sd(value) for kind, value in base.by_kind.items()}}, *added]


def compared(summary: Summary) -> str:
    """A heading for the table of differences."""
    return (
        f"Final accuracy minus that of {summary.baseline}, on the same prompts, with the seeds that both have"
    )


def on_screen(rows: Sequence[Row], columns: Sequence[str]) -> Table:
    """The first column and `columns` as a table for the terminal. In a narrow one names are folded, numbers never."""
    names = [next(iter(rows[0])), *columns]
    table = Table(box=None, header_style="bold")
    for place, name in enumerate(names):
        table.add_column(name, justify="right" if place else "left", no_wrap=bool(place), overflow="fold")
    for row in rows:
        table.add_row(*[Text(str(row[name])) for name in names])
    return table


def _cell_numbers(cell: CellSummary) -> Row:
    spreads: dict[str, Spread | None] = {
        "before": cell.before,
        "final": cell.final,
        "best": cell.best,
        "blind": cell.blind,
        "tokens_to_reach": cell.tokens_to_reach,
        "seconds_to_reach": cell.seconds_to_reach,
        "step_seconds": cell.step_seconds,
    }
    row: Row = {"cell": cell.name, "sets": grid.spelled(cell.settings), "seeds": len(cell.seeds)}
    row["reached"] = cell.reached
    for name, spread in spreads.items():
        values = spread._asdict() if spread else {}
        row |= {f"{name}_{part}": values.get(part) for part in ("mean", "sd", "low", "high")}
    return row


def _difference_numbers(each: Difference, baseline: str) -> Row:
    return {
        "cell": each.name,
        "baseline": baseline,
        "seeds": len(each.seeds),
        "difference": each.over_seeds.mean,
        "sd_over_seeds": each.over_seeds.sd,
        "low_over_seeds": each.over_seeds.low,
        "high_over_seeds": each.over_seeds.high,
        "low_over_prompts": each.over_prompts.low,
        "high_over_prompts": each.over_prompts.high,
        "prompts": each.prompts,
        "only_cell_right": each.only_cell,
        "only_baseline_right": each.only_baseline,
        "mcnemar_p": each.mcnemar,
    }


def _curve_numbers(cell: CellSummary) -> list[Row]:
    return [
        {
            "cell": cell.name,
            "step": each.step,
            "tokens": each.tokens,
            "seconds": each.seconds,
            **each.accuracy._asdict(),
        }
        for each in cell.curve
    ]


def _csv(rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def markdown_table(rows: Sequence[Row]) -> str:
    """A table of rows, which have the same columns."""
    cells = [[str(value).replace("|", "\\|") for value in row.values()] for row in rows]
    lines = [list(rows[0]), ["---"] * len(rows[0]), *cells]
    return "\n".join(f"| {' | '.join(each)} |" for each in lines)


def _plain(value: Any) -> Any:
    if isinstance(value, Spread | Interval):
        return value._asdict()
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def _mean(value: Spread | None, form: str = ".3f") -> str:
    return NONE if value is None else f"{value.mean:{form}}"


def _with_sd(value: Spread | None, form: str = ".3f") -> str:
    if value is None or value.sd is None:
        return _mean(value, form)
    return f"{value.mean:{form}} ± {value.sd:.3f}"


def _interval(value: Spread | Interval, form: str = ".3f") -> str:
    return NONE if value.low is None else f"{value.low:{form}} to {value.high:{form}}"
