"""Figures of what the runs recorded over steps: terms by visual dependency (as Fig. 4), and η (as Fig. 7)."""

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vgs_mlx.ablation.watched import Trace
from vgs_mlx.figures import files, series, style
from vgs_mlx.figures.series import Series
from vgs_mlx.objective.binning import GROUPS

SHOWN = {"visual": "ℓ_vis, nats", "language": "ℓ_lang, nats"}
WIDE, NARROW = 9, 7  # inches
ROW = 0.19  # inches of a row of a legend
CHARACTERS, KEY = 14, 8  # of a legend: characters to an inch, and the width of a key in characters
Looks = Mapping[str, Mapping[str, Any]]  # of each cell's line


@style.applied()
def write(folder: Path, traces: Sequence[Trace]) -> list[str]:
    """Write terms-steps and norm-scale, each where it was recorded. Returns the names of the figures."""
    cells = list(dict.fromkeys(each.cell for each in traces))
    looks = {cell: style.line(place) for place, cell in enumerate(cells)}
    drawn = {}
    if any(each.quantity.endswith(tuple(SHOWN)) for each in traces):
        drawn["terms-steps"] = _terms
    if any(each.quantity == "η" for each in traces):
        drawn["norm-scale"] = _norm_scale
    for name, draw in drawn.items():
        files.save(draw(traces, looks), folder, name)
    return list(drawn)


def _terms(traces: Sequence[Trace], looks: Looks) -> Figure:
    figure = style.blank(WIDE, 5.4 + ROW * _rows(looks, WIDE))
    axes = figure.subplots(len(SHOWN), len(GROUPS), sharex=True, sharey=False, squeeze=False)
    for row, (term, label) in zip(axes, SHOWN.items(), strict=True):
        for panel, group in zip(row, GROUPS, strict=True):
            _panel(panel, [each for each in traces if each.quantity == f"{group} {term}"], looks)
            panel.set_title(f"{group} visual dependency")
        row[0].set_ylabel(label)
    for panel in axes[-1]:
        panel.set_xlabel("training step")
    _legend(figure, axes[0, 0], _columns(looks, WIDE))
    return figure


def _norm_scale(traces: Sequence[Trace], looks: Looks) -> Figure:
    figure = style.blank(NARROW, 3.8 + ROW * _rows(looks, NARROW))
    axes = figure.subplots()
    _panel(axes, [each for each in traces if each.quantity == "η"], looks)
    axes.set(xlabel="training step", ylabel="η, measured")
    _legend(figure, axes, _columns(looks, NARROW))
    return figure


def _panel(axes: Axes, traces: Sequence[Trace], looks: Looks) -> None:
    for each in traces:
        means = [spread.mean for spread in each.spreads]
        series.draw(axes, Series(each.cell, each.steps, means), looks[each.cell], marked=False)
    axes.set_ylim(0, None)


def _columns(names: Collection[str], width: float) -> int:
    """How many columns of these names fit into a legend of that width, inches."""
    return max(1, int(width * CHARACTERS / (max(map(len, names)) + KEY)))


def _rows(names: Collection[str], width: float) -> int:
    return math.ceil(len(names) / _columns(names, width))


def _legend(figure: Figure, axes: Axes, columns: int) -> None:
    figure.legend(
        *axes.get_legend_handles_labels(), title="means over the seeds that all cells have",
        title_fontsize=style.SMALL, alignment="left",
        loc="outside lower left", fontsize=style.SMALL, ncols=columns,
    )  # fmt: skip
