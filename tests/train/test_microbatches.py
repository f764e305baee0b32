"""Micro-batches by tokens: shared prompts count once, nothing is lost or reordered."""

import numpy as np
import pytest

from vgs_mlx.train.microbatches import positions, split
from vgs_mlx.types import Example, Prompt, Rollout, View


def rollouts(*groups):
    """Groups (prompt length, completion lengths)."""
    made = []
    for length, completions in groups:
        view = View(np.full(length, len(made), np.int32), {})
        views = {"with_image": view, "text_only": View(np.full(2, len(made), np.int32), {})}
        prompt = Prompt(Example("row", "?", "1", ()), views, views)
        made += [
            Rollout(prompt, np.zeros(n, np.int32), np.zeros(n, np.float32), True, 0) for n in completions
        ]
    return made


def sizes(batches):
    return [len(batch) for batch in batches]


def test_a_shared_prompt_is_counted_once_where_rows_are_packed():
    made = rollouts((100, [5, 6]), (50, [7]))
    assert positions(made, ["with_image"], shares_prefix=True) == 100 + 5 + 6 + 50 + 7
    assert positions(made, ["with_image"], shares_prefix=False) == 100 + 5 + 100 + 6 + 50 + 7
    assert positions(made, ["with_image", "text_only"], shares_prefix=True) == 168 + (2 + 5 + 6 + 2 + 7)


def test_micro_batches_hold_as_many_tokens_as_allowed():
    made = rollouts((100, [10, 10, 10, 10]), (100, [10, 10]))
    assert sizes(split(made, 8, 130, shares_prefix=True)) == [3, 1, 2]
    assert sizes(split(made, 8, 130, shares_prefix=False)) == [1] * 6
    assert sizes(split(made, 8, None, shares_prefix=True)) == [6]


def test_a_rollout_longer_than_the_limit_stands_alone():
    assert sizes(split(rollouts((100, [10, 10])), 8, 5, shares_prefix=True)) == [1, 1]


@pytest.mark.parametrize("limit", [None, 1, 40, 150])
def test_nothing_is_lost_or_reordered(limit):
    made = rollouts((30, [3, 4, 5]), (20, [6, 7]))
    flat = [each for batch in split(made, 2, limit, shares_prefix=True) for each in batch]
    assert [id(each) for each in flat] == [id(each) for each in made]


def test_rows_of_their_own_are_counted_as_long_as_the_longest():
    """Each continues another prompt: 1 x 200 and 3 x 20 are 4 x 200 when they are padded."""
    made = rollouts((10, [10]), (190, [10]), (10, [10]), (10, [10]))
    assert sizes(split(made, 8, 400, shares_prefix=True)) == [2, 2]
    assert sizes(split(made, 8, 800, shares_prefix=True)) == [4]
