"""What is kept of pictures is what would be made again, and never more than allowed."""

from dataclasses import replace

import mlx.core as mx
import pytest

from random_models import random_model, random_prompt
from vgs_mlx.models.families.qwen3_vl import FAMILY as qwen3_vl
from vgs_mlx.models.picture_cache import PictureCache
from vgs_mlx.models.rows import encode, evaluate


@pytest.fixture
def towers(monkeypatch):
    """The modules whose vision tower ran, in order."""
    ran = []
    plain = qwen3_vl.encode

    def counted(module, view):
        if bool(view.media):
            ran.append(module)
        return plain(module, view)

    monkeypatch.setattr(qwen3_vl, "encode", counted)
    return ran


def features(model, prompt):
    return next(iter(evaluate(encode(model, [prompt.student["with_image"]])).values())).features


def same(left, right):
    return all(mx.array_equal(*pair) for pair in zip(left.arrays(), right.arrays(), strict=True))


def test_a_picture_that_was_rendered_again_is_not_encoded_again(towers):
    plain, kept = random_model(0), replace(random_model(0), pictures=PictureCache(10**6))
    expected = features(plain, random_prompt(1))
    assert same(features(kept, random_prompt(1)), expected)
    assert same(features(kept, random_prompt(1)), expected)
    assert towers == [plain.module, kept.module]


def test_each_model_has_features_of_its_own(towers):
    cache = PictureCache(10**6)
    student, teacher = (replace(random_model(seed), pictures=cache) for seed in (0, 1))
    assert not same(features(student, random_prompt(1)), features(teacher, random_prompt(1)))
    assert towers == [student.module, teacher.module]


def test_what_was_not_used_for_longest_goes_first_and_the_limit_holds(towers):
    one = features(random_model(0), random_prompt(0)).nbytes
    towers.clear()
    cache = PictureCache(2 * one)
    model = replace(random_model(0), pictures=cache)
    for seed in (1, 2, 1, 3):
        features(model, random_prompt(seed))
        assert cache.size <= 2 * one
    assert len(towers) == 3
    features(model, random_prompt(1))  # used again before 3 came
    assert len(towers) == 3
    features(model, random_prompt(2))
    assert len(towers) == 4


def test_a_picture_larger_than_the_cache_is_still_encoded(towers):
    cache = PictureCache(8)
    model = replace(random_model(0), pictures=cache)
    assert same(features(model, random_prompt(1)), features(random_model(0), random_prompt(1)))
    assert cache.size == 0
