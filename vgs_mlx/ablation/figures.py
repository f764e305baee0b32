"""A grid's figures, each as SVG and PNG: accuracy over steps and over seconds, differences to the baseline."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vgs_mlx.ablation.summary import CellSummary, Difference, Summary
from vgs_mlx.runs import folder as run_folder

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # the colour-blind tell them apart; black: baseline
TOGETHER = len(COLOURS) + 1  # more cells than this, and each gets a panel of its own beside the baseline
PANELS = 3  # in a row
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "vgs-mlx",
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def write(folder: Path, summary: Summary) -> None:
    """accuracy-steps, accuracy-seconds and, where something can be compared, differences."""
    with matplotlib.rc_context(STYLE):
        save(_curves(summary, "step", "training step"), folder / "accuracy-steps")
        save(_curves(summary, "seconds", "seconds of training"), folder / "accuracy-seconds")
        if summary.differences:
            save(_differences(summary), folder / "differences")


def _curves(summary: Summary, along: str, label: str) -> Figure:
    """Means over seeds with a band of one standard deviation. `along`: step or seconds."""
    baseline = [cell for cell in summary.cells if cell.name == summary.baseline]
    others = [cell for cell in summary.cells if cell.name != summary.baseline]
    if len(summary.cells) <= TOGETHER or not baseline:
        panels = [[*baseline, *others]]
        figure = Figure(figsize=(7, 4.3 + 0.22 * len(summary.cells)), layout="constrained")
    else:
        panels = [[*baseline, other] for other in others]
        figure = Figure(figsize=(9, 0.9 + 2.3 * math.ceil(len(panels) / PANELS)), layout="constrained")
    columns = min(len(panels), PANELS)
    axes = figure.subplots(math.ceil(len(panels) / columns), columns, sharex=True, sharey=True, squeeze=False)
    for panel, cells in zip(axes.flat, panels, strict=False):
        _panel(panel, cells, summary, along)
        if len(panels) > 1:
            panel.set_title(_broken(_label(cells[-1])), fontsize=8)
    for empty in axes.flat[len(panels) :]:
        empty.set_axis_off()
    for panel in axes.flat[max(0, len(panels) - columns) : len(panels)]:  # the lowest of each column
        panel.set_xlabel(label, fontsize=9)
        panel.tick_params(labelbottom=True)
    for panel in axes[:, 0]:
        panel.set_ylabel("accuracy on held-out prompts" if columns == 1 else "accuracy", fontsize=9)
    _legend(figure, axes.flat[0], only_common=len(panels) > 1)
    return figure


def _panel(axes: Axes, cells: Sequence[CellSummary], summary: Summary, along: str) -> None:
    colours = iter(COLOURS)
    for cell in cells:
        colour = "black" if cell.name == summary.baseline else next(colours, "0.5")
        places = [point.step if along == "step" else point.seconds for point in cell.curve]
        means = [point.accuracy.mean for point in cell.curve]
        spreads = [point.accuracy.sd or 0.0 for point in cell.curve]
        axes.plot(places, means, color=colour, marker="o", markersize=3, linewidth=1.6, label=_label(cell))
        low = [mean - sd for mean, sd in zip(means, spreads, strict=True)]
        high = [mean + sd for mean, sd in zip(means, spreads, strict=True)]
        axes.fill_between(places, low, high, color=colour, alpha=0.15, linewidth=0)
    if summary.reach is not None:
        axes.axhline(
            summary.reach, color="0.6", linewidth=0.8, zorder=0, label=f"to reach: {summary.reach:.3f}"
        )


def _legend(figure: Figure, axes: Axes, *, only_common: bool) -> None:
    """Below the axes, since names can be long. `only_common`: what all panels show, the others having titles."""
    handles, labels = axes.get_legend_handles_labels()
    common = [0, *range(2, len(labels))] if only_common else range(len(labels))
    figure.legend(
        [handles[place] for place in common], [labels[place] for place in common],
        title="mean over seeds; band: ± 1 standard deviation", title_fontsize=8, alignment="left",
        loc="outside lower left", fontsize=8, frameon=False,
    )  # fmt: skip


def _differences(summary: Summary) -> Figure:
    """One row a cell: the mean with its bootstrap interval over prompts, and each seed as a small mark."""
    rows = summary.differences
    names = [_broken(_label(each)) for each in rows]
    lines = sum(max(2, name.count("\n") + 1) for name in names)
    figure = Figure(figsize=(7, 1.6 + 0.2 * lines), layout="constrained")
    axes = figure.add_subplot()
    for place, each in enumerate(rows):
        _difference(axes, place, each)
    axes.axvline(0, color="0.6", linewidth=0.8, zorder=0)
    axes.set_yticks(range(len(rows)), names, fontsize=8)
    axes.set_ylim(len(rows) - 0.5, -0.6)
    axes.set_xlabel(f"final accuracy minus that of {summary.baseline}", fontsize=9)
    handles, labels = axes.get_legend_handles_labels()
    shown = dict(zip(labels, handles, strict=True))
    figure.legend(shown.values(), shown.keys(), loc="outside lower left", fontsize=8, frameon=False)
    return figure


def _difference(axes: Axes, place: int, each: Difference) -> None:
    mean, low, high = each.over_prompts
    # the quantiles of a bootstrap needn't lie around the mean
    sides = [[max(0.0, mean - low)], [max(0.0, high - mean)]]
    axes.errorbar(
        [mean], [place], xerr=sides, fmt="o", color="black", capsize=3, markersize=5,
        label="mean, with its 95 % paired bootstrap interval over prompts",
    )  # fmt: skip
    if len(each.by_seed) > 1:
        heights = [place - 0.25] * len(each.by_seed)
        axes.plot(
            each.by_seed, heights, "|", color=COLOURS[0], markersize=6, markeredgewidth=1.4, label="each seed"
        )


def _label(cell: CellSummary | Difference) -> str:
    return f"{cell.name} ({len(cell.seeds)} seed{'s' if len(cell.seeds) > 1 else ''})"


def _broken(name: str) -> str:
    return name.replace(",", ",\n")


def save(figure: Figure, file: Path) -> None:
    """Write `file`.svg and `file`.png, the same bytes for the same figure."""
    formats: Iterable[tuple[str, dict]] = ((".svg", {"metadata": {"Date": None}}), (".png", {"dpi": 150}))
    for suffix, options in formats:
        with run_folder.whole(file.with_name(file.name + suffix)) as beside:
            figure.savefig(beside, format=suffix[1:], **options)
