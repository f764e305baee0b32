"""The figures of the gradients' geometry: angles by bin (the three of Fig. 3), gradient norms, mean terms.

The page of `vgs-mlx report` draws the same panels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from vgs_mlx.analysis.geometry import PAIRS
from vgs_mlx.figures import files, series, style
from vgs_mlx.figures.series import Series

SYMBOLS = {"standard": "L_std", "visual": "L_vis", "language": "L_lang"}
SIZES = {"norm": "Gradient norm by bin", "mean": "Mean of each term by bin, nats"}
Bins = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Panel:
    """One pair of axes. `name` is one word."""

    name: str
    title: str
    lines: tuple[Series, ...]  # over the bins; band: ± one standard deviation over the batches
    level: float | None = None  # a value to compare the lines with
    limits: tuple[float, float] | None = None


def angles(bins: Bins) -> list[Panel]:
    """The angle between the gradients of each two terms, on one scale, with a line at 90°."""
    lines = {}
    for name, (left, right) in PAIRS.items():
        lines[name] = _line(f"∇{SYMBOLS[left]} and ∇{SYMBOLS[right]}", bins, name)
    top = max([100.0, *(end for line in lines.values() for end in line.high if end is not None)])
    return [
        Panel(name.replace("_", "-"), f"Angle of {line.label}, degrees", (line,), 90, (0, 1.05 * top))
        for name, line in lines.items()
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


@style.applied()
def draw(geometry: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write geometry-angles and geometry-sizes, each as .svg and .png, into the folder. Returns their paths."""
    rows = {"geometry-angles": (angles(geometry["bins"]), 10), "geometry-sizes": (sizes(geometry["bins"]), 8)}
    paths = []
    for name, (panels, width) in rows.items():
        figure = style.blank(width, 3)
        for axes, panel in zip(figure.subplots(1, len(panels)), panels, strict=True):
            _fill(axes, panel)
        paths += files.save(figure, folder, name)
    return paths


def _line(label: str, bins: Bins, name: str) -> Series:
    """A quantity over the bins: a plain number in each, or a mean with its spread."""
    values = [each.get(name) for each in bins]
    spreads = [value if isinstance(value, Mapping) else {"mean": value} for value in values]
    means = [each["mean"] for each in spreads]
    low, high = (
        [None if each["mean"] is None else each["mean"] + side * (each.get("sd") or 0.0) for each in spreads]
        for side in (-1, 1)
    )
    return Series(label, [each["bin"] for each in bins], means, low, high)


def _fill(axes: Axes, panel: Panel) -> None:
    for place, line in enumerate(panel.lines):
        series.draw(axes, line, style.line(place))
    if panel.level is not None:
        axes.axhline(panel.level, **style.LEVEL)
    axes.set_title(panel.title)
    axes.set_ylim(*(panel.limits or (0, None)))
    axes.set_xlabel("bin of visual dependency")
    axes.set_xticks(panel.lines[0].x)
    if len(panel.lines) > 1:
        axes.legend()
