"""One line of a figure with its spread, as drawn in every figure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes


@dataclass(frozen=True)
class Series:
    """A quantity over x. None marks a gap."""

    label: str
    x: Sequence[float]
    y: Sequence[float | None]
    low: Sequence[float | None] | None = None  # the ends of an interval, or of a spread
    high: Sequence[float | None] | None = None

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """x and y, NaN in the gaps."""
        return _array(self.x), _array(self.y)


def draw(
    axes: Axes, series: Series, look: Mapping[str, Any], *, marked: bool = True, whiskers: bool = False
) -> None:
    """The line in the look of `style.line`; its spread is a band, or whiskers."""
    x, y = series.arrays()
    axes.plot(x, y, label=series.label, marker="o" if marked else "", **look)
    if series.low is None or series.high is None:
        return
    low, high = _array(series.low), _array(series.high)
    if whiskers:
        axes.vlines(x, low, high, color=look["color"], linewidth=1.2)
    else:
        axes.fill_between(x, low, high, color=look["color"], alpha=0.15, linewidth=0)


def _array(values: Sequence[float | None]) -> np.ndarray:
    return np.array(values, dtype=float)
