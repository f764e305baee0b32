"""Weights that wait for the teacher's scores make the same gradients as weights that are known beforehand."""

import mlx.core as mx
import numpy as np
import pytest

from random_models import random_model
from random_rollouts import prepared, rollouts
from vgs_mlx.models.rows import encode, evaluate
from vgs_mlx.objective.objectives import OBJECTIVES, resolve
from vgs_mlx.objective.visual import Views
from vgs_mlx.recipe.options import Student
from vgs_mlx.train import addends
from vgs_mlx.train.backward import backward
from vgs_mlx.train.gradients import Learned, Weighing, compute_parts

GAMMA, LAMBDA = 2.0, 0.5
SCORED = [name for name, objective in OBJECTIVES.items() if objective.scores and name != "va-opd"]


def trees(student, teacher, objective, separate, scores):
    batch = rollouts()
    views = [
        view
        for each in batch
        for view in (each.prompt.student["with_image"], each.prompt.student["text_only"])
    ]
    weighing = Weighing(objective, GAMMA, LAMBDA, "token", 8, 3, None, False, separate)

    def want(given):
        return addends.of_objective(objective, GAMMA, LAMBDA, separate, given._replace(scores=scores))

    return compute_parts(student, teacher, Learned(batch, evaluate(encode(student, views))), weighing, want)


@pytest.mark.parametrize("separate", [True, False])
@pytest.mark.parametrize("name", SCORED)
def test_gradients_are_the_same_whenever_the_scores_are_known(name, separate):
    student, teacher = prepared(Student(rank=4)), random_model(5)
    objective = resolve(name, GAMMA, LAMBDA)
    later = trees(student, teacher, objective, separate, {})
    before = trees(student, teacher, objective, separate, later.batch.scores)
    assert later.trees.keys() == before.trees.keys()
    for tree, expected in before.trees.items():
        largest = max(float(mx.abs(value).max()) for value in expected.values())
        assert largest > 0
        for weight, value in expected.items():
            np.testing.assert_allclose(
                np.array(later.trees[tree][weight]), np.array(value), atol=5e-6 * largest, err_msg=weight
            )


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_the_teachers_head_meets_a_token_once_for_each_view_unless_the_students_head_trains(
    kind, monkeypatch
):
    student, teacher = prepared(Student(train=kind, rank=4)), random_model(5)
    seen = []
    logits = type(teacher).logits

    def counted(model, hidden):
        if model is teacher:
            seen.append(hidden.shape[0])
        return logits(model, hidden)

    monkeypatch.setattr(type(teacher), "logits", counted)
    objective = resolve("vgs", GAMMA, LAMBDA)
    batch = rollouts()
    count = sum(len(each.completion) for each in batch)
    weighing = Weighing(
        objective, GAMMA, LAMBDA, "token", 1, 3, None, False, True
    )  # chunks of 1: nothing padded
    views = [
        view
        for each in batch
        for view in (each.prompt.student["with_image"], each.prompt.student["text_only"])
    ]

    def want(given):
        return addends.of_objective(objective, GAMMA, LAMBDA, True, given)

    compute_parts(student, teacher, Learned(batch, evaluate(encode(student, views))), weighing, want)
    assert sum(seen) == count * (2 if kind == "lora" else 4)


def test_what_follows_the_last_pulled_token_is_not_computed_and_not_missed():
    student, batch = prepared(Student(rank=4)), rollouts()
    encodings = evaluate(encode(student, [each.prompt.student["with_image"] for each in batch]))
    ends = np.cumsum([len(each.completion) for each in batch])
    mx.random.seed(3)
    whole = mx.random.normal((int(ends[-1]), 32))
    early = np.zeros(int(ends[-1]), dtype=np.float32)
    early[ends[0] : ends[1] - 1] = 1  # of one rollout, all but its last token
    parts = [whole * mx.array(each)[:, None] for each in (early, 1 - early)]
    first, rest, expected = (backward(student, batch, Views(each), encodings) for each in (*parts, whole))
    largest = max(float(mx.abs(value).max()) for value in expected.values())
    for name, value in expected.items():
        np.testing.assert_allclose(np.array(first[name] + rest[name]), np.array(value), atol=5e-6 * largest)
    nothing = backward(student, batch, Views(mx.zeros_like(whole)), encodings)
    assert all(not mx.any(value) for value in nothing.values())
