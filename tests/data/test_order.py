"""The order of the rows: complete epochs, seeded, and the same whether a run resumes or not."""

from collections import Counter

import pytest

from vgs_mlx.data.order import rows_for_step


def visited(steps, prompts_per_step, count, seed=0):
    return [row for step in range(steps) for row in rows_for_step(step, prompts_per_step, count, seed)]


@pytest.mark.parametrize(("prompts_per_step", "count"), [(1, 5), (3, 7), (4, 8), (7, 7), (10, 3), (64, 1)])
def test_every_epoch_visits_every_row_once(prompts_per_step, count):
    rows = visited(4 * count, prompts_per_step, count)
    for start in range(0, len(rows), count):
        assert sorted(rows[start : start + count]) == list(range(count))


def test_a_step_has_its_prompts_even_when_the_data_set_is_smaller():
    assert Counter(rows_for_step(0, 10, 5, 0)) == dict.fromkeys(range(5), 2)
    assert len(rows_for_step(3, 7, 2, 0)) == 7


def test_a_step_asked_alone_is_the_same_step():
    rows = visited(50, 3, 10)
    assert [rows_for_step(step, 3, 10, 0) for step in (41, 2, 41)] == [
        rows[123:126],
        rows[6:9],
        rows[123:126],
    ]


def test_the_size_of_a_step_does_not_change_the_order():
    assert visited(12, 2, 8) == visited(6, 4, 8) == visited(1, 24, 8)


def test_seed_and_epoch_change_the_order():
    epochs = [tuple(rows_for_step(step, 30, 30, seed)) for seed in (0, 1) for step in (0, 1, 2)]
    assert len(set(epochs)) == 6
    assert tuple(range(30)) not in epochs


def test_the_order_of_seed_zero_is_pinned():
    assert rows_for_step(0, 8, 8, 0) == [
        2,
        4,
        3,
        6,
        5,
        0,
        1,
        7,
    ]  # a run must resume in the same order after an upgrade


@pytest.mark.parametrize("arguments", [(-1, 1, 1, 0), (0, 0, 1, 0), (0, 1, 0, 0), (0, 1, 1, -1)])
def test_impossible_steps_are_errors(arguments):
    with pytest.raises(ValueError, match="no such step"):
        rows_for_step(*arguments)
