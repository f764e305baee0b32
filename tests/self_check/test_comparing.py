"""What counts as agreeing: limits, distances, and sketches that stand for large arrays."""

import numpy as np
import pytest

from vgs_mlx.self_check.comparing import (
    BUCKETS,
    LIMITS,
    Line,
    compare,
    differing,
    distance,
    limit_of,
    sketch,
    sketched,
    worst_by_group,
)


@pytest.mark.parametrize("apart", [1e-6, 1e-3, 0.3])
def test_sketches_are_as_far_apart_as_their_arrays(apart):
    random = np.random.default_rng(0)
    for size in (200, 5000):
        array = 1 + random.normal(size=size)
        moved = array + apart * random.normal(size=size)
        assert distance(sketch(moved), sketch(array)) == pytest.approx(distance(moved, array), rel=0.4)


def test_a_single_wrong_value_moves_the_sketch_by_itself():
    array = np.zeros(10_000)
    array[7123] = 3.0
    assert np.abs(sketch(array)).sum() == 3.0


def test_small_figures_and_the_gate_stay_whole():
    figures = {"scale: η": np.ones(1), "gate: tokens": np.ones(500), "terms: standard": np.ones(500)}
    kept = sketched(figures)
    assert kept["scale: η"].shape == (1,) and kept["gate: tokens"].shape == (500,)
    assert kept["terms: standard"].shape == (BUCKETS,)


def test_distances_are_relative_to_the_second_and_nothing_hides_another_shape():
    assert distance(np.array([1.1, 0.0]), np.array([1.0, 0.0])) == pytest.approx(0.1)
    assert distance(np.zeros(3), np.zeros(3)) == 0
    assert distance(np.ones(3), np.zeros(3)) == distance(np.ones(2), np.ones(3)) == np.inf
    assert differing(np.array([1, 0, 1, 1]), np.array([1, 1, 1, 1])) == 0.25
    assert differing(np.ones(3), np.ones(4)) == 1.0


def test_nan_never_agrees():
    [line] = compare("part", {"terms: x": np.array([np.nan])}, {"terms: x": np.ones(1)}, {"terms": np.inf})
    assert not line.agrees and line.excess == np.inf


def test_a_figure_that_one_side_lacks_is_a_line_that_does_not_agree():
    lines = compare("part", {"terms: new": np.ones(1)}, {"terms: old": np.ones(1)}, {"terms": 1.0})
    assert [line.agrees for line in lines] == [False, False]
    assert lines[0].text == "part: terms: old: was not computed"
    assert lines[1].text == "part: terms: new: there is nothing to compare it with"


def test_the_longest_beginning_of_a_name_has_the_limit():
    limits = {"terms": 0.1, "terms: visual_dep": 0.2}
    assert limit_of("terms: visual_dependency_score", limits) == 0.2
    assert limit_of("terms: visual", limits) == 0.1


def test_coarser_arithmetic_never_has_narrower_limits():
    for name in ("logits", "terms", "gate", "scale", "gradients", "update"):
        values = [limit_of(name, LIMITS[kind]) for kind in ("float32", "rounded", "stored")]
        assert values == sorted(values), name


def test_of_each_part_and_group_the_worst_is_shown():
    lines = [
        Line("a", "terms: x", 0.1, 1.0), Line("a", "terms: y", 0.01, 0.02), Line("b", "terms: x", 0.0, 1.0),
        Line("a", "gate: z", 0.0, 1.0, "could not run"),
    ]  # fmt: skip
    assert worst_by_group(lines) == [lines[1], lines[2], lines[3]]
