"""Micro-batches by tokens: shared prompts count once, nothing is lost or reordered."""

import numpy as np
import pytest

from vgs_mlx.train.microbatches import positions, split
from vgs_mlx.types import Example, Prompt, PromptView, Rollout


def rollouts(*groups):
    """Groups (prompt length, completion lengths)."""
    made = []
    for length, completions in groups:
        view = PromptView(np.zeros(length, np.int32), None, None)
        prompt = Prompt(Example("row", "?", "1", ()), view, PromptView(np.zeros(2, np.int32), None, None))
        made += [Rollout(prompt, np.zeros(n, np.int32), np.zeros(n, np.float32), True) for n in completions]
    return made


def sizes(batches):
    return [len(batch) for batch in batches]


def test_a_shared_prompt_is_counted_once_where_rows_are_packed():
    made = rollouts((100, [5, 6]), (50, [7]))
    assert positions(made, ["with_image"], packs=True) == 100 + 5 + 6 + 50 + 7
    assert positions(made, ["with_image"], packs=False) == 100 + 5 + 100 + 6 + 50 + 7
    assert positions(made, ["with_image", "text_only"], packs=True) == 168 + (2 + 5 + 6 + 2 + 7)


def test_micro_batches_hold_as_many_tokens_as_allowed():
    made = rollouts((100, [10, 10, 10, 10]), (100, [10, 10]))
    assert sizes(split(made, 8, 130, packs=True)) == [3, 1, 2]
    assert sizes(split(made, 8, 130, packs=False)) == [1] * 6
    assert sizes(split(made, 8, None, packs=True)) == [6]


def test_a_rollout_longer_than_the_limit_stands_alone():
    assert sizes(split(rollouts((100, [10, 10])), 8, 5, packs=True)) == [1, 1]


@pytest.mark.parametrize("limit", [None, 1, 40, 150])
def test_nothing_is_lost_or_reordered(limit):
    made = rollouts((30, [3, 4, 5]), (20, [6, 7]))
    flat = [each for batch in split(made, 2, limit, packs=True) for each in batch]
    assert [id(each) for each in flat] == [id(each) for each in made]
