"""Equal-frequency bins of tokens by visual dependency."""

import numpy as np

from vgs_mlx.objective.binning import GROUPS, bins, edges


def test_bins_hold_equally_many_tokens_in_order():
    scores = np.random.default_rng(0).permutation(np.arange(100, dtype=np.float32))
    numbers = bins(scores, edges(scores))
    assert np.bincount(numbers).tolist() == [10] * 10
    assert all(scores[numbers == low].max() < scores[numbers == low + 1].min() for low in range(9))


def test_equal_scores_share_a_bin():
    scores = np.array([0.0] * 5 + [1.0] * 5, dtype=np.float32)
    assert len(set(bins(scores, edges(scores, 2)))) == 2
    assert len(set(bins(np.zeros(7, dtype=np.float32), edges(np.zeros(7), 10)))) == 1


def test_the_groups_are_all_bins():
    assert [number for group in GROUPS.values() for number in group] == list(range(10))
