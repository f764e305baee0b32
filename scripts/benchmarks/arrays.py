"""Arrays of chunk x vocabulary that the loss phase holds, measured for every objective beside what a plan counts."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import mlx.core as mx
import numpy as np

from vgs_mlx.objective.chunked import Chunking, Head, Heads, States, score
from vgs_mlx.objective.objectives import OBJECTIVES, Objective
from vgs_mlx.objective.terms import Taken
from vgs_mlx.objective.visual import Views
from vgs_mlx.objective.weightings import Batch
from vgs_mlx.planning import loss
from vgs_mlx.recipe.objective import measures_norm_scale, measuring, resolved
from vgs_mlx.recipe.options import Recipe
from vgs_mlx.train.addends import Wanted, of_objective

ROWS, WIDTH, CHUNK, POSITIONS = 16_384, 64, 16, 64


@dataclass(frozen=True)
class Case:
    """An objective as a step or a look computes it."""

    name: str
    objective: Objective
    separate: bool = False  # a tree for each role
    terms_only: bool = False  # no gradients


def cases() -> Iterator[Case]:
    """Every objective alone, where η is measured or watched, mixed with grpo, and a look at the terms."""
    base = Recipe()
    for name in OBJECTIVES:
        plain = replace(base, objective=replace(base.objective, name=name, norm_scale=0.5))
        yield Case(name, resolved(plain))
        watched = replace(base, objective=replace(base.objective, name=name, watch_norm_scale=True))
        if measures_norm_scale(watched):
            yield Case(f"{name}, η measured", measuring(watched), separate=True)
    for name in (each for each in OBJECTIVES if each not in ("sft", "grpo")):
        mixed = replace(base.objective, name="grpo", mix=0.3, mix_with=name)
        yield Case(f"grpo and {name}", resolved(replace(base, objective=mixed)))
    yield Case("a look", resolved(base), terms_only=True)


def planned(case: Case, *, sliced: bool) -> int:
    """What a plan counts, the head being frozen."""
    pulled = 0 if case.terms_only else loss.pulls(case.objective, separate=case.separate, head_trains=False)
    return loss.loss_arrays(case.objective, pulled, sliced=sliced)


def measured(case: Case, *, sliced: bool) -> float:
    """What the loss phase adds to memory, in such arrays. `sliced`: the heads have rows that are not ids."""
    ids = ROWS - 267 * sliced
    weights = [mx.random.normal((ROWS, WIDTH)) * WIDTH**-0.5 for _ in range(2)]
    heads = [Head(lambda _, states, weight=weight: (states @ weight.T)[..., :ids], {}) for weight in weights]
    student, teacher = (
        Views(**{view: mx.random.normal((POSITIONS, WIDTH)) for view in views})
        for views in (case.objective.student_views, case.objective.teacher_views)
    )
    taken = Taken(mx.zeros(POSITIONS, dtype=mx.int32), mx.zeros(POSITIONS), mx.ones(POSITIONS))
    support = mx.ones(ids, dtype=mx.bool_)
    mx.eval(weights, student, teacher, taken, support)
    addends = _wanted(case).addends
    for _ in range(2):  # the first compiles
        mx.clear_cache()
        mx.reset_peak_memory()
        before = mx.get_active_memory()
        score(States(student, teacher), Heads(*heads, support), taken, addends, Chunking(CHUNK))
    return (mx.get_peak_memory() - before) / (4 * CHUNK * ids)


def _wanted(case: Case) -> Wanted:
    if case.terms_only:
        return Wanted({}, lambda scored: {})
    batch = Batch(np.full(POSITIONS, 1 / POSITIONS), [POSITIONS], [0], {}, 2.0)
    return of_objective(case.objective, 2.0, 0.01, case.separate, batch)
