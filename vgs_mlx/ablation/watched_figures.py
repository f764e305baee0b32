"""Figures of what happened inside the runs: terms by visual dependency (as Fig. 4) and η (as Fig. 7), over steps."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vgs_mlx.ablation.figures import COLOURS, STYLE, save
from vgs_mlx.ablation.watched import Trace
from vgs_mlx.objective.binning import GROUPS

SHOWN = {"visual": "ℓ_vis, nats", "language": "ℓ_lang, nats"}
LINES = [(style, colour) for style in ("-", "--", ":") for colour in ("black", *COLOURS)]


def write(folder: Path, traces: Sequence[Trace]) -> list[str]:
    """terms-steps and norm-scale, each where there is something to show; their names."""
    cells = list(dict.fromkeys(each.cell for each in traces))
    lines = dict(zip(cells, LINES, strict=False))
    drawn = {}
    if any(each.quantity.endswith(tuple(SHOWN)) for each in traces):
        drawn["terms-steps"] = _terms
    if any(each.quantity == "η" for each in traces):
        drawn["norm-scale"] = _norm_scale
    with matplotlib.rc_context(STYLE):
        for name, draw in drawn.items():
            save(draw(traces, lines), folder / name)
    return list(drawn)


def _terms(traces: Sequence[Trace], lines: dict) -> Figure:
    figure = Figure(figsize=(9, 5.4 + 0.12 * len(lines)), layout="constrained")
    axes = figure.subplots(len(SHOWN), len(GROUPS), sharex=True, sharey=False, squeeze=False)
    for row, (term, label) in zip(axes, SHOWN.items(), strict=True):
        for panel, group in zip(row, GROUPS, strict=True):
            _panel(panel, [each for each in traces if each.quantity == f"{group} {term}"], lines)
            panel.set_title(f"{group} visual dependency", fontsize=9)
        row[0].set_ylabel(label, fontsize=9)
    for panel in axes[-1]:
        panel.set_xlabel("training step", fontsize=9)
    _legend(figure, axes[0, 0])
    return figure


def _norm_scale(traces: Sequence[Trace], lines: dict) -> Figure:
    figure = Figure(figsize=(7, 3.6 + 0.12 * len(lines)), layout="constrained")
    axes = figure.subplots()
    _panel(axes, [each for each in traces if each.quantity == "η"], lines)
    axes.set(xlabel="training step", ylabel="η, measured")
    _legend(figure, axes)
    return figure


def _panel(axes: Axes, traces: Sequence[Trace], lines: dict) -> None:
    for each in traces:
        style, colour = lines.get(each.cell, ("-", "0.6"))
        means = [spread.mean for spread in each.spreads]
        axes.plot(each.steps, means, style, color=colour, linewidth=1.3, label=each.cell)
    axes.set_ylim(0, None)


def _legend(figure: Figure, axes: Axes) -> None:
    figure.legend(
        *axes.get_legend_handles_labels(), title="means over the seeds that all cells have",
        title_fontsize=8, alignment="left",
        loc="outside lower left", fontsize=8, frameon=False, ncols=3,
    )  # fmt: skip
