"""The numbers of a grid: each cell over its seeds, and its paired difference from the baseline. Pure functions.

Two kinds of interval answer two questions. Over seeds (Student's t): what might another seed give on these prompts?
Over prompts (bootstrap): what might other prompts give for these seeds? Neither is corrected for the number of cells.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from vgs_mlx.ablation.grid import Settings
from vgs_mlx.ablation.results import Result
from vgs_mlx.evaluation.statistics import Interval, Spread, average_paired_bootstrap, mcnemar, spread


@dataclass(frozen=True)
class Point:
    """A cell's mean over seeds at one evaluation."""

    step: int
    tokens: float
    seconds: float
    accuracy: Spread


@dataclass(frozen=True)
class CellSummary:
    """A cell over its seeds."""

    name: str
    settings: Settings  # what it sets on the base recipe
    seeds: tuple[int, ...]
    before: Spread
    final: Spread
    best: Spread  # of all evaluations; chosen on the rows that it is measured on, so too optimistic
    blind: Spread | None
    reached: int  # how many seeds have an evaluation at or above the target accuracy
    tokens_to_reach: Spread | None  # over the seeds that reached it, at the first such evaluation
    seconds_to_reach: Spread | None
    step_seconds: Spread  # mean seconds of a step
    curve: tuple[Point, ...]
    by_kind: dict[str, Spread] = field(default_factory=dict)  # final accuracy by kind of question


@dataclass(frozen=True)
class Difference:
    """A cell's final accuracy minus the baseline's: same seeds, same held-out rows."""

    name: str
    seeds: tuple[int, ...]
    by_seed: tuple[float, ...]
    over_seeds: Spread  # paired t
    over_prompts: Interval  # paired bootstrap; a prompt's score is its mean over seeds that share prompts
    prompts: int
    only_cell: int  # (seed, prompt) pairs that only the cell answers right
    only_baseline: int
    mcnemar: float  # exact two-sided p over these pairs, as if the seeds of a prompt were independent
    by_kind: dict[str, Spread] = field(
        default_factory=dict
    )  # of the accuracy by kind of question, over seeds


@dataclass(frozen=True)
class Summary:
    """The numbers of a whole grid. Cells without a finished run are missing."""

    baseline: str
    reach: float | None  # the target accuracy; None where none is given and the baseline has no run
    cells: tuple[CellSummary, ...]
    differences: tuple[Difference, ...]
    unfinished: tuple[str, ...]  # the names of runs


def summarise(
    results: Sequence[Result],
    baseline: str,
    reach: float | None = None,
    unfinished: Sequence[str] = (),
    settings: Mapping[str, Settings] | None = None,
) -> Summary:
    """Summarise finished runs. `reach`, the target accuracy, is the baseline's mean final accuracy by default.
    `settings` says what each cell sets."""
    settings = settings or {}
    by_cell: dict[str, dict[int, Result]] = defaultdict(dict)
    for result in results:
        by_cell[result.cell][result.seed] = result
    base = by_cell.get(baseline, {})
    if reach is None and base:
        reach = float(np.mean([each.final for each in base.values()]))
    cells = tuple(
        _cell(name, settings.get(name, {}), [runs[seed] for seed in sorted(runs)], reach)
        for name, runs in by_cell.items()
    )
    pairs = {
        name: [
            (runs[seed], base[seed])
            for seed in sorted(runs.keys() & base.keys())
            if runs[seed].meets(base[seed])
        ]
        for name, runs in by_cell.items()
        if name != baseline
    }
    differences = tuple(difference(name, runs) for name, runs in pairs.items() if runs)
    return Summary(baseline, reach, cells, differences, tuple(unfinished))


def difference(name: str, pairs: Sequence[tuple[Result, Result]]) -> Difference:
    """The difference over (cell, baseline) runs, one pair for each seed. Only rows that both of a pair have count; each
    pair has some."""
    rows = [[row for row in ours.right if row in theirs.right] for ours, theirs in pairs]
    alike = all(set(each) == set(rows[0]) for each in rows)
    scores = [  # (rows, 2), one a seed
        np.array([(ours.right[row], theirs.right[row]) for row in (rows[0] if alike else own)])
        for own, (ours, theirs) in zip(rows, pairs, strict=True)
    ]
    sets = [np.mean(scores, axis=0)] if alike else scores
    by_seed = tuple(float(np.subtract(*each.mean(axis=0))) for each in scores)
    flat = np.concatenate(scores)
    return Difference(
        name=name,
        seeds=tuple(ours.seed for ours, _ in pairs),
        by_seed=by_seed,
        over_seeds=spread(by_seed),
        over_prompts=average_paired_bootstrap([(each[:, 0], each[:, 1]) for each in sets]),
        prompts=len(set().union(*rows)),
        only_cell=int(np.sum(flat[:, 0] > flat[:, 1])),
        only_baseline=int(np.sum(flat[:, 0] < flat[:, 1])),
        mcnemar=mcnemar(flat[:, 0], flat[:, 1]),
        by_kind=_by_kind(
            [
                {
                    kind: ours.by_kind[kind] - theirs.by_kind[kind]
                    for kind in ours.by_kind.keys() & theirs.by_kind
                }
                for ours, theirs in pairs
            ]
        ),
    )


def _cell(name: str, settings: Settings, runs: Sequence[Result], reach: float | None) -> CellSummary:
    blind = [run.blind for run in runs if run.blind is not None]
    reached = [
        next((each for each in run.evaluations if reach is not None and each.accuracy >= reach), None)
        for run in runs
    ]
    reached = [each for each in reached if each]
    return CellSummary(
        name=name,
        settings=settings,
        seeds=tuple(run.seed for run in runs),
        before=_accuracy([run.evaluations[0].accuracy for run in runs]),
        final=_accuracy([run.final for run in runs]),
        best=_accuracy([run.best for run in runs]),
        blind=_accuracy(blind) if blind else None,
        reached=len(reached),
        tokens_to_reach=spread([each.tokens for each in reached]) if reached else None,
        seconds_to_reach=spread([each.seconds for each in reached]) if reached else None,
        step_seconds=spread([run.evaluations[-1].seconds / run.evaluations[-1].step for run in runs]),
        curve=_curve(runs),
        by_kind=_by_kind([run.by_kind for run in runs]),
    )


def _by_kind(runs: Sequence[Mapping[str, float]]) -> dict[str, Spread]:
    """The spread over the runs, for each kind of question that all runs have."""
    kinds = sorted(set.intersection(*({*each} for each in runs)))
    return {kind: spread([each[kind] for each in runs]) for kind in kinds}


def _curve(runs: Sequence[Result]) -> tuple[Point, ...]:
    """The evaluations that all seeds have."""
    by_step: dict[int, list] = defaultdict(list)
    for run in runs:
        for each in run.evaluations:
            by_step[each.step].append(each)
    return tuple(
        Point(
            step,
            float(np.mean([each.tokens for each in measured])),
            float(np.mean([each.seconds for each in measured])),
            _accuracy([each.accuracy for each in measured]),
        )
        for step, measured in sorted(by_step.items())
        if len(measured) == len(runs)
    )


def _accuracy(values: Sequence[float]) -> Spread:
    """The spread of accuracies, its interval clipped to 0 to 1."""
    accuracy = spread(values)
    if accuracy.low is None:
        return accuracy
    return accuracy._replace(low=max(0.0, accuracy.low), high=min(1.0, accuracy.high))
