"""The geometry of the gradients by visual dependency, from the geometry.json that `vgs-mlx analyze` adds to a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from vgs_mlx.analysis import figures as geometry_figures
from vgs_mlx.analysis.figures import Panel
from vgs_mlx.report import figures
from vgs_mlx.report.figures import Frame, Size
from vgs_mlx.report.wording import number

WORDS = 8  # of the most frequent, listed for each bin


@dataclass(frozen=True)
class BinRow:
    """One bin in the table."""

    bin: int
    vds: str
    tokens: str
    words: str


@dataclass(frozen=True)
class Geometry:
    """The contents of the section."""

    angles: tuple[tuple[str, Markup], ...]
    sizes: tuple[tuple[str, Markup], ...]
    bins: tuple[BinRow, ...]
    batches: int


def geometry(file: Mapping[str, Any] | None) -> Geometry | None:
    """The section; None where `analyze` has not been run, or found no bins."""
    bins: Sequence[Mapping[str, Any]] = (file or {}).get("bins") or ()
    if not bins:
        return None
    angles = _drawn(geometry_figures.angles(bins), figures.SMALL)
    sizes = _drawn(geometry_figures.sizes(bins), figures.WIDE)
    return Geometry(angles, sizes, tuple(map(_bin_row, bins)), (file or {}).get("batches", 1))


def _drawn(panels: Sequence[Panel], size: Size) -> tuple[tuple[str, Markup], ...]:
    frames = [Frame("VDS bin", panel.level, panel.limits, size=size) for panel in panels]
    return tuple(
        (panel.title, figures.lines(panel.name, panel.title, panel.lines, frame))
        for panel, frame in zip(panels, frames, strict=True)
    )


def _bin_row(each: Mapping[str, Any]) -> BinRow:
    frequent = each.get("frequent", ())[:WORDS]
    words = ", ".join(f"{word.strip() or repr(word)} ({count:,})" for word, count in frequent)
    low, high = (number(each.get(f"vds_{end}"), 3) for end in ("low", "high"))
    return BinRow(each["bin"], f"{low}–{high}", f"{each.get('tokens', 0):,}", words)
