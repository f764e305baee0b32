"""The gradient of each loss term's mean over groups of tokens, one group after another.

Both models run once over all rollouts; the loss phase and the backward passes then run for the tokens of one group
at a time. A token belongs to one group, so the loss phase costs what it costs for all tokens together; and a head
that trains, whose gradients are as large as itself, has those of one group only.
"""

from collections.abc import Iterator, Sequence

import mlx.core as mx
import numpy as np

from vgs_mlx.models.base import LoadedModel
from vgs_mlx.objective.chunked import Chunking, Heads, Scored, States, score
from vgs_mlx.objective.objectives import ALL_TERMS, Coefficients
from vgs_mlx.objective.steering import Tree
from vgs_mlx.objective.terms import DIAGNOSTICS, Taken
from vgs_mlx.objective.visual import Views
from vgs_mlx.recipe.options import Recipe
from vgs_mlx.train.backward import Body, accumulate, backward
from vgs_mlx.train.forward import frozen_head, hidden_states, student_head, teacher_hidden
from vgs_mlx.train.microbatches import split, windows
from vgs_mlx.train.step import encode_views
from vgs_mlx.types import Rollout


def gradients(
    student: LoadedModel,
    teacher: LoadedModel,
    rollouts: Sequence[Rollout],
    recipe: Recipe,
    groups: np.ndarray,
) -> Iterator[tuple[int, dict[str, Tree]]]:
    """For each group, in order: its number, and term -> ∇ of the term's mean over the group's tokens.

    `groups` (N,) is the group of each of the rollouts' tokens. Let go of a group's trees before asking for the next
    one's: four trees are then in memory, one of them on its way.
    """
    objective, settings = ALL_TERMS, recipe.train
    batches = split(
        rollouts,
        settings.microbatch_size,
        settings.max_tokens_per_microbatch,
        shares_prefix=student.shares_prefix,
    )
    shared = encode_views(student, [rollout.prompt for rollout in rollouts], objective)
    encodings = None if recipe.student.train_vision else shared
    theirs = _joined(teacher_hidden(teacher, batches, objective))
    ours = _joined([hidden_states(student, batch, objective.student_views, encodings) for batch in batches])
    ids = mx.array(np.concatenate([rollout.completion for rollout in rollouts]))
    heads = Heads(student_head(student), frozen_head(teacher), student.support())
    body = Body(student, encodings, settings.grad_checkpoint)
    for number in np.unique(groups):
        here = np.flatnonzero(groups == number)
        place = mx.array(here)
        weights: dict[str, Coefficients] = {term: {term: mx.ones(len(here))} for term in DIAGNOSTICS}
        states = States(_at(ours, place), _at(theirs, place))
        scored = score(states, heads, Taken(ids[place]), weights, Chunking(recipe.objective.chunk_size))
        yield (
            int(number),
            {term: _tree(body, batches, scored, term, here, len(groups)) for term in DIAGNOSTICS},
        )


def _tree(
    body: Body,
    batches: Sequence[Sequence[Rollout]],
    scored: Scored,
    term: str,
    here: np.ndarray,
    count: int,
) -> Tree:
    """Through the body, a micro-batch at a time; those without a token of the group have nothing to add."""
    cotangents = Views(*(_spread(each, here, count) for each in scored.cotangents.pop(term)))
    tree = scored.head_gradients.pop(term)
    for batch, window in zip(batches, windows(batches), strict=True):
        if np.any((window.start <= here) & (here < window.stop)):
            with body.recomputing():
                accumulate(tree, backward(body.student, batch, _at(cotangents, window), body.encodings))
    mean: Tree = {}
    accumulate(mean, tree, 1.0 / len(here))
    return mean


def _spread(cotangents: mx.array | None, here: np.ndarray, count: int) -> mx.array | None:
    """The group's cotangents at their places among all tokens, (count, D), and 0 elsewhere."""
    if cotangents is None:
        return None
    return mx.zeros((count, cotangents.shape[1]), cotangents.dtype).at[mx.array(here)].add(cotangents)


def _joined(parts: Sequence[Views]) -> Views:
    return Views(*(None if view[0] is None else mx.concatenate(view) for view in zip(*parts, strict=True)))


def _at(states: Views, place: mx.array | slice) -> Views:
    return Views(*(None if each is None else each[place] for each in states))
