"""From stored answers to figures and tables: the accuracy of each benchmark, and paired differences to another run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from vgs_mlx.data.rows import BadRow
from vgs_mlx.evaluation import evaluate
from vgs_mlx.evaluation.statistics import average_paired_bootstrap, mcnemar, paired_bootstrap
from vgs_mlx.evaluation.suites import SUITES, answers, chosen

Lines = Sequence[answers.Line]
Pair = tuple[np.ndarray, np.ndarray]  # the scores of the same rows, this model's and the other's


def results(
    lines: Mapping[str, Lines], left_out: Mapping[str, Sequence[BadRow]], against: Path | None
) -> dict[str, Any]:
    """Everything the tables show, as plain values for JSON, by benchmark and for each suite asked as a whole."""
    figures: dict[str, Any] = {"benchmarks": {}, "averages": {}}
    pairs: dict[str, Pair] = {}
    for name, rows in lines.items():
        about = evaluate.summary([answers.from_line(line) for line in rows])
        about["left_out"] = [str(each) for each in left_out[name]]
        if against:
            [benchmark] = chosen(name)
            pair = _pair(rows, answers.read(against / f"{name}.jsonl", benchmark.grade))
            about["against"] = _difference([pair]) if pair else None
            pairs.update({name: pair} if pair else {})
        figures["benchmarks"][name] = about
    for suite, benchmarks in SUITES.items():
        names = [each.name for each in benchmarks]
        if all(name in lines for name in names):
            mean = float(np.mean([figures["benchmarks"][name]["accuracy"] for name in names]))
            figures["averages"][suite] = {"benchmarks": len(names), "accuracy": mean}
            if all(name in pairs for name in names):
                figures["averages"][suite]["against"] = _difference([pairs[name] for name in names])
    return figures


def _pair(rows: Lines, others: Mapping[int, answers.Line]) -> Pair | None:
    """The mean scores of the rows that both were asked in the same words; None where there are no such rows."""
    shared = [
        (line["right"], other["right"])
        for line in rows
        if (other := others.get(line["row"])) and _question(other) == _question(line)
    ]
    if not shared:
        return None
    here, there = zip(*shared, strict=True)
    return np.array([np.mean(each) for each in here]), np.array([np.mean(each) for each in there])


def _question(line: answers.Line) -> tuple[str, str, str]:
    return line["id"], line["asked"], line["answer"]


def _difference(pairs: Sequence[Pair]) -> dict[str, Any]:
    """This model minus the other: the mean difference, its 95 % interval, and McNemar's p for single answers."""
    here, there = (float(np.mean([pair[side].mean() for pair in pairs])) for side in (0, 1))
    interval = paired_bootstrap(*pairs[0]) if len(pairs) == 1 else average_paired_bootstrap(pairs)
    found = {"rows": sum(len(left) for left, _ in pairs), "here": here, "there": there, **interval._asdict()}
    single = len(pairs) == 1 and bool(np.isin(pairs[0], [0, 1]).all())
    return {**found, "mcnemar_p": mcnemar(*pairs[0]) if single else None}


def show(
    figures: Mapping[str, Any],
    console: Console,
    against: Path | None = None,
    other: Mapping[str, Any] | None = None,
) -> None:
    """Print the accuracies and, with `against`, the differences to that folder's answers."""
    drawn = figures["settings"]
    how = f"mean of {drawn['samples']} samples at temperature {drawn['temperature']:g}"
    how = how if drawn["temperature"] else "greedy (Acc@1)"
    view = "" if drawn["with_image"] else ", without the pictures"
    console.print(f"{figures['model']}: {how}{view}", markup=False, soft_wrap=True)
    console.print(_accuracies(figures))
    if against and other:
        console.print(
            f"difference from {other['model']} ({against}), on the rows that both answered:", markup=False
        )
        differing = [key for key in drawn if key != "model" and other["settings"].get(key) != drawn[key]]
        if differing:
            console.print(f"not asked with the same settings: {', '.join(differing)} differ", markup=False)
        console.print(_differences(figures))


def _accuracies(figures: Mapping[str, Any]) -> Table:
    table = _table("benchmark", "rows", "accuracy", "95 % interval", "cut off", "left out")
    for name, each in figures["benchmarks"].items():
        interval, cut_off = f"{each['low']:.3f}-{each['high']:.3f}", f"{each['cut_off_share']:.1%}"
        table.add_row(
            name,
            f"{each['prompts']:,}",
            f"{each['accuracy']:.3f}",
            interval,
            cut_off,
            str(len(each["left_out"])),
        )
    for suite, each in figures["averages"].items():
        table.add_row(f"{suite} average", "", f"{each['accuracy']:.3f}", "", "", "")
    return table


def _differences(figures: Mapping[str, Any]) -> Table:
    table = _table("benchmark", "rows", "there", "here", "change", "95 % interval", "McNemar p")
    averages = {f"{suite} average": each for suite, each in figures["averages"].items() if "against" in each}
    for name, about in (figures["benchmarks"] | averages).items():
        each = about["against"]
        if each is None:
            table.add_row(name, "0", *["-"] * 5)
            continue
        wide = each["low"] < each["high"]  # else no row differs, or all by the same: the width is unknown
        interval = f"{each['low']:+.3f} to {each['high']:+.3f}" if wide else "-"
        table.add_row(
            name, f"{each['rows']:,}", f"{each['there']:.3f}", f"{each['here']:.3f}", f"{each['mean']:+.3f}", interval,
            "-" if each["mcnemar_p"] is None else f"{each['mcnemar_p']:.3g}",
        )  # fmt: skip
    return table


def _table(*headings: str) -> Table:
    table = Table(box=None)
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "benchmark" else "right")
    return table
