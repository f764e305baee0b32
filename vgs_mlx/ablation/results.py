"""What a finished run of a grid measured, read from its run folder."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vgs_mlx.ablation.jobs import Job, finished
from vgs_mlx.train import run_folder


@dataclass(frozen=True)
class Measured:
    """One evaluation of a run."""

    step: int
    accuracy: float
    tokens: int  # sampled for training by then
    seconds: float  # of training steps by then; evaluations and loading don't count


@dataclass(frozen=True)
class Result:
    """A finished run."""

    cell: str
    seed: int
    evaluations: tuple[Measured, ...]  # the first is before training
    right: dict[str, int]  # id of each held-out row -> 0 or 1, after the last step
    blind: float | None  # accuracy without the picture after the last step, where it was asked
    by_kind: dict[str, float] = field(default_factory=dict)  # final accuracy by the question's kind

    @property
    def final(self) -> float:
        return self.evaluations[-1].accuracy

    @property
    def best(self) -> float:
        return max(each.accuracy for each in self.evaluations)

    def meets(self, other: "Result") -> bool:
        """Whether both were measured on some of the same rows."""
        return not self.right.keys().isdisjoint(other.right)


def split(jobs: Sequence[Job]) -> tuple[list[Job], list[Job]]:
    """The runs that have finished, and the others."""
    done = [job for job in jobs if finished(job)]
    return done, [job for job in jobs if job not in done]


def read(run: Path, cell: str, seed: int) -> Result:
    """The result of one finished run."""
    evaluations = run_folder.rows(run / run_folder.EVALUATIONS)
    steps = run_folder.rows(run / run_folder.METRICS)
    measured = tuple(
        Measured(
            step=each["step"],
            accuracy=each["accuracy"],
            tokens=sum(row["tokens"] for row in steps if row["step"] <= each["step"]),
            seconds=sum(row["seconds"]["step"] for row in steps if row["step"] <= each["step"]),
        )
        for each in evaluations
    )
    (*_, graded) = run_folder.rows(run / run_folder.ANSWERS)
    right = dict(zip(graded["ids"], graded["right"], strict=True))
    last = evaluations[-1]
    by_kind = {kind: each["accuracy"] for kind, each in last.get("by_kind", {}).items()}
    return Result(cell, seed, measured, right, last.get("blind", {}).get("accuracy"), by_kind)
