"""The geometry of the gradients by visual dependency, from the geometry.json of a later `vgs-mlx analyze`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from vgs_mlx.report import figures
from vgs_mlx.report.figures import Series
from vgs_mlx.report.wording import number

ANGLES = {
    "angle_lang_vis": "∇L_lang and ∇L_vis",
    "angle_std_vis": "∇L_std and ∇L_vis",
    "angle_std_lang": "∇L_std and ∇L_lang",
}
TERMS = {"standard": "L_std", "visual": "L_vis", "language": "L_lang"}
PANELS = {"norm": "Gradient norm by bin", "mean": "Mean of each term by bin, nats"}


@dataclass(frozen=True)
class BinRow:
    """One bin in the table."""

    bin: int
    vds: str
    tokens: str
    words: str


@dataclass(frozen=True)
class Geometry:
    """What the section holds."""

    angles: tuple[tuple[str, Markup], ...]
    sizes: tuple[tuple[str, Markup], ...]
    bins: tuple[BinRow, ...]
    batches: int


def geometry(found: Mapping[str, Any] | None) -> Geometry | None:
    """The section, or None where `analyze` has not been run or left no bins."""
    bins: Sequence[Mapping[str, Any]] = (found or {}).get("bins") or ()
    if not bins:
        return None
    angles = tuple((title, _angle(name, title, bins)) for name, title in ANGLES.items())
    sizes = tuple((title, _sizes(name, title, bins)) for name, title in PANELS.items())
    return Geometry(angles, sizes, tuple(map(_bin_row, bins)), (found or {}).get("batches", 1))


def _angle(name: str, title: str, bins: Sequence[Mapping[str, Any]]) -> Markup:
    """One of the three panels: the angle over bins, with its spread over batches and a line at 90°."""
    known = [each for each in bins if (each.get(name) or {}).get("mean") is not None]
    means = [each[name]["mean"] for each in known]
    spreads = [each[name].get("sd") or 0.0 for each in known]
    series = Series(
        title,
        [each["bin"] for each in known],
        means,
        [mean - spread for mean, spread in zip(means, spreads, strict=True)],
        [mean + spread for mean, spread in zip(means, spreads, strict=True)],
    )
    top = max([100.0, *(series.high or ())])
    return figures.lines(
        name.replace("_", "-"), f"Angle between {title} in degrees, over VDS bins", [series], "VDS bin", level=90,
        limits=(0, 1.05 * top),
    )  # fmt: skip


def _sizes(prefix: str, title: str, bins: Sequence[Mapping[str, Any]]) -> Markup:
    numbers = [each["bin"] for each in bins]
    series = [
        Series(symbol, numbers, [each.get(f"{prefix}_{term}") for each in bins])
        for term, symbol in TERMS.items()
    ]
    return figures.lines(f"geometry-{prefix}", title, series, "VDS bin", size=figures.WIDE)


def _bin_row(each: Mapping[str, Any]) -> BinRow:
    words = ", ".join(f"{word.strip() or repr(word)} ({count:,})" for word, count in each.get("frequent", ()))
    low, high = (number(each.get(f"vds_{end}"), 3) for end in ("low", "high"))
    return BinRow(each["bin"], f"{low}–{high}", f"{each.get('tokens', 0):,}", words)
