"""The pure pieces, on numbers that a reader can check by eye, and against the float64 oracle."""

import mlx.core as mx
import numpy as np
import pytest

import oracle
from vgs_mlx.objective.divergence import (
    entropy,
    restricted_logprobs,
    reverse_kl,
    reverse_kl_gradient,
    token_logprobs,
)
from vgs_mlx.objective.objectives import OBJECTIVES, resolve, total, weights_by_role
from vgs_mlx.objective.steering import added, cosine, norm, steer
from vgs_mlx.objective.terms import readable
from vgs_mlx.objective.tokens import predicting_positions, token_weights
from vgs_mlx.objective.visual import Views, visual_dependency_score, visual_target
from vgs_mlx.objective.weightings import Batch, dependency_gate

EVERY = mx.array([True] * 4)


def random_logits(seed, count=6, vocabulary=7):
    return np.random.default_rng(seed).normal(size=(count, vocabulary)) * 3


def logprobs(values, support=None):
    array = mx.array(np.asarray(values, dtype=np.float32))
    return restricted_logprobs(
        array, mx.ones(array.shape[-1], dtype=mx.bool_) if support is None else mx.array(support)
    )


def test_the_last_prompt_token_predicts_the_first_answer_token():
    assert predicting_positions(5, 3).tolist() == [4, 5, 6]


def test_token_weights_sum_to_one_and_follow_the_reduction():
    assert np.array(token_weights([1, 3], "token")) == pytest.approx([0.25] * 4)
    assert np.array(token_weights([1, 3], "sequence")) == pytest.approx([0.5, 1 / 6, 1 / 6, 1 / 6])


def test_unanswerable_ids_have_no_probability_and_the_rest_sums_to_one():
    found = np.exp(np.array(logprobs([[0.0, 0.0, 50.0, 0.0]], [True, True, False, True])))
    assert found[0].tolist() == pytest.approx([1 / 3, 1 / 3, 0.0, 1 / 3])
    assert found[0, 2] == 0.0


def test_kl_of_a_fair_and_a_biased_coin():
    fair, biased = mx.log(mx.array([[0.5, 0.5]])), mx.log(mx.array([[0.25, 0.75]]))
    assert reverse_kl(fair, biased).item() == pytest.approx(0.5 * np.log(2) + 0.5 * np.log(2 / 3), abs=1e-6)
    assert reverse_kl(fair, fair).item() == 0.0


def test_entropy_of_the_uniform_distribution_is_log_v():
    assert entropy(logprobs(np.zeros((1, 4)))).item() == pytest.approx(np.log(4))


def test_token_logprobs_pick_the_taken_tokens():
    found = token_logprobs(mx.array([[-1.0, -2.0], [-3.0, -4.0]]), mx.array([1, 0]))
    assert found.tolist() == [-2.0, -3.0]


def test_the_closed_form_gradient_is_the_finite_difference_of_the_kl():
    student, teacher = random_logits(1, 1), random_logits(2, 1)
    support = np.array([True, True, False, True, True, True, True])
    expected = oracle.central_difference(lambda at: oracle.standard_terms(at, teacher, support)[0], student)
    found = reverse_kl_gradient(logprobs(student, support), logprobs(teacher, support))
    np.testing.assert_allclose(np.array(found), expected, atol=2e-6)


def test_the_visual_target_is_the_language_prior_where_the_picture_says_nothing():
    student_text, teacher = logprobs(random_logits(1)), logprobs(random_logits(2))
    np.testing.assert_allclose(
        np.array(visual_target(student_text, teacher, teacher)), np.array(student_text), atol=1e-6
    )


def test_the_visual_target_equals_the_oracle():
    arrays = [random_logits(seed) for seed in range(4)]
    support = np.array([True] * 6 + [False])
    expected = oracle.visual_targets(oracle.Logits(*arrays), support)
    _, student_text, teacher, teacher_text = (logprobs(each, support) for each in arrays)
    np.testing.assert_allclose(
        np.array(visual_target(student_text, teacher, teacher_text))[:, support], expected, atol=1e-5
    )


def test_no_gradient_flows_into_the_visual_target():
    teacher, teacher_text = logprobs(random_logits(2)), logprobs(random_logits(3))
    flow = mx.grad(lambda text: visual_target(text, teacher, teacher_text)[..., 0].sum())(
        logprobs(random_logits(1))
    )
    assert mx.abs(flow).max().item() == 0.0


def test_a_teacher_that_ignores_the_picture_has_no_visual_dependency():
    teacher = logprobs(random_logits(2))
    assert mx.abs(visual_dependency_score(teacher, teacher)).max().item() == 0.0


def test_the_gate_opens_for_the_highest_scores_of_the_whole_batch():
    scores = np.arange(10, dtype=np.float32)
    assert dependency_gate(scores).tolist() == oracle.preservation_gate(scores).tolist()
    assert dependency_gate(scores).tolist() == [0.0] * 7 + [1.0] * 3


def test_terms_are_reported_where_their_views_are_there():
    view = logprobs(random_logits(0))
    assert readable(Views(view), Views(view)) == ["standard"]
    assert readable(Views(view, view), Views(view, view)) == ["standard", "visual", "language"]
    assert readable(Views(view), Views()) == []


def test_zero_coefficients_remove_their_parts():
    assert resolve("vgs", 0.0, 0.0) == OBJECTIVES["standard"]
    assert not resolve("vgs", 2.0, 0.0).has("preservation")


def test_the_total_weighs_the_roles():
    scores = {"visual_dependency_score": np.array([0.0, 1.0])}
    batch = Batch(np.array([0.5, 0.5]), [2], [0], scores, 2.0)
    merged = total(weights_by_role(OBJECTIVES["vgs"], batch), 2.0, 0.1)["total"]
    assert merged["standard"].tolist() == [0.5, 0.5]
    assert merged["visual"].tolist() == [1.0, 1.0]
    assert merged["language"].tolist() == pytest.approx([0.0, 0.05])


def test_the_sum_of_two_trees_takes_a_name_in_one_alone_as_it_is():
    left, right = {"a": mx.array([1.0]), "b": mx.array([2.0])}, {"b": mx.array([5.0]), "c": mx.array([7.0])}
    found = added(left, right)
    assert {name: value.item() for name, value in found.items()} == {"a": 1.0, "b": 7.0, "c": 7.0}
    assert list(found) == ["a", "b", "c"] and found["a"] is left["a"]


def test_the_sum_of_two_trees_reads_each_a_few_times_however_many_names_it_has():
    reads = []

    class Counted(dict):
        def __iter__(self):  # with this, CPython asks `keys` for what it merges
            return super().__iter__()

        def keys(self):
            reads.append(self)
            return super().keys()

    added(Counted({str(name): mx.array(1.0) for name in range(50)}), {})
    assert len(reads) < 5


def steered(standard, steering, preservation=None, gamma=2.0, lam=0.01, earlier=()):
    tree = lambda values: {"a": mx.array(values[:1]), "b": mx.array(values[1:])}  # noqa: E731
    return steer(
        tree(standard), tree(steering), tree(preservation) if preservation else {}, mx.array(gamma), mx.array(lam),
        mx.array(list(earlier), dtype=mx.float32),
    )  # fmt: skip


def flat(tree):
    return np.concatenate([np.array(tree["a"]), np.array(tree["b"])])


def test_steering_turns_the_update_and_keeps_its_size():
    tree, measured = steered([3.0, 4.0], [0.0, 1.0])
    assert np.linalg.norm(flat(tree)) == pytest.approx(5.0, rel=1e-6)
    assert flat(tree)[1] / flat(tree)[0] == pytest.approx(6.0 / 3.0)
    assert measured["norm_scale"].item() == pytest.approx(5.0 / np.hypot(3.0, 6.0))
    assert measured["norm_scale"].item() == pytest.approx(
        oracle.norm_scale(np.array([3.0, 4.0]), np.array([0.0, 1.0]), 2.0)
    )
    assert measured["cosine_standard_steering"].item() == pytest.approx(0.8)


def test_the_preservation_term_does_not_enter_the_norm_scale_but_is_scaled_by_it():
    plain, before = steered([3.0, 4.0], [0.0, 1.0])
    kept, after = steered([3.0, 4.0], [0.0, 1.0], [10.0, 0.0], lam=0.1)
    assert after["norm_scale"].item() == before["norm_scale"].item()
    assert (flat(kept) - flat(plain)).tolist() == pytest.approx([before["norm_scale"].item(), 0.0], abs=1e-6)


def test_the_interval_norm_scale_is_the_mean_with_earlier_ones():
    _, measured = steered([3.0, 4.0], [0.0, 1.0], earlier=[0.1, 0.2])
    assert measured["norm_scale"].item() == pytest.approx(
        (0.1 + 0.2 + 5.0 / np.hypot(3.0, 6.0)) / 3, rel=1e-6
    )


def test_opposite_gradients_that_cancel_do_not_make_nan():
    tree, measured = steered([2.0, 0.0], [-1.0, 0.0])
    assert np.isfinite(flat(tree)).all() and measured["norm_scale"].item() == 1.0


def test_norm_and_cosine_run_over_the_whole_tree():
    left, right = {"a": mx.array([3.0]), "b": mx.array([4.0])}, {"a": mx.array([-4.0]), "b": mx.array([3.0])}
    assert norm(left).item() == pytest.approx(5.0)
    assert cosine(left, right).item() == pytest.approx(0.0)
    assert cosine(left, {"a": mx.zeros(1), "b": mx.zeros(1)}).item() == 0.0
