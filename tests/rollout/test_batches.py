"""Sampling never holds more completions than `rollout.batch_size`, and draws each of them once, in order."""

import pytest

from vgs_mlx.rollout.batches import batches, completions_at_once, prompts_at_once


@pytest.mark.parametrize(
    ("prompts", "completions", "most"),
    [(8, 4, 32), (8, 4, 9), (5, 3, 7), (3, 16, 6), (1, 1, 1), (4, 7, 7), (2, 9, 4)],
)
def test_every_completion_is_drawn_once_in_order_and_never_too_many_at_once(prompts, completions, most):
    made = batches(prompts, completions, most)
    drawn = [(prompt, number) for batch in made for prompt, numbers in batch for number in numbers]
    assert drawn == [(prompt, number) for prompt in range(prompts) for number in range(completions)]
    sizes = [sum(len(numbers) for _, numbers in batch) for batch in made]
    assert max(sizes) == completions_at_once(prompts, completions, most) <= most
    assert max(map(len, made)) == prompts_at_once(prompts, completions, most)


def test_the_completions_of_a_prompt_share_its_prefill_where_they_fit():
    assert [len(batch) for batch in batches(4, 4, 8)] == [2, 2]
    assert [len(batch) for batch in batches(2, 4, 3)] == [1, 1, 1, 1]
