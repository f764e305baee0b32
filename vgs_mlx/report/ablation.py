"""An ablation's summary, ready for its page: a sentence, tables and figures."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from vgs_mlx.ablation import grid
from vgs_mlx.ablation.grid_file import GRID
from vgs_mlx.errors import Refusal
from vgs_mlx.figures.series import Series
from vgs_mlx.recipe import file as recipe_file
from vgs_mlx.report import figures, forms, terms
from vgs_mlx.report.cells import Cell, Difference, Numbers, by_kind, cell, difference, ends, short_name
from vgs_mlx.report.figures import Frame
from vgs_mlx.report.headline import Headline
from vgs_mlx.report.record import read_object
from vgs_mlx.report.terms import Terms
from vgs_mlx.report.wording import THIN, percent, plural, points
from vgs_mlx.runs import folder as run_folder
from vgs_mlx.runs.folder import RECIPE

SUMMARY = Path(grid.SUMMARY) / "summary.json"
CELLS_SHOWN = 4  # whose students answer the examples
ASKED_ALIKE = ("seed", "student.path", "teacher.", "data.", "rollout.max_completion_length")
"""Keys, and sections of keys, that runs must share to be asked the same questions."""


@dataclass(frozen=True)
class Ablation:
    """The summary, ready for the page."""

    headline: Headline
    baseline: str
    named: bool  # whether the names of the cells say everything that they set
    sets: tuple[tuple[str, str], ...]  # a cell's name and what it sets, where the names don't say it
    reach: str  # the target accuracy; "" for none
    cells: tuple[Cell, ...]
    differences: tuple[Difference, ...]
    by_kind: list[tuple[str, list[str]]]  # rows: a heading, the baseline, each cell's difference
    curves: tuple[tuple[str, Markup], ...]
    forest: Markup | None
    terms: Terms | None
    unfinished: tuple[str, ...]
    damaged: tuple[str, ...]


def is_ablation(folder: Path) -> bool:
    """Whether `vgs-mlx ablate` made the folder."""
    return (folder / GRID).is_file()


def read(folder: Path) -> Ablation:
    """The ablation in a folder. Raises `Refusal` where it has no readable summary yet."""
    summary, damaged = _summary(folder), []
    watched_terms = terms.read(folder, summary["cells"], summary["baseline"], damaged)
    return _ablation(summary, watched_terms, damaged)


def _summary(folder: Path) -> Numbers:
    """The summary of the ablation in a folder. Raises `Refusal`."""
    unreadable: list[str] = []
    summary = read_object(folder / SUMMARY, forms.SUMMARY, unreadable)
    if unreadable:
        fix = f"rewrite it with `vgs-mlx ablate --summary {folder}`"
        raise Refusal(f"{folder / SUMMARY}: damaged, or from another version of vgs-mlx: {fix}")
    if not summary:
        raise Refusal(
            f"{folder}: no summary of this ablation yet ({SUMMARY}): let one of its runs finish, then "
            f"`vgs-mlx ablate --summary {folder}`"
        )
    return summary


def runs(folder: Path) -> tuple[list[tuple[str, Path]], list[str]]:
    """One run of each of the first cells, as (name, folder). The baseline's comes first, and the others have its first
    seed where they can. Also the names of the cells that can't be asked the same questions."""
    summary = _summary(folder)
    order = sorted(summary["cells"], key=lambda cell: cell["name"] != summary["baseline"])
    there = []
    for each in order:
        seed = min(each["seeds"], key=lambda seed: seed != order[0]["seeds"][0])
        run = folder / each["name"] / f"seed-{seed}"
        if (run / RECIPE).is_file():
            there.append((short_name(each["name"]), run))
    alike = [each for each in there if _asked(each[1]) == _asked(there[0][1])]
    return alike[:CELLS_SHOWN], [each[0] for each in there if each not in alike]


def _asked(run: Path) -> dict[str, Any]:
    """The settings that determine which questions a run is asked. Raises `Refusal`."""
    flat = recipe_file.flat(run_folder.opened(run))
    return {key: value for key, value in flat.items() if key.startswith(ASKED_ALIKE)}


def _ablation(summary: Numbers, watched_terms: Terms | None, damaged: Sequence[str]) -> Ablation:
    differences, sets = summary["differences"], _sets(summary["cells"])
    return Ablation(
        headline=headline(summary),
        baseline=short_name(summary["baseline"]),
        named=not sets and all("settings" in each for each in summary["cells"]),
        sets=sets,
        reach="" if summary["reach"] is None else percent(summary["reach"]),
        cells=tuple(cell(each, summary["baseline"]) for each in summary["cells"]),
        differences=tuple(map(difference, differences)),
        by_kind=by_kind(summary),
        curves=tuple(_curves(summary)),
        forest=_forest(summary) if differences else None,
        terms=watched_terms,
        unfinished=tuple(summary["unfinished"]),
        damaged=tuple(damaged),
    )


def _sets(cells: Sequence[Numbers]) -> tuple[tuple[str, str], ...]:
    """What the cells set, where their names don't say it. Summaries of older versions don't know it."""
    said = [(each["name"], grid.unnamed_settings(each["name"], each.get("settings", {}))) for each in cells]
    shown = [(short_name(name), short_name(sets)) for name, sets in said if sets]
    return tuple((name, sets) for name, sets in shown if name != sets)


def headline(summary: Numbers) -> Headline:
    """All cells against the baseline: the largest difference, and how many intervals exclude 0."""
    baseline, differences = short_name(summary["baseline"]), summary["differences"]
    if not differences:
        return Headline(
            f"There is nothing to compare with the baseline, {baseline}, yet.",
            "Only runs with the same seed are compared.",
        )
    if not any(each["over_seeds"]["mean"] or any(each["by_seed"]) for each in differences):
        return Headline(f"No cell differs in accuracy from the baseline, {baseline}.", _verdict(differences))
    top = max(differences, key=lambda each: abs(each["over_seeds"]["mean"]))
    name, value = short_name(top["name"]), points(top["over_seeds"]["mean"])
    over, seeds = _shown_interval(top), len(top["seeds"])
    alike = "one seed" if seeds == 1 else f"{seeds} seeds with the same difference"
    basis = f"over {seeds} seeds" if over is top["over_seeds"] else f"over prompts, {alike}"
    if len(differences) > 1:
        lead = f"Of {len(differences)} cells, {name} is furthest from the baseline, {baseline}"
    else:
        lead = f"{name} against the baseline, {baseline}"
    return Headline(
        f"{lead}: {value} points of final accuracy, 95{THIN}% interval {ends(over)} ({basis}).",
        _verdict(differences),
    )


def _verdict(differences: Sequence[Numbers]) -> str:
    """How many intervals over seeds exclude 0: the largest of many differences may be large by chance."""
    known = [each["over_seeds"] for each in differences if each["over_seeds"]["low"] is not None]
    if not known:
        one = all(len(each["seeds"]) == 1 for each in differences)
        which = "one seed per cell" if one else "seeds that all give the same"
        return f"With {which}, nothing can be said about what another seed would give."
    above, below = sum(each["low"] > 0 for each in known), sum(each["high"] < 0 for each in known)
    if len(differences) == 1:
        place = "above 0" if above else "below 0" if below else ""
        return f"The interval lies {place}." if place else "The interval contains 0: no difference is shown."
    return (
        f"Of {plural(len(known), 'interval')} over seeds, {above} {'lies' if above == 1 else 'lie'} above 0 and "
        f"{below} below. There is no correction for the number of cells: of twenty cells without an effect, "
        "one shows a difference by chance."
    )


def _curves(summary: Numbers) -> list[tuple[str, Markup]]:
    """A small multiple for each cell, the baseline dashed in each, all on one scale."""
    series = {each["name"]: _series(each) for each in summary["cells"]}
    values = [value for each in series.values() for value in (*each.low, *each.high)]
    if not values:
        return []
    margin = 0.06 * (max(values) - min(values)) or 0.01
    frame = Frame("step", limits=(min(values) - margin, max(values) + margin), shares=True, legend=False)
    baseline = series.get(summary["baseline"])
    drawn = []
    for place, each in enumerate(series.values()):
        both = [each] if each is baseline or baseline is None else [each, baseline]
        svg = figures.lines(f"cell-{place}", f"Accuracy over steps: {each.label}", both, frame)
        drawn.append((each.label + (" (the baseline)" if each is baseline else ""), svg))
    return drawn


def _series(cell: Numbers) -> Series:
    points_ = cell["curve"]
    means = [each["accuracy"]["mean"] for each in points_]
    spreads = [each["accuracy"]["sd"] or 0.0 for each in points_]
    low = [mean - spread for mean, spread in zip(means, spreads, strict=True)]
    high = [mean + spread for mean, spread in zip(means, spreads, strict=True)]
    return Series(short_name(cell["name"]), [each["step"] for each in points_], means, low, high)


def _shown_interval(each: Numbers) -> Numbers:
    """A difference's interval over seeds; over prompts where there is only one seed or all seeds give the same."""
    return each["over_seeds"] if each["over_seeds"]["low"] is not None else each["over_prompts"]


def _forest(summary: Numbers) -> Markup:
    rows = []
    for each in summary["differences"]:
        over = _shown_interval(each)
        numbers = (each["over_seeds"]["mean"], over["low"], over["high"])
        rows.append((short_name(each["name"]), *(100 * value for value in numbers)))
    edge = _edge(summary["differences"], rows)
    return figures.forest("differences", "Differences to the baseline", rows, "points of accuracy", edge)


def _edge(differences: Sequence[Numbers], rows: Sequence[tuple[str, float, float, float]]) -> float:
    """Where the axis of the forest ends, in points. Student's t makes an interval over two seeds so wide that the
    others can't be read on its scale. Infinite, for matplotlib to choose, where there are no others or all fit."""
    two = [len(each["seeds"]) == 2 and each["over_seeds"]["low"] is not None for each in differences]
    reaches = [max(map(abs, ends)) for _, *ends in rows]
    others = [reach for reach, is_two in zip(reaches, two, strict=True) if not is_two]
    edge = 1.1 * max([*others, *(abs(value) for _, value, *_ in rows)])
    return edge if others and edge and max(reaches) > edge else math.inf
