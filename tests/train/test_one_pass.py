"""Body and loss differentiated together give the terms and the gradients of the chain rule cut between them."""

from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest

from random_models import random_model
from random_rollouts import LENGTHS, prepared, rollouts
from vgs_mlx.models.rows import encode, evaluate
from vgs_mlx.objective.objectives import OBJECTIVES, resolve
from vgs_mlx.recipe.objective import WATCHED
from vgs_mlx.recipe.options import Student
from vgs_mlx.train import one_pass
from vgs_mlx.train.gradients import Weighing, compute
from vgs_mlx.types import Prompt, View

GAMMA, LAMBDA = 2.0, 0.5
TRAINED = {
    "lora": Student(rank=4),
    "full": Student(train="full"),
    "vision": Student(rank=4, train_vision=True),
    "full, vision": Student(train="full", train_vision=True),
}


def batch():
    """Rollouts with a degraded view beside the others, and log-probabilities of a policy that has since moved."""
    degraded, made = {}, []
    for rollout in rollouts():
        prompt = rollout.prompt
        seen = prompt.student["with_image"]
        media = {**seen.media, "pixel_values": seen.media["pixel_values"] * 0.1}
        views = {**prompt.student, "degraded": View(seen.ids, media)}
        prompt = degraded.setdefault(rollout.number, Prompt(prompt.example, views, views))
        sampled = np.full(len(rollout.completion), -2.0, np.float32)
        made.append(replace(rollout, prompt=prompt, sampling_logprobs=sampled))
    return made


def gradients(
    trained, objective, *, one, separate=False, tied=True, micro=2, checkpoint=False, advantages=None
):
    student, teacher, given = prepared(trained, tied=tied), random_model(5), batch()
    weighing = Weighing(
        objective, GAMMA, LAMBDA, "sequence", 4, micro, None, checkpoint, separate, one_pass=one
    )
    views = [view for each in given for view in each.prompt.student.values()]
    encodings = None if trained.train_vision else evaluate(encode(student, views))
    if advantages is None:
        advantages = np.linspace(-1, 2, sum(LENGTHS)).astype(np.float32)
    return compute(student, teacher, given, weighing, encodings, advantages)


def assert_same(found, expected):
    assert found.trees.keys() == expected.trees.keys()
    for name, tree in expected.trees.items():
        largest = max(float(mx.abs(value).max()) for value in tree.values())
        assert largest > 1e-4, name
        assert found.trees[name].keys() == tree.keys()
        for weight, value in tree.items():
            np.testing.assert_allclose(
                np.array(found.trees[name][weight]), np.array(value), atol=5e-6 * largest,
                err_msg=f"{name}, {weight}",
            )  # fmt: skip
    assert found.terms.keys() == expected.terms.keys()
    for name, values in expected.terms.items():
        np.testing.assert_allclose(found.terms[name], values, atol=1e-5, err_msg=name)
    assert found.losses == pytest.approx(expected.losses, rel=1e-5)
    assert (found.gate is None) == (expected.gate is None)
    np.testing.assert_array_equal(found.gate, expected.gate)


@pytest.mark.parametrize("separate", [False, True], ids=["total", "separate"])
@pytest.mark.parametrize("trained", TRAINED)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_one_pass_gives_the_terms_and_gradients_of_two(name, trained, separate):
    given = TRAINED[trained], resolve(name, GAMMA, LAMBDA)
    found, expected = (gradients(*given, one=one, separate=separate) for one in (True, False))
    assert_same(found, expected)


@pytest.mark.parametrize("changes", [
    {"tied": False}, {"checkpoint": True}, {"micro": 8}, {"micro": 1, "checkpoint": True, "separate": True},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("trained", ["lora", "full"])
def test_so_it_does_however_it_is_cut(trained, changes):
    given = TRAINED[trained], resolve("vgs", GAMMA, LAMBDA)
    found, expected = (gradients(*given, one=one, **changes) for one in (True, False))
    assert_same(found, expected)


def test_a_mixture_is_differentiated_as_one_loss():
    mixed = resolve("grpo", GAMMA, LAMBDA, 0.3, "vgs")
    found, expected = (gradients(TRAINED["lora"], mixed, one=one) for one in (True, False))
    assert_same(found, expected)


@pytest.mark.parametrize(("name", "views"), [("standard", 1), ("vgs", 2)])
def test_the_body_runs_once_in_each_view_that_is_pulled(name, views, monkeypatch):
    seen, forward = [], one_pass.forward
    monkeypatch.setattr(one_pass, "forward", lambda *given: seen.append(given[2]) or forward(*given))
    monkeypatch.setattr("vgs_mlx.train.gradients.backward", None)
    monkeypatch.setattr("vgs_mlx.train.gradients.hidden_states", None)
    gradients(TRAINED["lora"], resolve(name, GAMMA, LAMBDA), one=True, micro=8)
    assert len(seen) == views == len(set(seen))


def test_a_view_that_is_only_read_is_not_differentiated(monkeypatch):
    seen, forward = [], one_pass.forward
    monkeypatch.setattr(one_pass, "forward", lambda *given: seen.append(given[2]) or forward(*given))
    found = gradients(TRAINED["lora"], resolve("vgs", GAMMA, 0.0), one=True, micro=8)
    assert seen == ["with_image"] and "visual" in found.terms


@pytest.mark.parametrize("flat", [slice(0, 0), slice(0, 3), slice(None)], ids=["none", "some", "all"])
def test_answers_that_are_no_better_than_others_are_not_differentiated(flat, monkeypatch):
    """Micro-batches of one rollout each; the same gradient as two passes find."""
    ends = np.cumsum([0, *LENGTHS])
    advantages = np.repeat(np.linspace(1, 2, len(LENGTHS)).astype(np.float32), LENGTHS)
    advantages[ends[flat.start or 0] : ends[-1 if flat.stop is None else flat.stop]] = 0
    counted, differentiate = [], one_pass.differentiate
    monkeypatch.setattr(
        "vgs_mlx.train.gradients.differentiate", lambda *given: counted.append(1) or differentiate(*given)
    )
    given = TRAINED["lora"], resolve("grpo", GAMMA, LAMBDA)
    found, expected = (gradients(*given, one=one, micro=1, advantages=advantages) for one in (True, False))
    if advantages.any():
        assert_same(found, expected)
    else:
        assert not any(
            each.any() for tree in (found.trees, expected.trees) for each in tree["total"].values()
        )
    assert len(counted) == sum(bool(part.any()) for part in np.split(advantages, ends[1:-1]))


def test_steering_that_is_only_watched_pulls_where_no_answer_is_better():
    watched = replace(resolve("grpo", GAMMA, LAMBDA), parts=(*resolve("grpo", GAMMA, LAMBDA).parts, WATCHED))
    given, how = (
        (TRAINED["lora"], watched),
        {"separate": True, "micro": 1, "advantages": np.zeros(sum(LENGTHS))},
    )
    found, expected = (gradients(*given, one=one, **how) for one in (True, False))
    assert found.trees.keys() == expected.trees.keys() == {"standard", "steering"}
    for name, value in expected.trees["steering"].items():
        np.testing.assert_allclose(np.array(found.trees["steering"][name]), np.array(value), atol=1e-6)
    assert any(each.any() for each in found.trees["steering"].values())
