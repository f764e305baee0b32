"""Where a run stands between two steps, beside its weights and its optimiser."""

from dataclasses import dataclass, field


@dataclass
class Progress:
    """What a run carries from step to step, beside weights and optimiser. All of it is in a checkpoint."""

    step: int = 0  # steps done
    norm_scales: list[float] = field(default_factory=list)  # the last measured ηs, oldest first
    skipped_in_a_row: int = 0  # steps with an update that was skipped for non-finite values
    best_accuracy: float | None = None
    best_step: int | None = None
