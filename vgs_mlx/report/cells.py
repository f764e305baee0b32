"""The rows of an ablation's tables as text: one for each cell, one for each difference from the baseline."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from vgs_mlx.report.wording import number, percent, points, seconds

SYMBOLS = (
    ("objective.name=", ""),
    ("objective.steering_coef=", "γ\u00a0=\u00a0"),
    ("objective.preservation_coef=", "λ\u00a0=\u00a0"),
    ("objective.norm_scale=", "η\u00a0=\u00a0"),
)
Numbers = Mapping[str, Any]  # a part of summary.json: see forms.py


@dataclass(frozen=True)
class Cell:
    """A row of the table of cells."""

    name: str
    is_baseline: bool
    seeds: int
    before: str
    final: str
    interval: str
    best: str
    blind: str
    reached: str  # how many seeds reached the target accuracy
    tokens_to_reach: str  # the mean over the seeds that reached it
    seconds_to_reach: str
    step: str


@dataclass(frozen=True)
class Difference:
    """A row of the table of differences from the baseline."""

    name: str
    seeds: int  # that the cell and the baseline both have
    difference: str
    over_seeds: str
    over_prompts: str
    by_seed: str
    only: str
    mcnemar: str


def short_name(name: str) -> str:
    """A cell's name with the paper's symbols for the settings that have one."""
    for setting, symbol in SYMBOLS:
        name = re.sub(rf"(?:^|(?<=,)){re.escape(setting)}", symbol, name)
    return re.sub(r",\s*", ", ", name)


def cell(each: Numbers, baseline: str) -> Cell:
    """The row of one cell of the summary."""
    return Cell(
        name=short_name(each["name"]),
        is_baseline=each["name"] == baseline,
        seeds=len(each["seeds"]),
        before=percent(each["before"]["mean"]),
        final=_with_sd(each["final"]),
        interval=_range(each["final"]),
        best=_with_sd(each["best"]),
        blind=_with_sd(each["blind"]),
        reached=f"{each['reached']} of {len(each['seeds'])}",
        tokens_to_reach=_mean(each["tokens_to_reach"], _whole),
        seconds_to_reach=_mean(each["seconds_to_reach"], _whole),
        step=seconds(each["step_seconds"]["mean"]),
    )


def difference(each: Numbers) -> Difference:
    """The row of one difference of the summary."""
    return Difference(
        name=short_name(each["name"]),
        seeds=len(each["seeds"]),
        difference=points(each["over_seeds"]["mean"]),
        over_seeds=ends(each["over_seeds"]),
        over_prompts=ends(each["over_prompts"]),
        by_seed="  ".join(map(points, each["by_seed"])),
        only=f"{each['only_cell']:,} / {each['only_baseline']:,}",
        mcnemar=f"{each['mcnemar']:.2g}",
    )


def by_kind(summary: Numbers) -> list[tuple[str, list[str]]]:
    """Rows by kind of question: a heading, the baseline's accuracy, each cell's difference in points. Empty where the
    summary has fewer than two kinds."""
    base = next((each for each in summary["cells"] if each["name"] == summary["baseline"]), {})
    kinds = base.get("by_kind", {})
    if len(kinds) < 2:
        return []
    rows = [
        ("Cell", list(kinds)),
        (short_name(base["name"]), [percent(each["mean"]) for each in kinds.values()]),
    ]
    for each in summary["differences"]:
        differences = each.get("by_kind", {})
        rows.append(
            (
                short_name(each["name"]),
                [points(differences[kind]["mean"]) if kind in differences else "–" for kind in kinds],
            )
        )
    return rows


def _whole(value: float) -> str:
    return number(value, 0)


def _mean(spread: Numbers | None, say: Callable[[float], str]) -> str:
    return "–" if spread is None else say(spread["mean"])


def _with_sd(value: Numbers | None) -> str:
    if value is None:
        return "–"
    spread = "" if value["sd"] is None else f" ± {number(100 * value['sd'], 1)}"
    return percent(value["mean"]) + spread


def _range(interval: Numbers) -> str:
    return (
        "–"
        if interval["low"] is None
        else f"{number(100 * interval['low'], 1)}–{number(100 * interval['high'], 1)}"
    )


def ends(interval: Numbers) -> str:
    """An interval of a difference, in points; a dash where there is none."""
    return "–" if interval["low"] is None else f"{points(interval['low'])} to {points(interval['high'])}"
