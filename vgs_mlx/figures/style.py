"""The style of every figure: fonts, sizes, axes, and the colours and dashes of lines."""

from contextlib import AbstractContextManager
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from vgs_mlx.figures.palette import LIGHT, SERIES

TEXT, SMALL = 10, 8  # points; small is for notes, and for names that may be long
LINE_WIDTH = 1.6
DASHES: tuple[Any, ...] = (
    "-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)), (0, (3, 1)), (0, (8, 3)),
)  # fmt: skip
INK, ALARM = LIGHT["ink"], LIGHT["alarm"]
BASELINE = {"color": INK, "linestyle": "-"}
ZERO = {"color": LIGHT["muted"], "linewidth": 0.8, "zorder": 0}
LEVEL = ZERO | {"linestyle": DASHES[2]}  # a value to compare the lines with
STYLE = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "vgs-mlx",  # the same figure, the same bytes
    "font.size": TEXT,
    "figure.facecolor": "none",
    "figure.constrained_layout.use": True,
    "text.parse_math": False,  # a name with dollar signs is not a formula
    "text.color": INK,
    "axes.facecolor": "none",
    "axes.edgecolor": LIGHT["rule"],
    "axes.labelcolor": LIGHT["muted"],
    "axes.labelsize": TEXT,
    "axes.titlesize": TEXT,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.unicode_minus": True,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": LIGHT["rule"],
    "grid.linewidth": 0.6,
    "xtick.color": LIGHT["rule"],
    "ytick.color": LIGHT["rule"],
    "xtick.labelcolor": LIGHT["muted"],
    "ytick.labelcolor": LIGHT["muted"],
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "lines.linewidth": LINE_WIDTH,
    "lines.markersize": 4,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.fontsize": TEXT,
    "legend.handlelength": 2.4,
    "legend.labelcolor": INK,
}


def applied() -> AbstractContextManager[None]:
    """A context, or a decorator, in which figures are made and saved in the style."""
    return matplotlib.rc_context(STYLE)


def blank(width: float, height: float) -> Figure:
    """An empty figure, in inches. In a page an inch is 72 CSS pixels."""
    return Figure(figsize=(width, height))


def line(place: int) -> dict[str, Any]:
    """The colour and dash of a figure's line number `place`, from 0. No two of the first 36 look the same."""
    turn, colour = divmod(place, len(SERIES))
    return {"color": LIGHT[SERIES[colour]], "linestyle": DASHES[(colour + turn) % len(DASHES)]}
