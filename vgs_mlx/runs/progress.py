"""The state of a run between two steps, besides its weights and its optimiser."""

from dataclasses import dataclass, field


@dataclass
class Progress:
    """What a run carries from step to step, besides weights and optimiser. Every checkpoint holds all of it."""

    step: int = 0  # steps done
    norm_scales: list[float] = field(default_factory=list)  # the last measured ηs, oldest first
    skipped_in_a_row: int = 0  # steps with an update that was skipped for non-finite values
    best_accuracy: float | None = None
    best_step: int | None = None
