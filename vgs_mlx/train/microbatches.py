"""Splits an update batch into micro-batches by size and positions, and counts positions with shared prompts."""

import itertools
from collections.abc import Collection, Sequence

import numpy as np

from vgs_mlx.types import Rollout, Side


def split(
    rollouts: Sequence[Rollout], size: int, most_tokens: int | None, *, shares_prefix: bool
) -> list[list[Rollout]]:
    """Micro-batches of consecutive rollouts: at most `size` of them, and `most_tokens` positions in the picture view.

    A rollout longer than `most_tokens` gets its own micro-batch. `shares_prefix`: the prompt is run once for all its
    completions (models/prefix.py).
    """
    batches: list[list[Rollout]] = []
    for rollout in rollouts:
        grown = [*batches[-1], rollout] if batches else []
        fits = most_tokens is None or _fed(grown, shares_prefix) <= most_tokens
        if grown and len(grown) <= size and fits:
            batches[-1] = grown
        else:
            batches.append([rollout])
    return batches


def _fed(rollouts: Sequence[Rollout], shares_prefix: bool) -> int:
    """Positions of the view with the picture in one forward pass. Separate rows are padded to the longest."""
    views = [rollout.prompt.student["with_image"] for rollout in rollouts]
    if shares_prefix and len({view.key for view in views}) < len(views):
        return positions(rollouts, ["with_image"], shares_prefix=True)
    lengths = [len(view.ids) + len(rollout.completion) for view, rollout in zip(views, rollouts, strict=True)]
    return len(lengths) * max(lengths, default=0)


def windows(batches: Sequence[Sequence[Rollout]]) -> list[slice]:
    """Each micro-batch's tokens as a slice of the whole batch."""
    ends = np.cumsum([0, *(sum(len(rollout.completion) for rollout in batch) for batch in batches)])
    return [slice(*pair) for pair in itertools.pairwise(ends.tolist())]


def positions(
    rollouts: Sequence[Rollout], views: Collection[str], *, shares_prefix: bool, side: Side = "student"
) -> int:
    """Positions of one forward pass over the rollouts in all of the views, without padding."""
    total = 0
    for view in views:
        before: bytes | None = None
        for rollout in rollouts:
            prompt = rollout.prompt.views(side)[view]
            shared = shares_prefix and prompt.key == before
            total += len(rollout.completion) + (0 if shared else len(prompt.ids))
            before = prompt.key
    return total
