"""Figures of the gradients' geometry: angles by bin (Fig. 3's three panels), gradient norms and mean terms by bin."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

ANGLES = {
    "angle_lang_vis": "language and visual",
    "angle_std_vis": "standard and visual",
    "angle_std_lang": "standard and language",
}
COLOURS = {
    "standard": "#444444",
    "visual": "#0072B2",
    "language": "#D55E00",
}  # told apart by the colour-blind
Bins = Sequence[Mapping[str, Any]]


def draw(found: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write geometry-angles and geometry-sizes, each as .svg and .png, into the folder; their paths."""
    bins = found["bins"]
    figures = {"geometry-angles": _angles(bins), "geometry-sizes": _sizes(bins)}
    paths = []
    for name, figure in figures.items():
        for suffix in ("svg", "png"):
            paths.append(folder / f"{name}.{suffix}")
            figure.savefig(paths[-1], dpi=150, bbox_inches="tight", metadata=_undated(suffix))
        plt.close(figure)
    return paths


def _undated(suffix: str) -> dict[str, None]:
    return {"Date": None} if suffix == "svg" else {}


def _angles(bins: Bins) -> plt.Figure:
    figure, axes = plt.subplots(1, 3, figsize=(10, 3), sharey=True, layout="constrained")
    for panel, (name, title) in zip(axes, ANGLES.items(), strict=True):
        _with_spread(panel, bins, name, "#0072B2")
        panel.axhline(90, color="#999999", linewidth=0.8, linestyle="--")
        panel.set_title(f"∇{title.replace(' and ', ' and ∇')}", fontsize=10)
        _dress(panel, bins)
    axes[0].set_ylabel("angle, degrees")
    return figure


def _sizes(bins: Bins) -> plt.Figure:
    figure, (terms, norms) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
    for term, colour in COLOURS.items():
        values = [_or_nan(each[f"mean_{term}"]) for each in bins]
        terms.plot(range(len(bins)), values, marker="o", markersize=3, color=colour, label=term)
        _with_spread(norms, bins, f"norm_{term}", colour)
    terms.set_ylabel("mean of the term, nats")
    norms.set_ylabel("norm of its gradient")
    terms.legend(frameon=False, fontsize=9)
    for panel in (terms, norms):
        _dress(panel, bins)
        panel.set_ylim(bottom=0)
    return figure


def _dress(panel: Axes, bins: Bins) -> None:
    panel.set_xlabel("bin of visual dependency")
    panel.set_xticks(range(len(bins)))
    panel.spines[["top", "right"]].set_visible(False)


def _with_spread(panel: Axes, bins: Bins, name: str, colour: str) -> None:
    """Means with the standard deviation over batches as a band."""
    means = [_or_nan(each[name]["mean"]) for each in bins]
    spreads = [each[name]["sd"] or 0.0 for each in bins]
    low = [mean - spread for mean, spread in zip(means, spreads, strict=True)]
    high = [mean + spread for mean, spread in zip(means, spreads, strict=True)]
    panel.plot(range(len(bins)), means, marker="o", markersize=3, color=colour)
    panel.fill_between(range(len(bins)), low, high, color=colour, alpha=0.2, linewidth=0)


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value
