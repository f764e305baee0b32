"""The measurements of a finished run, read from its run folder."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vgs_mlx.ablation.jobs import Job, finished
from vgs_mlx.errors import Refusal
from vgs_mlx.runs import folder as run_folder
from vgs_mlx.runs.records import PUT_BACK


@dataclass(frozen=True)
class Measured:
    """One evaluation of a run."""

    step: int
    accuracy: float
    tokens: int  # sampled for training by then
    seconds: float  # of training steps by then, without evaluations and loading


@dataclass(frozen=True)
class Result:
    """A finished run."""

    cell: str
    seed: int
    evaluations: tuple[Measured, ...]  # the first is before training
    right: dict[str, int]  # id of each held-out row -> 0 or 1, after the last step
    blind: float | None  # accuracy without the picture after the last step, where it was measured
    by_kind: dict[str, float] = field(default_factory=dict)  # final accuracy by kind of question

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
    """The result of one finished run. Raises `Refusal` for a damaged one."""
    evaluations, steps, graded = (
        run_folder.rows(run / name)
        for name in (run_folder.EVALUATIONS, run_folder.METRICS, run_folder.ANSWERS)
    )
    if not evaluations or not graded:
        raise Refusal(f"{run}: no row in {run_folder.EVALUATIONS} or {run_folder.ANSWERS}: {PUT_BACK}")
    measured = tuple(
        Measured(
            step=each["step"],
            accuracy=each["accuracy"],
            tokens=sum(row.get("tokens") or 0 for row in steps if row["step"] <= each["step"]),
            seconds=sum(
                row.get("seconds", {}).get("step", 0.0) for row in steps if row["step"] <= each["step"]
            ),
        )
        for each in evaluations
    )
    right = dict(zip(graded[-1]["ids"], graded[-1]["right"], strict=True))
    last = evaluations[-1]
    by_kind = {kind: each["accuracy"] for kind, each in last.get("by_kind", {}).items()}
    return Result(cell, seed, measured, right, last.get("blind", {}).get("accuracy"), by_kind)
