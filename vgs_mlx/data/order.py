"""The order in which a run visits its rows: a pure function of the step, so a run can resume anywhere."""

import functools

import numpy as np


def rows_for_step(step: int, prompts_per_step: int, count: int, seed: int) -> list[int]:
    """The row numbers of one step's prompts, for steps counted from 0.

    Each epoch is a shuffle of all `count` rows by (seed, epoch). The epochs lie end to end and steps take them piece
    by piece, so a step may reach into the next epoch, and no row comes twice within an epoch. With
    `prompts_per_step` = `count`, every step is one epoch.
    """
    if step < 0 or prompts_per_step < 1 or count < 1 or seed < 0:
        raise ValueError(f"no such step: {step=}, {prompts_per_step=}, {count=}, {seed=}")
    first = step * prompts_per_step
    places = (divmod(place, count) for place in range(first, first + prompts_per_step))
    return [int(_shuffled(count, seed, epoch)[place]) for epoch, place in places]


@functools.lru_cache(maxsize=2)
def _shuffled(count: int, seed: int, epoch: int) -> np.ndarray:
    """(count,) int64: the rows in the order of one epoch."""
    return np.random.default_rng((seed, epoch)).permutation(count)
