"""The page's figures: small multiples of one size, each a plain function from numbers to an <svg>."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from vgs_mlx.report.svg import COLOURS, SERIES, STYLE, drawing, embedded
from vgs_mlx.report.wording import percent, short

WIDTH, HEIGHT = 288, 176  # of a small multiple, CSS pixels
WIDE = (400, 220)  # of one of two in a row
DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)), (0, (3, 1)), (0, (8, 3)))
LINE = STYLE["lines.linewidth"]
SMOOTHED_PART = 10  # the running mean is over a tenth of the steps


@dataclass(frozen=True)
class Series:
    """One line of a figure."""

    label: str
    x: Sequence[float]
    y: Sequence[float | None]
    low: Sequence[float | None] | None = None  # the ends of an interval, or of a spread
    high: Sequence[float | None] | None = None


def curve(
    name: str, title: str, series: Series, skipped: Sequence[int] = (), *, shares: bool = False,
    measured: Series | None = None,
) -> Markup:  # fmt: skip
    """A quantity over steps: every step thin, the running mean thick, steps that were skipped as ticks.

    `measured`: what was measured at some steps, as dots.
    """
    x, y = _arrays(series)
    with matplotlib.rc_context(STYLE):
        figure = drawing(WIDTH, HEIGHT)
        axes = _axes(figure, "step")
        window = smoothing(len(y))
        dense = window > 1
        axes.plot(
            x, y, color=COLOURS["first"], alpha=0.35 if dense else 1, linewidth=0.9 if dense else 1.6,
            marker="" if dense else ".", markersize=4,
        )  # fmt: skip
        if dense:
            axes.plot(x, running_mean(y, window), color=COLOURS["first"])
        if measured is not None:
            axes.plot(*_arrays(measured), "o", color=COLOURS["second"], markersize=3.5)
        _mark_skipped(axes, skipped)
        if shares:
            _in_percent(axes)
        return embedded(figure, name, title, described(series, shares=shares))


def intervals(name: str, title: str, series: Series, last: int, *, shares: bool = True) -> Markup:
    """A few measurements over the steps 0 to `last`, with their intervals where they have one."""
    with matplotlib.rc_context(STYLE):
        figure = drawing(*WIDE)
        axes = _axes(figure, "step")
        _line(axes, series, 0, marked=True, whiskers=True)
        axes.set_xlim(-0.02 * last, 1.02 * last)
        if shares:
            _in_percent(axes)
        return embedded(figure, name, title, described(series, shares=shares))


def lines(
    name: str, title: str, series: Sequence[Series], x_label: str, *, level: float | None = None,
    limits: tuple[float, float] | None = None, shares: bool = False, legend: bool = True,
    size: tuple[int, int] = (WIDTH, HEIGHT),
) -> Markup:  # fmt: skip
    """Several lines, told apart by colour and dash, with their spreads as bands. `level` is a line to see them by."""
    with matplotlib.rc_context(STYLE):
        figure = drawing(*size)
        axes = _axes(figure, x_label)
        for place, each in enumerate(series):
            _line(axes, each, place, marked=len(each.x) < 15, whiskers=False)
        if level is not None:
            axes.axhline(level, color=COLOURS["muted"], linewidth=0.8, linestyle=DASHES[2], zorder=0)
        if limits:
            axes.set_ylim(*limits)
        if shares:
            _in_percent(axes)
        if legend and len(series) > 1:
            axes.legend(frameon=False, fontsize=10, handlelength=2.4, labelcolor=COLOURS["ink"])
        text = "; ".join(f"{each.label}: {described(each, shares=shares)}" for each in series)
        return embedded(figure, name, title, text)


def forest(
    name: str, title: str, rows: Sequence[tuple[str, float, float, float]], unit: str, edge: float = math.inf
) -> Markup:  # fmt: skip
    """Differences with their intervals, one a row (label, value, low, high), around a line at 0. An interval that goes
    beyond ±`edge` ends there in an arrow."""
    with matplotlib.rc_context(STYLE):
        figure = drawing(WIDE[0], 46 + 22 * len(rows))
        axes = _axes(figure, unit)
        axes.axvline(0, color=COLOURS["muted"], linewidth=0.8)
        for place, (_, value, low, high) in enumerate(rows):
            axes.plot([low, high], [place, place], color=COLOURS["first"], linewidth=1.6)
            axes.plot([value], [place], marker="o", markersize=5, color=COLOURS["first"])
            for end, arrow in ((low, "<"), (high, ">")):
                if abs(end) > edge:
                    axes.plot(
                        [math.copysign(edge, end)], [place], arrow, markersize=5, color=COLOURS["first"], clip_on=False
                    )  # fmt: skip
        if math.isfinite(edge):
            axes.set_xlim(-edge, edge)
        elif not any(end for _, *ends in rows for end in ends):  # nothing differs: an axis that looks like it
            axes.set_xlim(-1, 1)
        axes.set_yticks(range(len(rows)), [label for label, *_ in rows])
        axes.tick_params(axis="y", pad=8)  # room for arrows
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.spines["left"].set_visible(False)
        text = "; ".join(
            f"{label}: {short(value)} ({short(low)} to {short(high)})" for label, value, low, high in rows
        )
        return embedded(figure, name, title, text)


def key(place: int) -> Markup:
    """How the line at a place of `lines` looks, for a legend in the page."""
    colour, dash = list(COLOURS)[list(COLOURS.values()).index(SERIES[place])], DASHES[place]
    pattern = "none" if dash == "-" else " ".join(f"{LINE * each:g}" for each in dash[1])
    return Markup(
        '<svg viewBox="0 0 32 8" width="32" height="8" aria-hidden="true"><line x2="32" y1="4" y2="4" '
        f'stroke="var(--{colour})" stroke-width="{LINE}" stroke-dasharray="{pattern}"/></svg>'
    )


def smoothing(count: int) -> int:
    """The odd number of steps that a running mean is over; 1 where there are too few to need one."""
    return 1 if count < 2 * SMOOTHED_PART else count // SMOOTHED_PART // 2 * 2 + 1


def running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """The centred mean over `window` values, over fewer at the ends and at gaps (nan); nan where there is none."""
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


def _axes(figure, x_label: str) -> Axes:
    axes = figure.add_subplot()
    axes.set_xlabel(x_label, fontsize=10)
    axes.tick_params(labelsize=10)
    axes.grid(axis="y", color=COLOURS["rule"], linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.margins(x=0.02, y=0.12)
    return axes


def _line(axes: Axes, series: Series, place: int, *, marked: bool, whiskers: bool) -> None:
    x, y = _arrays(series)
    colour, dash = SERIES[place % len(SERIES)], DASHES[place % len(DASHES)]
    axes.plot(
        x, y, color=colour, linestyle=dash, label=series.label, marker="o" if marked else "", markersize=4
    )
    if series.low is None or series.high is None:
        return
    low, high = (np.array(ends, dtype=float) for ends in (series.low, series.high))
    if whiskers:
        axes.vlines(x, low, high, color=colour, linewidth=1.2)
    else:
        axes.fill_between(x, low, high, color=colour, alpha=0.13, linewidth=0)


def _in_percent(axes: Axes) -> None:
    axes.yaxis.set_major_formatter(lambda value, _: percent(value, 0))


def _mark_skipped(axes: Axes, steps: Sequence[int]) -> None:
    for step in steps:
        axes.axvline(step, ymax=0.06, color=COLOURS["alarm"], linewidth=1.4)


def _arrays(series: Series) -> tuple[np.ndarray, np.ndarray]:
    return np.array(series.x, dtype=float), np.array(series.y, dtype=float)
