"""Paired statistics agree with enumeration by hand, and see what unpaired ones can't."""

import itertools
import math

import numpy as np
import pytest

from vgs_mlx.evaluation.statistics import (
    Interval,
    accuracy_interval,
    average_paired_bootstrap,
    mcnemar,
    paired_bootstrap,
)


def rows(text: str) -> np.ndarray:
    return np.array([int(each) for each in text])


def test_the_mean_is_the_difference_of_the_means_left_minus_right():
    found = paired_bootstrap(rows("1110"), rows("1000"))
    assert found.mean == 0.5
    assert found.low <= found.mean <= found.high


def test_equal_scores_differ_by_nothing():
    assert paired_bootstrap(rows("1010"), rows("1010")) == Interval(0.0, 0.0, 0.0)


def test_swapping_the_sides_mirrors_the_interval():
    left, right = rows("1101101011"), rows("1001011000")
    there, back = paired_bootstrap(left, right), paired_bootstrap(right, left)
    assert (there.mean, there.low, there.high) == pytest.approx((-back.mean, -back.high, -back.low))


def test_the_interval_is_that_of_all_resamples():
    """Differences 1, 0, 0, -1 and 4: all 5^5 draws, each equally likely, give the exact quantiles."""
    differences = np.array([1.0, 0, 0, -1, 4])
    means = [np.mean(draw) for draw in itertools.product(differences, repeat=5)]
    found = paired_bootstrap(differences + 7, np.full(5, 7.0), resamples=40_000)
    assert [found.low, found.high] == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.2)


def test_what_is_common_to_a_row_cancels_out():
    """Rows from 0 to 100, the left side always ahead by 1 or 3: unpaired, that would drown."""
    rng = np.random.default_rng(0)
    right = rng.uniform(0, 100, 50)
    found = paired_bootstrap(right + np.tile([1, 3], 25), right)
    assert found.mean == pytest.approx(2)
    assert 1.5 < found.low < found.mean < found.high < 2.5


def test_the_interval_holds_the_truth_about_95_times_of_100():
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(300):
        left, right = rng.random(200) < 0.7, rng.random(200) < 0.6
        found = paired_bootstrap(left, right, resamples=400)
        inside += found.low <= 0.1 <= found.high
    assert 0.91 <= inside / 300 <= 0.98


def test_one_seed_gives_one_interval_however_many_rows_are_held_at_once(monkeypatch):
    left, right = np.random.default_rng(2).random((2, 30))
    once = paired_bootstrap(left, right, seed=3)
    assert once == paired_bootstrap(left, right, seed=3) != paired_bootstrap(left, right, seed=4)
    monkeypatch.setattr("vgs_mlx.evaluation.statistics.AT_ONCE", 1000)
    assert paired_bootstrap(left, right, seed=3) == once


def test_the_average_over_sets_counts_each_set_once():
    """Ten rows that differ by 1 and a thousand that differ by 0: the average difference is one half."""
    sets = [(np.ones(10), np.zeros(10)), (np.ones(1000), np.ones(1000))]
    assert average_paired_bootstrap(sets) == Interval(0.5, 0.5, 0.5)


def test_the_average_over_equal_sets_is_surer_than_one_of_them():
    left, right = np.random.default_rng(5).random((2, 50))
    one, four = paired_bootstrap(left, right), average_paired_bootstrap([(left, right)] * 4)
    assert four.mean == pytest.approx(one.mean)
    assert (four.high - four.low) == pytest.approx((one.high - one.low) / 2, rel=0.1)


@pytest.mark.parametrize(
    ("left", "right", "p"),
    [
        ("11111", "00000", 2 / 32),
        ("00000", "11111", 2 / 32),
        ("1010", "1010", 1.0),  # no row differs
        ("10", "01", 1.0),  # one each
        ("111110", "000001", 2 * (1 + 6) / 64),
        ("11111" + "1" * 50 + "0" * 50, "00000" + "1" * 50 + "0" * 50, 2 / 32),  # agreement says nothing
    ],
)
def test_mcnemar_s_p_is_the_coin_s(left, right, p):
    assert mcnemar(rows(left), rows(right)) == pytest.approx(p, rel=1e-12)


def test_mcnemar_agrees_with_the_sum_over_binomials_on_many_rows():
    left, right = np.repeat([1, 0], [1200, 1000]), np.repeat([0, 1], [1200, 1000])
    tail = sum(math.comb(2200, k) for k in range(1001))
    assert mcnemar(left, right) == pytest.approx(2 * tail / 2**2200, rel=1e-12)


@pytest.mark.parametrize(
    ("left", "right"),
    [([1, 0], [1]), ([], []), ([[1]], [[1]]), ([float("nan")], [1]), (1, 0)],
)
@pytest.mark.parametrize("function", [paired_bootstrap, mcnemar])
def test_what_is_no_pair_of_scores_is_an_error(function, left, right):
    with pytest.raises(ValueError, match=r"scores of the same rows|not a number"):
        function(np.array(left), np.array(right))


def test_mcnemar_takes_no_shares():
    with pytest.raises(ValueError, match="0 and 1"):
        mcnemar(np.array([0.5]), np.array([1.0]))


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    # Wilson's formula with z = 1.96, worked by hand: 0 of 10 gives z²/(n + z²) = 3.8415/13.8415
    [
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (5, 10, 0.2366, 0.7634),
        (81, 263, 0.2553, 0.3662),
        (0, 0, 0, 1),
    ],
)
def test_the_interval_is_wilsons(right, n, low, high):
    assert accuracy_interval(right, n) == pytest.approx((low, high), abs=1e-4)


def test_more_questions_narrow_the_interval_with_their_root():
    widths = [high - low for low, high in (accuracy_interval(n // 2, n) for n in (400, 1_600))]
    assert math.isclose(widths[0] / widths[1], 2, rel_tol=0.01)


def test_impossible_counts_are_errors():
    for right, n in ((3, 2), (-1, 2)):
        with pytest.raises(ValueError, match="out of"):
            accuracy_interval(right, n)
