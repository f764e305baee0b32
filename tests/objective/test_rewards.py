"""Advantages: GRPO's groups, and the dense ones of PACR and PDCR, on numbers that can be checked by eye."""

import numpy as np
import pytest

from vgs_mlx.objective.dense_rewards import normalised, otsu_threshold, returns, step_advantages
from vgs_mlx.objective.policy import group_advantages


def test_advantages_compare_the_answers_to_one_prompt():
    found = group_advantages(np.array([1.0, 0.0, 1.0, 0.0, 5.0, 5.0]), [3, 3, 3, 3, 8, 8])
    assert found == pytest.approx([1, -1, 1, -1, 0, 0], abs=1e-4)


def test_returns_sum_the_gains_to_come():
    confidences = np.array([-3.0, -2.0, -2.5, -0.5])
    assert returns(confidences, 1.0).tolist() == [2.5, 1.5, 2.0]
    assert returns(confidences, 0.0).tolist() == [1.0, -0.5, 2.0]
    assert returns(confidences, 0.5).tolist() == [1.0 - 0.25 + 0.5, -0.5 + 1.0, 2.0]


def test_otsu_s_threshold_leaves_the_least_spread_within_both_classes():
    values = np.array([0.0, 0.1, 0.2, 5.0, 5.2])
    assert otsu_threshold(values) == pytest.approx(2.6)
    by_hand = min((np.var(values[:cut]) * cut + np.var(values[cut:]) * (5 - cut), cut) for cut in range(1, 5))
    assert by_hand[1] == 3
    assert not (np.array([1.0, 1.0]) > otsu_threshold(np.array([1.0, 1.0]))).any()


def test_min_max_runs_from_zero_to_one():
    assert normalised(np.array([2.0, 4.0, 3.0])).tolist() == [0.0, 1.0, 0.5]
    assert normalised(np.array([2.0, 2.0])).tolist() == [0.0, 0.0]


def test_pdcr_normalises_inside_each_class_and_pacr_over_all():
    gains = [np.array([0.0, 10.0]), np.array([1.0, 20.0])]
    visual = [np.array([5.0, 0.0]), np.array([6.0, 0.1])]  # the first step of each looks, the second reasons
    outcome = np.array([1.0, -1.0])
    dense = step_advantages(gains, visual, outcome, 1.0, 0.5)
    assert [each.tolist() for each in dense] == [[1.0, 1.0], [-0.5, -0.5]]
    plain = step_advantages(gains, None, outcome, 1.0, 0.5)
    assert [each.tolist() for each in plain] == [[1.0, 1.25], [pytest.approx(-0.975), -0.5]]
