"""How terms are spread over tokens."""

import numpy as np
import pytest

import oracle_objectives
from vgs_mlx.objective.objectives import OBJECTIVES, weights_by_role
from vgs_mlx.objective.weightings import (
    WEIGHTINGS,
    Batch,
    adaptive_factors,
    grouped_weights,
    rollout_weights,
)


def batch(scores, lengths=(10,), prompts=(0,), gamma=2.0, score="visual_dependency_score"):
    values = np.asarray(scores, dtype=np.float32)
    weights = np.full(len(values), 1 / len(values), dtype=np.float32)
    return Batch(weights, list(lengths), list(prompts), {score: values}, gamma)


def test_the_adaptive_coefficient_has_three_levels():
    found = WEIGHTINGS["adaptive"].spread(batch(np.arange(10))) * 10
    assert found == pytest.approx([0, 0, 0, 0, 0.5, 0.5, 0.5, 1, 1, 1])


def test_adaptive_with_all_tokens_above_the_upper_quantile_is_vgs():
    assert adaptive_factors(np.array([3.0, 4.0]), low=1.0, high=2.0).tolist() == [1.0, 1.0]


def test_upweighted_tokens_count_one_plus_gamma_and_all_sum_to_one():
    found = WEIGHTINGS["upweighted"].spread(batch(np.arange(10)))
    assert found.sum() == pytest.approx(1.0)
    assert found[-1] / found[0] == pytest.approx(3.0)
    assert WEIGHTINGS["upweighted"].spread(batch(np.arange(10), gamma=0.0)) == pytest.approx([0.1] * 10)


def test_the_published_rollout_weights():
    """arXiv 2605.21924: mean advantages .045, .03, .02, .01 give about .656, .206, .095, .044."""
    found = rollout_weights(np.array([0.045, 0.03, 0.02, 0.01]))
    assert found == pytest.approx([0.656, 0.206, 0.095, 0.044], abs=1e-3)
    assert rollout_weights(np.array([0.1, 0.1])).tolist() == [0.5, 0.5]


def test_a_fifth_of_the_tokens_has_half_of_the_weight():
    found = grouped_weights(np.array([0.0, 5.0, 1.0, 2.0, 3.0, 9.0, 0.0, 0.0, 0.0, 0.0]))
    assert found[[1, 5]] == pytest.approx([0.25, 0.25])
    assert np.delete(found, [1, 5]) == pytest.approx([0.0625] * 8)
    assert grouped_weights(np.array([3.0])).tolist() == [1.0]
    assert grouped_weights(np.array([3.0, 1.0])).tolist() == [0.5, 0.5]


def test_visual_advantage_weights_equal_the_oracle():
    rng = np.random.default_rng(0)
    lengths = [[5, 7, 10], [3, 12, 6]]
    advantages = [[np.abs(rng.normal(size=n)).astype(np.float32) for n in row] for row in lengths]
    flat = [values for row in advantages for values in row]
    found = WEIGHTINGS["visual_advantage"].spread(
        batch(
            np.concatenate(flat),
            [length for row in lengths for length in row],
            [7, 7, 7, 9, 9, 9],
            score="visual_advantage",
        )
    )
    expected = np.concatenate(oracle_objectives.va_opd_weights(advantages))
    assert found.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_every_objective_declares_terms_and_weightings_that_exist():
    for name, objective in OBJECTIVES.items():
        scores = {"visual_dependency_score": np.arange(4.0), "visual_advantage": np.arange(4.0)}
        found = weights_by_role(objective, Batch(np.full(4, 0.25), [2, 2], [0, 0], scores, 2.0))
        assert found["standard"], name
        total = sum(np.array(weights).sum() for weights in found["standard"].values())
        assert total == pytest.approx(1.0), name
