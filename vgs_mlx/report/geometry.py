"""The geometry of the gradients by visual dependency, from the geometry.json of a later `vgs-mlx analyze`."""

from collections.abc import Iterator, Mapping, Sequence
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
WORDS = 8  # of a bin
TERMS = {"standard": "L_std", "visual": "L_vis", "language": "L_lang"}
SIZES = {"norm": "Gradient norm by bin", "mean": "Mean of each term by bin, nats"}


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
    sizes = tuple((title, _sizes(name, title, bins)) for name, title in SIZES.items())
    return Geometry(tuple(_angles(bins)), sizes, tuple(map(_bin_row, bins)), (found or {}).get("batches", 1))


def _angles(bins: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, Markup]]:
    """The three panels, on one scale: the angle over bins, with its spread over batches and a line at 90°."""
    series = {name: _series(title, bins, name) for name, title in ANGLES.items()}
    top = max([100.0, *(end for each in series.values() for end in each.high or ())])
    for name, each in series.items():
        title = f"Angle between {each.label} in degrees, over VDS bins"
        yield (
            each.label,
            figures.lines(name.replace("_", "-"), title, [each], "VDS bin", level=90, limits=(0, 1.05 * top)),
        )


def _sizes(prefix: str, title: str, bins: Sequence[Mapping[str, Any]]) -> Markup:
    series = [_series(symbol, bins, f"{prefix}_{term}") for term, symbol in TERMS.items()]
    return figures.lines(f"geometry-{prefix}", title, series, "VDS bin", size=figures.WIDE)


def _series(label: str, bins: Sequence[Mapping[str, Any]], name: str) -> Series:
    """A quantity over the bins that have it: a plain number, or a mean with its spread."""
    found = [(each["bin"], each.get(name)) for each in bins]
    pairs = [(place, value if isinstance(value, Mapping) else {"mean": value}) for place, value in found]
    known = [
        (place, value["mean"], value.get("sd") or 0.0) for place, value in pairs if value["mean"] is not None
    ]
    return Series(
        label,
        [place for place, _, _ in known],
        [mean for _, mean, _ in known],
        [mean - spread for _, mean, spread in known],
        [mean + spread for _, mean, spread in known],
    )


def _bin_row(each: Mapping[str, Any]) -> BinRow:
    frequent = each.get("frequent", ())[:WORDS]
    words = ", ".join(f"{word.strip() or repr(word)} ({count:,})" for word, count in frequent)
    low, high = (number(each.get(f"vds_{end}"), 3) for end in ("low", "high"))
    return BinRow(each["bin"], f"{low}–{high}", f"{each.get('tokens', 0):,}", words)
