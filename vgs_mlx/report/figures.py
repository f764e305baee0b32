"""The figures of a page: small multiples of one size, each a plain function from numbers to an <svg>."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vgs_mlx.figures import style
from vgs_mlx.figures.inline import embedded
from vgs_mlx.figures.palette import SERIES
from vgs_mlx.figures.series import Series, draw
from vgs_mlx.report.wording import percent, short

Size = tuple[int, int]  # CSS pixels
SMALL, WIDE = (288, 176), (400, 220)  # of a small multiple; of one of two in a row
PIXELS = 72  # in an inch of a figure
SMOOTHED_PART = 10  # the running mean is over a tenth of the steps
MOST_MARKED = 14  # a line with more points than this has no marks at them


@dataclass(frozen=True)
class Frame:
    """What stands around the lines of a figure."""

    x_label: str
    level: float | None = None  # a value to compare the lines with
    limits: tuple[float, float] | None = None
    shares: bool = False  # the values are shares, shown as per cent
    legend: bool = True  # where there are several lines
    size: Size = SMALL


@style.applied()
def curve(
    name: str, title: str, series: Series, skipped: Sequence[int] = (), *, shares: bool = False,
    measured: Series | None = None,
) -> Markup:  # fmt: skip
    """A quantity over steps: every step thin, the running mean thick, and a tick for each skipped step.

    `measured` adds values that were measured at some of the steps, as dots.
    """
    x, y = series.arrays()
    figure, axes = _axes(SMALL, "step")
    window = smoothing(len(y))
    dense = window > 1
    look = style.line(0)
    axes.plot(
        x, y, **look, alpha=0.35 if dense else 1, linewidth=0.9 if dense else style.LINE_WIDTH,
        marker="" if dense else ".",
    )  # fmt: skip
    if dense:
        axes.plot(x, running_mean(y, window), **look)
    if measured is not None:
        axes.plot(*measured.arrays(), "o", color=style.line(1)["color"], markersize=3.5)
    for step in skipped:
        axes.axvline(step, ymax=0.06, color=style.ALARM, linewidth=1.4)
    if shares:
        _in_percent(axes)
    return embedded(figure, name, title, described(series, shares=shares))


@style.applied()
def intervals(name: str, title: str, series: Series, last: int, *, shares: bool = True) -> Markup:
    """A few measurements over the steps 0 to `last`, with their intervals where they have one."""
    figure, axes = _axes(WIDE, "step")
    draw(axes, series, style.line(0), whiskers=True)
    axes.set_xlim(-0.02 * last, 1.02 * last)
    if shares:
        _in_percent(axes)
    return embedded(figure, name, title, described(series, shares=shares))


@style.applied()
def lines(name: str, title: str, series: Sequence[Series], frame: Frame) -> Markup:
    """Several lines, each with its own colour and dash, and their spreads as bands."""
    figure, axes = _axes(frame.size, frame.x_label)
    for place, each in enumerate(series):
        draw(axes, each, style.line(place), marked=len(each.x) <= MOST_MARKED)
    if frame.level is not None:
        axes.axhline(frame.level, **style.LEVEL)
    if frame.limits:
        axes.set_ylim(*frame.limits)
    if frame.shares:
        _in_percent(axes)
    if frame.legend and len(series) > 1:
        axes.legend()
    text = "; ".join(f"{each.label}: {described(each, shares=frame.shares)}" for each in series)
    return embedded(figure, name, title, text)


@style.applied()
def forest(
    name: str, title: str, rows: Sequence[tuple[str, float, float, float]], unit: str, edge: float = math.inf
) -> Markup:  # fmt: skip
    """Differences with their intervals around a line at 0, one to a row: label, value, low, high.

    An interval that extends beyond ±`edge` ends there in an arrow.
    """
    figure, axes = _axes((WIDE[0], 46 + 22 * len(rows)), unit)
    axes.axvline(0, **style.ZERO)
    color = style.line(0)["color"]
    for place, (_, value, low, high) in enumerate(rows):
        axes.plot([low, high], [place, place], color=color)
        axes.plot([value], [place], marker="o", markersize=5, color=color)
        for end, arrow in ((low, "<"), (high, ">")):
            if abs(end) > edge:
                axes.plot(
                    [math.copysign(edge, end)], [place], arrow, markersize=5, color=color, clip_on=False
                )
    if math.isfinite(edge):
        axes.set_xlim(-edge, edge)
    elif not any(end for _, *ends in rows for end in ends):  # nothing differs: an axis that looks like it
        axes.set_xlim(-1, 1)
    axes.set_yticks(range(len(rows)), [label for label, *_ in rows])
    axes.tick_params(axis="y", pad=8)  # room for arrows
    axes.set_ylim(len(rows) - 0.5, -0.5)
    text = "; ".join(
        f"{label}: {short(value)} ({short(low)} to {short(high)})" for label, value, low, high in rows
    )
    return embedded(figure, name, title, text)


def key(place: int) -> Markup:
    """A sample of line number `place` of `lines`, for a legend in the page."""
    dash = style.line(place)["linestyle"]
    pattern = "none" if dash == "-" else " ".join(f"{style.LINE_WIDTH * each:g}" for each in dash[1])
    return Markup(
        '<svg viewBox="0 0 32 8" width="32" height="8" aria-hidden="true"><line x2="32" y1="4" y2="4" '
        f'stroke="var(--{SERIES[place]})" stroke-width="{style.LINE_WIDTH}" stroke-dasharray="{pattern}"/></svg>'
    )


def smoothing(count: int) -> int:
    """The window of the running mean, an odd number of steps; 1 where there are too few steps to need one."""
    return 1 if count < 2 * SMOOTHED_PART else count // SMOOTHED_PART // 2 * 2 + 1


def running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """The centred mean over `window` values; over fewer at the ends and at gaps (NaN), and NaN where none is left."""
    kernel, known = np.ones(window), np.isfinite(values)
    half = window // 2
    sums = np.convolve(np.where(known, values, 0.0), kernel)[half : half + len(values)]
    counts = np.convolve(known.astype(float), kernel)[half : half + len(values)]
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def described(series: Series, *, shares: bool = False) -> str:
    """A line in words, for those who can't see it."""
    say = percent if shares else short
    known = [(x, y) for x, y in zip(series.x, series.y, strict=True) if y is not None]
    if not known:
        return "no values"
    lowest, highest = min(known, key=lambda each: each[1]), max(known, key=lambda each: each[1])
    first, last = known[0], known[-1]
    return (
        f"{say(first[1])} at {first[0]:g}, {say(last[1])} at {last[0]:g}; "
        f"lowest {say(lowest[1])} at {lowest[0]:g}, highest {say(highest[1])} at {highest[0]:g}"
    )


def _axes(size: Size, x_label: str) -> tuple[Figure, Axes]:
    figure = style.blank(size[0] / PIXELS, size[1] / PIXELS)
    axes = figure.add_subplot()
    axes.set_xlabel(x_label)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.margins(x=0.02, y=0.12)
    return figure, axes


def _in_percent(axes: Axes) -> None:
    axes.yaxis.set_major_formatter(lambda value, _: percent(value, 0))
