"""A run's time by phase, and its memory."""

from dataclasses import dataclass

import numpy as np

from vgs_mlx.report.record import Record
from vgs_mlx.report.wording import number, plural, seconds, short

PHASES = {
    "rollouts": "Sampling the student's answers",
    "teacher": "Teacher's forward passes",
    "student": "Student's forward and backward passes",
    "rest": "Steering, clipping, update",
}
TOTAL = "step"


@dataclass(frozen=True)
class Phase:
    """One row of the table."""

    name: str
    median: str  # of a step
    total: str
    share: float


@dataclass(frozen=True)
class Costs:
    """The table, and the sentence above it."""

    phases: tuple[Phase, ...]
    step: str
    total: str
    words: str


def costs(record: Record) -> Costs | None:
    """The costs of the recorded steps, without loading and evaluation; None where no step is recorded."""
    rows = [row for row in record.metrics if isinstance(row.get("seconds"), dict) and TOTAL in row["seconds"]]
    if not rows:
        return None
    names = dict.fromkeys([*PHASES, *(name for row in rows for name in row["seconds"] if name != TOTAL)])
    table = {name: np.array([row["seconds"].get(name, 0.0) for row in rows]) for name in names}
    steps = np.array([row["seconds"][TOTAL] for row in rows])
    phases = tuple(
        Phase(
            PHASES.get(name, name),
            seconds(float(np.median(values))),
            seconds(float(values.sum())),
            float(values.sum() / steps.sum()) if steps.sum() else 0.0,
        )
        for name, values in table.items()
        if values.any()
    )
    return Costs(phases, seconds(float(np.median(steps))), seconds(float(steps.sum())), _words(rows))


def _words(rows: list[dict]) -> str:
    """Steps, tokens and peak memory in a sentence."""
    tokens = sum(row.get("tokens") or 0 for row in rows)
    peaks = [row["peak_memory_gb"] for row in rows if row.get("peak_memory_gb") is not None]
    memory = f"; peak memory of a step {short(max(peaks))} GB" if peaks else ""
    caches = [row["cache_memory_gb"] for row in rows if row.get("cache_memory_gb") is not None]
    cache = f", and up to {short(max(caches))} GB of freed buffers in addition" if caches else ""
    return f"{plural(len(rows), 'step')}, {number(tokens, 0)} sampled tokens{memory}{cache}."
