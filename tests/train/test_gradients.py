"""The gradient trees are those of the paper's losses, however the batch is cut."""

import sys

import mlx.core as mx
import numpy as np
import pytest

import oracle
from random_models import VOCABULARY, random_model
from random_rollouts import LENGTHS, flat_logits, prepared, rollouts
from vgs_mlx.models import adapters
from vgs_mlx.models.rows import encode, evaluate
from vgs_mlx.objective.objectives import resolve
from vgs_mlx.recipe.options import Student
from vgs_mlx.train.gradients import Weighing, compute

GAMMA, LAMBDA = 2.0, 0.5
ONE_PASS = False


@pytest.fixture(autouse=True, params=[False, True], ids=["two passes", "one pass"])
def passes(request, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "ONE_PASS", request.param)


def weighing(name="vgs", gamma=GAMMA, lam=LAMBDA, reduction="token", chunk=64, micro=8, separate=True,
             checkpoint=False):  # fmt: skip
    return Weighing(
        resolve(name, gamma, lam), gamma, lam, reduction, chunk, micro, None, checkpoint, separate,
        one_pass=ONE_PASS,
    )  # fmt: skip


def run(student, teacher, settings, vision=False):
    batch = rollouts()
    views = [
        view
        for each in batch
        for view in (each.prompt.student["with_image"], each.prompt.student["text_only"])
    ]
    return compute(student, teacher, batch, settings, None if vision else evaluate(encode(student, views)))


def rounding(tree):
    """What another order of summing may change in float32: a few units in the last place of the largest entry."""
    return 5e-6 * max(float(mx.abs(value).max()) for value in tree.values())


def oracle_logits(student, teacher):
    arrays = [np.array(flat_logits(model, view)).astype(np.float64) for model in (student, teacher)
              for view in ("with_image", "text_only")]  # fmt: skip
    return oracle.Logits(*arrays)


@pytest.mark.parametrize("reduction", ["token", "sequence"])
def test_terms_gate_and_losses_equal_the_oracle(reduction):
    student, teacher = prepared(Student(rank=4)), random_model(5)
    found = run(student, teacher, weighing(reduction=reduction))
    support = np.array(student.support())
    expected = oracle.vgs_losses(oracle_logits(student, teacher), LENGTHS, support, reduction, GAMMA, LAMBDA)
    weights = found.batch.weights
    assert (weights * found.terms["standard"]).sum() == pytest.approx(expected.standard, rel=1e-5)
    assert (weights * found.terms["visual"]).sum() == pytest.approx(expected.visual, rel=1e-5)
    assert (weights * found.gate * found.terms["language"]).sum() == pytest.approx(
        expected.preservation, rel=1e-5
    )
    assert 0 < found.gate.sum() < len(found.gate)


def naive_loss(student, teacher, weights, gate):
    """The three losses by autograd through whole log-softmaxes: nothing shared with the chunked closed form."""
    support = student.support()

    def logp(model, view):
        return mx.log(mx.softmax(mx.where(support, flat_logits(model, view), -1e30), axis=-1) + 1e-38)

    q, q_text = (mx.stop_gradient(logp(teacher, view)) for view in ("with_image", "text_only"))

    def losses():
        p, p_text = logp(student, "with_image"), logp(student, "text_only")
        target = mx.log(
            mx.softmax(mx.where(support, mx.stop_gradient(p_text) + q - q_text, -1e30), axis=-1) + 1e-38
        )
        kl = lambda left, right: (mx.exp(left) * mx.where(support, left - right, 0)).sum(axis=-1)  # noqa: E731
        return {"standard": (weights * kl(p, q)).sum(), "steering": (weights * kl(p, target)).sum(),
                "preservation": (weights * gate * kl(p_text, q_text)).sum()}  # fmt: skip

    return losses


@pytest.mark.parametrize(
    ("settings", "tied"),
    [(Student(rank=4), True), (Student(train="dora", rank=4), True), (Student(train="full"), True),
     (Student(train="full"), False), (Student(rank=4, train_vision=True), True)],
    ids=["lora", "dora", "full-tied", "full-untied", "lora+vision"],
)  # fmt: skip
def test_every_tree_equals_plain_autograd(settings, tied):
    student, teacher = prepared(settings, tied=tied), random_model(5)
    found = run(student, teacher, weighing(chunk=4, micro=2), vision=settings.train_vision)
    losses = naive_loss(student, teacher, mx.array(found.batch.weights), mx.array(found.gate))
    trainable = adapters.trainable_weights(student.module)
    for part in ("standard", "steering", "preservation"):
        gradient = mx.grad(
            lambda weights, part=part: adapters.call_with(student.module, weights, lambda: losses()[part])
        )(trainable)
        assert found.trees[part].keys() == gradient.keys()
        largest = max(float(mx.abs(value).max()) for value in gradient.values())
        assert largest > 1e-3
        for name, value in gradient.items():
            np.testing.assert_allclose(
                np.array(found.trees[part][name]), np.array(value), atol=2e-4 * largest, err_msg=name
            )


def test_chunks_and_microbatches_change_nothing():
    student, teacher = prepared(Student(rank=4)), random_model(5)
    whole = run(student, teacher, weighing())
    for chunk, micro in ((1, 8), (3, 2), (64, 1)):
        cut = run(student, teacher, weighing(chunk=chunk, micro=micro))
        for part, tree in whole.trees.items():
            for name, value in tree.items():
                np.testing.assert_allclose(
                    np.array(cut.trees[part][name]), np.array(value), atol=rounding(tree)
                )
        np.testing.assert_array_equal(cut.gate, whole.gate)


@pytest.mark.parametrize(
    "settings", [Student(rank=4), Student(train="full", train_vision=True)], ids=["lora", "full"]
)
def test_recomputing_activations_changes_nothing(settings):
    student, teacher = prepared(settings), random_model(5)
    kept = run(student, teacher, weighing(), vision=settings.train_vision).trees
    recomputed = run(student, teacher, weighing(checkpoint=True), vision=settings.train_vision).trees
    for part, tree in kept.items():
        for name, value in tree.items():
            np.testing.assert_allclose(np.array(recomputed[part][name]), np.array(value), atol=rounding(tree))


def test_the_single_tree_is_the_weighted_sum_of_the_parts():
    student, teacher = prepared(Student(rank=4)), random_model(5)
    trees = run(student, teacher, weighing()).trees
    single = run(student, teacher, weighing(separate=False)).trees["total"]
    for name, value in single.items():
        summed = (
            trees["standard"][name] + GAMMA * trees["steering"][name] + LAMBDA * trees["preservation"][name]
        )
        np.testing.assert_allclose(np.array(summed), np.array(value), atol=rounding(single))


def test_without_coefficients_vgs_is_standard_to_the_bit():
    student, teacher = prepared(Student(rank=4)), random_model(5)
    plain = run(student, teacher, weighing("standard")).trees["standard"]
    zeroed = run(student, teacher, weighing("vgs", 0.0, 0.0)).trees["standard"]
    assert all(mx.array_equal(plain[name], zeroed[name]) for name in plain)


def test_a_student_equal_to_its_teacher_has_nothing_to_learn():
    student = random_model(0, scale=2.0)
    adapters.prepare(student, Student(rank=4), seed=1)
    found = run(student, random_model(0, scale=2.0), weighing())
    assert np.abs(found.terms["standard"]).max() < 1e-5
    assert max(float(mx.abs(each).max()) for each in found.trees["standard"].values()) < 1e-5


def test_the_vocabulary_of_the_fixture_is_smaller_than_its_head():
    student = random_model(0)
    assert (
        student.module.language_model.model.embed_tokens.weight.shape[0]
        > VOCABULARY
        == student.support().size
    )
