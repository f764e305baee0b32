"""A grid's figures, as SVG and PNG: accuracy over steps and over seconds, differences from the baseline."""

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vgs_mlx.ablation.summary import CellSummary, Difference, Summary
from vgs_mlx.figures import files, series, style
from vgs_mlx.figures.series import Series

TOGETHER = 5  # with more cells than this, each gets a panel of its own beside the baseline
PANELS = 3  # in a row


@style.applied()
def write(folder: Path, summary: Summary) -> None:
    """Write accuracy-steps, accuracy-seconds and, where cells can be compared, differences."""
    files.save(_curves(summary, "step", "training step"), folder, "accuracy-steps")
    files.save(_curves(summary, "seconds", "seconds of training"), folder, "accuracy-seconds")
    if summary.differences:
        files.save(_differences(summary), folder, "differences")


def _curves(summary: Summary, along: str, label: str) -> Figure:
    """Means over seeds with a band of one standard deviation. `along`: step or seconds."""
    baseline = [cell for cell in summary.cells if cell.name == summary.baseline]
    others = [cell for cell in summary.cells if cell.name != summary.baseline]
    if len(summary.cells) <= TOGETHER or not baseline:
        panels = [[*baseline, *others]]
        figure = style.blank(7, 4.3 + 0.22 * len(summary.cells))
    else:
        panels = [[*baseline, other] for other in others]
        figure = style.blank(9, 0.9 + 2.3 * math.ceil(len(panels) / PANELS))
    columns = min(len(panels), PANELS)
    axes = figure.subplots(math.ceil(len(panels) / columns), columns, sharex=True, sharey=True, squeeze=False)
    for panel, cells in zip(axes.flat, panels, strict=False):
        _panel(panel, cells, summary, along)
        if len(panels) > 1:
            panel.set_title(_broken(_label(cells[-1])), fontsize=style.SMALL)
    for empty in axes.flat[len(panels) :]:
        empty.set_axis_off()
    for panel in axes.flat[max(0, len(panels) - columns) : len(panels)]:  # the lowest of each column
        panel.set_xlabel(label)
        panel.tick_params(labelbottom=True)
    for panel in axes[:, 0]:
        panel.set_ylabel("accuracy on held-out prompts" if columns == 1 else "accuracy")
    _legend(figure, axes.flat[0], only_common=len(panels) > 1)
    return figure


def _panel(axes: Axes, cells: Sequence[CellSummary], summary: Summary, along: str) -> None:
    others = 0
    for cell in cells:
        is_baseline = cell.name == summary.baseline
        series.draw(axes, _series(cell, along), style.BASELINE if is_baseline else style.line(others))
        others += not is_baseline
    if summary.reach is not None:
        axes.axhline(summary.reach, **style.LEVEL, label=f"to reach: {summary.reach:.3f}")


def _series(cell: CellSummary, along: str) -> Series:
    places = [point.step if along == "step" else point.seconds for point in cell.curve]
    means = [point.accuracy.mean for point in cell.curve]
    spreads = [point.accuracy.sd or 0.0 for point in cell.curve]
    low = [mean - sd for mean, sd in zip(means, spreads, strict=True)]
    high = [mean + sd for mean, sd in zip(means, spreads, strict=True)]
    return Series(_label(cell), places, means, low, high)


def _legend(figure: Figure, axes: Axes, *, only_common: bool) -> None:
    """Below the axes, since names can be long. `only_common` omits the cells that are the titles of panels."""
    handles, labels = axes.get_legend_handles_labels()
    common = [0, *range(2, len(labels))] if only_common else range(len(labels))
    figure.legend(
        [handles[place] for place in common], [labels[place] for place in common],
        title="mean over seeds; band: ± 1 standard deviation", title_fontsize=style.SMALL, alignment="left",
        loc="outside lower left", fontsize=style.SMALL,
    )  # fmt: skip


def _differences(summary: Summary) -> Figure:
    """One row for each cell: the mean with its bootstrap interval over prompts, and a small mark for each seed."""
    rows = summary.differences
    names = [_broken(_label(each)) for each in rows]
    lines = sum(max(2, name.count("\n") + 1) for name in names)
    figure = style.blank(7, 1.6 + 0.2 * lines)
    axes = figure.add_subplot()
    for place, each in enumerate(rows):
        _difference(axes, place, each)
    axes.axvline(0, **style.ZERO)
    axes.set_yticks(range(len(rows)), names, fontsize=style.SMALL)
    axes.set_ylim(len(rows) - 0.5, -0.6)
    axes.set_xlabel(f"final accuracy minus that of {summary.baseline}")
    handles, labels = axes.get_legend_handles_labels()
    shown = dict(zip(labels, handles, strict=True))
    figure.legend(shown.values(), shown.keys(), loc="outside lower left", fontsize=style.SMALL)
    return figure


def _difference(axes: Axes, place: int, each: Difference) -> None:
    mean, low, high = each.over_prompts
    # the quantiles of a bootstrap needn't lie around the mean
    sides = [[max(0.0, mean - low)], [max(0.0, high - mean)]]
    axes.errorbar(
        [mean], [place], xerr=sides, fmt="o", color=style.INK, capsize=3, markersize=5,
        label="mean, with its 95 % paired bootstrap interval over prompts",
    )  # fmt: skip
    if len(each.by_seed) > 1:
        heights = [place - 0.25] * len(each.by_seed)
        axes.plot(
            each.by_seed,
            heights,
            "|",
            color=style.line(0)["color"],
            markersize=6,
            markeredgewidth=1.4,
            label="each seed",
        )


def _label(cell: CellSummary | Difference) -> str:
    return f"{cell.name} ({len(cell.seeds)} seed{'s' if len(cell.seeds) > 1 else ''})"


def _broken(name: str) -> str:
    return name.replace(",", ",\n")
