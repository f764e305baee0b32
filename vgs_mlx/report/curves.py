"""The figures of a run's page, each with its title and its caption."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from vgs_mlx.figures.series import Series
from vgs_mlx.objective.binning import GROUPS
from vgs_mlx.report import figures
from vgs_mlx.report.figures import Frame
from vgs_mlx.report.record import Record
from vgs_mlx.report.wording import percent, short
from vgs_mlx.train.metrics import METRICS

TITLES = {
    "loss": "Loss",
    "loss_standard": "Standard loss",
    "loss_visual": "Visual grounding loss",
    "loss_language": "Language prior loss",
    "loss_preservation": "Preservation loss",
    "visual_dependency_score": "Visual dependency (VDS)",
    "norm_scale": "Norm scale η",
    "entropy": "Entropy",
    "reward": "Reward",
    "right_share": "Share of right answers",
    "completion_length": "Completion length",
    "cosine_standard_steering": "cos(∇L_std, ∇L_vis)",
}
MEANINGS = METRICS | {
    "loss_preservation": "the language prior loss summed over the preserved tokens, divided by all tokens",
    "norm_scale": "gives the steered gradient the norm of the standard one; dots: measured values",
    "completion_length": "mean tokens of a sampled completion",
    "cosine_standard_steering": "1: same direction; 0: right angle; shown at the steps where it was measured",
}
SHARES = ("right_share",)
TERMS = {"standard": "Standard loss", "visual": "Visual grounding loss", "language": "Language prior loss"}


@dataclass(frozen=True)
class Panel:
    """One small multiple."""

    title: str
    change: str  # from the first value to the last, "1.40 → 0.83"
    meaning: str
    svg: Markup


def results(record: Record) -> list[Panel]:
    """Accuracy on held-out prompts over steps and, where the data set describes its scenes, scene F1."""
    rows = record.evaluations
    if not rows:
        return []
    steps, last = [row["step"] for row in rows], max(record.step, record.recipe.train.steps)
    accuracy = Series(
        "accuracy", steps, _column(rows, "accuracy"), _column(rows, "low"), _column(rows, "high")
    )
    meaning = f"Greedy, on {rows[-1]['prompts']:,} held-out prompts; bars: 95\u202f% intervals."
    svg = figures.intervals("accuracy", "Accuracy over steps", accuracy, last)
    panels = [Panel("Accuracy", _change(accuracy.y, percent), meaning, svg)]
    if any("scene_f1" in row for row in rows):
        scene = Series("scene F1", steps, _column(rows, "scene_f1"))
        svg = figures.intervals("scene-f1", "Scene F1 over steps", scene, last, shares=False)
        meaning = (
            "F1 of the objects that the student describes: how many exist, and how many of those that exist."
        )
        panels.append(Panel("Scene F1", _change(scene.y, short), meaning, svg))
    return panels


def training(record: Record) -> list[Panel]:
    """A panel for each recorded loss term, then VDS, η, entropy, the share of right answers and the length."""
    names = dict.fromkeys(
        [*TITLES, *(name for row in record.metrics for name in row if name.startswith("loss_"))]
    )
    losses_first = sorted(names, key=lambda name: not name.startswith("loss"))
    return [
        _panel(record, name)
        for name in losses_first
        if any(isinstance(row.get(name), int | float) for row in record.metrics)
        and not (name == "loss" and _same(record, "loss", "loss_standard"))
    ]


def watched(record: Record) -> list[tuple[str, Markup]]:
    """Each term on fixed held-out rollouts over steps, in the low, middle and high bins of VDS (Fig. 4)."""
    rows = record.terms
    drawings = []
    for term, title in TERMS.items():
        series = [
            Series(group, [row["step"] for row in rows], [(row.get(group) or {}).get(term) for row in rows])
            for group in GROUPS
        ]
        if any(value is not None for each in series for value in each.y):
            svg = figures.lines(
                f"watched-{term}", f"{title} on fixed held-out answers", series, Frame("step")
            )
            drawings.append((title, svg))
    return drawings


def _same(record: Record, one: str, other: str) -> bool:
    return all(row.get(one) == row.get(other) for row in record.metrics)


def _panel(record: Record, name: str) -> Panel:
    rows = record.metrics
    if name == "cosine_standard_steering":  # measured at some steps only
        rows = tuple(row for row in rows if row.get(name) is not None)
    series = Series(name, [row["step"] for row in rows], _column(rows, name))
    title = TITLES.get(name, name.replace("_", " ").capitalize())
    svg = figures.curve(
        name.replace("_", "-"), f"{title} over steps", series, record.skipped, shares=name in SHARES,
        measured=_measured(record) if name == "norm_scale" else None,
    )  # fmt: skip
    meaning = MEANINGS.get(name, "")
    return Panel(title, _change(series.y, percent if name in SHARES else short), _sentence(meaning), svg)


def _measured(record: Record) -> Series:
    """η at the steps where it was measured."""
    rows = [row for row in record.metrics if row.get("norm_scale_exact") is not None]
    return Series("measured", [row["step"] for row in rows], _column(rows, "norm_scale_exact"))


def _column(rows: Sequence[dict[str, Any]], name: str) -> list[float | None]:
    return [row.get(name) for row in rows]


def _change(values: Sequence[float | None], say: Callable[[float | None], str]) -> str:
    known = [value for value in values if value is not None]
    return f"{say(known[0])} → {say(known[-1])}" if len(known) > 1 else say(known[0]) if known else ""


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}." if text else ""
