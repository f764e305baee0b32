"""The panels of the gradients' geometry: angles by bin (Fig. 3's three), gradient norms, mean terms; and their files.

What a panel holds is decided here; the page of `vgs-mlx report` draws the same panels in its own colours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vgs_mlx.analysis.geometry import PAIRS
from vgs_mlx.runs import folder as run_folder

SYMBOLS = {"standard": "L_std", "visual": "L_vis", "language": "L_lang"}
SIZES = {"norm": "Gradient norm by bin", "mean": "Mean of each term by bin, nats"}
COLOURS = ("#0072B2", "#D55E00", "#444444")  # told apart by the colour-blind
Bins = Sequence[Mapping[str, Any]]


class Line(NamedTuple):
    """A quantity over the bins, None in those where it could not be measured."""

    label: str
    bins: list[int]
    means: list[float | None]
    low: list[float | None]  # a standard deviation over the batches below the mean
    high: list[float | None]


@dataclass(frozen=True)
class Panel:
    """One pair of axes. `name` is one word."""

    name: str
    title: str
    lines: tuple[Line, ...]
    level: float | None = None  # a line to see them by
    limits: tuple[float, float] | None = None


def angles(bins: Bins) -> list[Panel]:
    """The angle between each two terms' gradients, all on one scale, with a line at 90°."""
    found = {}
    for name, (left, right) in PAIRS.items():
        found[name] = _line(f"∇{SYMBOLS[left]} and ∇{SYMBOLS[right]}", bins, name)
    top = max([100.0, *(end for line in found.values() for end in line.high if end is not None)])
    return [
        Panel(name.replace("_", "-"), f"Angle of {line.label}, degrees", (line,), 90, (0, 1.05 * top))
        for name, line in found.items()
    ]


def sizes(bins: Bins) -> list[Panel]:
    """The norms of the three terms' gradients, and the means of the terms."""
    return [
        Panel(
            f"geometry-{kind}",
            title,
            tuple(_line(symbol, bins, f"{kind}_{term}") for term, symbol in SYMBOLS.items()),
        )
        for kind, title in SIZES.items()
    ]


def draw(found: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write geometry-angles and geometry-sizes, each as .svg and .png, into the folder; their paths."""
    rows = {"geometry-angles": (angles(found["bins"]), 10), "geometry-sizes": (sizes(found["bins"]), 8)}
    paths = []
    for name, (panels, width) in rows.items():
        figure = Figure(figsize=(width, 3), layout="constrained")
        for axes, panel in zip(figure.subplots(1, len(panels)), panels, strict=True):
            _fill(axes, panel)
        for suffix, metadata in (("svg", {"Date": None}), ("png", {})):
            paths.append(folder / f"{name}.{suffix}")
            with run_folder.whole(paths[-1]) as beside:
                figure.savefig(beside, format=suffix, dpi=150, bbox_inches="tight", metadata=metadata)
    return paths


def _line(label: str, bins: Bins, name: str) -> Line:
    """Of a plain number in each bin, or a mean with its spread."""
    values = [each.get(name) for each in bins]
    spreads = [value if isinstance(value, Mapping) else {"mean": value} for value in values]
    means = [each["mean"] for each in spreads]
    low, high = (
        [None if each["mean"] is None else each["mean"] + side * (each.get("sd") or 0.0) for each in spreads]
        for side in (-1, 1)
    )
    return Line(label, [each["bin"] for each in bins], means, low, high)


def _fill(axes: Axes, panel: Panel) -> None:
    for line, colour in zip(panel.lines, COLOURS, strict=False):
        means, low, high = (
            [float("nan") if value is None else value for value in values]
            for values in (line.means, line.low, line.high)
        )
        axes.plot(line.bins, means, marker="o", markersize=3, color=colour, label=line.label)
        axes.fill_between(line.bins, low, high, color=colour, alpha=0.2, linewidth=0)
    if panel.level is not None:
        axes.axhline(panel.level, color="#999999", linewidth=0.8, linestyle="--")
    axes.set_title(panel.title, fontsize=10)
    axes.set_ylim(*(panel.limits or (0, None)))
    axes.set_xlabel("bin of visual dependency")
    axes.set_xticks(panel.lines[0].bins)
    axes.spines[["top", "right"]].set_visible(False)
    if len(panel.lines) > 1:
        axes.legend(frameon=False, fontsize=9)
