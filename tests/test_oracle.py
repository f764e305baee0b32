"""The oracle on numbers that can be checked by eye: everything else is tested against it."""

from dataclasses import astuple, replace

import numpy as np
import pytest

import oracle

HALVES = [1 / 2, 1 / 2]
QUARTERS = [1 / 4, 3 / 4]
# KL(HALVES ‖ QUARTERS) = ½·ln 2 + ½·ln ⅔ = ½·ln 4/3; the other direction is ¼·ln ½ + ¾·ln 3/2 = 0.1308.
A = 0.5 * np.log(4 / 3)  # 0.1438


def everything(size: int) -> np.ndarray:
    return np.ones(size, dtype=bool)


def logits_of(*distributions: list[float]) -> np.ndarray:
    """Logits whose softmax is each distribution; shifted by 5, since only differences may matter."""
    return np.log(np.array(distributions)) + 5.0


def random_logits(tokens: int = 5, vocabulary: int = 4, seed: int = 0) -> oracle.Logits:
    draw = np.random.default_rng(seed).normal
    return oracle.Logits(*[draw(size=(tokens, vocabulary)) for _ in range(4)])


def two_tokens() -> oracle.Logits:
    """One rollout. Token 0 needs no image (VDS 0), token 1 does (VDS = A), so only token 1 passes the gate.

    token 0: ℓ_std = A, q* = p(·|x) = HALVES so ℓ_vis = 0, ℓ_lang = A but gated off.
    token 1: ℓ_std = 0, q* ∝ (½·½/¼, ½·½/¾) = (¾, ¼) so ℓ_vis = A, ℓ_lang = A.
    """
    return oracle.Logits(
        student_with_image=logits_of(HALVES, HALVES),
        student_text_only=logits_of(HALVES, HALVES),
        teacher_with_image=logits_of(QUARTERS, HALVES),
        teacher_text_only=logits_of(QUARTERS, QUARTERS),
    )


def test_log_softmax_of_log_weights_is_their_shares():
    shares = np.exp(oracle.log_softmax(np.log([1.0, 1.0, 2.0]), everything(3)))
    np.testing.assert_allclose(shares, [0.25, 0.25, 0.5])


def test_removed_ids_leave_their_share_to_the_rest():
    support = np.array([True, False, True])
    np.testing.assert_allclose(np.exp(oracle.log_softmax(np.log([1.0, 12.0, 3.0]), support)), [0.25, 0.75])


def test_kl_is_the_hand_computed_value_in_each_direction():
    halves, quarters = np.log(HALVES), np.log(QUARTERS)
    assert oracle.kl(halves, quarters) == pytest.approx(0.5 * np.log(4 / 3))
    assert oracle.kl(quarters, halves) == pytest.approx(0.25 * np.log(1 / 2) + 0.75 * np.log(3 / 2))


def test_the_first_argument_of_every_term_is_the_one_that_averages():
    halves, quarters = logits_of(HALVES), logits_of(QUARTERS)
    for terms in (oracle.standard_terms, oracle.language_terms, oracle.visual_dependency_scores):
        np.testing.assert_allclose(terms(halves, quarters, everything(2)), [A])
    np.testing.assert_allclose(oracle.visual_terms(halves, np.log([QUARTERS]), everything(2)), [A])


def test_teacher_equal_to_student_gives_zero_standard_and_language_terms():
    same = random_logits().student_with_image
    assert not oracle.standard_terms(same, same, everything(4)).any()
    assert not oracle.language_terms(same, same, everything(4)).any()


def test_teacher_equal_to_student_in_both_views_gives_zero_losses():
    drawn = random_logits()
    same = replace(
        drawn, teacher_with_image=drawn.student_with_image, teacher_text_only=drawn.student_text_only
    )
    losses = oracle.vgs_losses(same, [2, 3], everything(4), "token", 2.0, 0.01)
    np.testing.assert_allclose(astuple(losses), 0, atol=1e-14)


def test_visual_target_is_the_student_without_image_times_what_the_image_changes_for_the_teacher():
    # ½·(3/5)/(1/5) = 3/2 and ½·(2/5)/(4/5) = 1/4, so Z* = 7/4
    target = oracle.visual_target(np.log(HALVES), np.log([3 / 5, 2 / 5]), np.log([1 / 5, 4 / 5]))
    np.testing.assert_allclose(np.exp(target), [6 / 7, 1 / 7])
    # three ids: ½·½ = ¼, ¼·1 = ¼, ¼·2 = ½
    target = oracle.visual_target(np.log([0.5, 0.25, 0.25]), np.log([0.2, 0.4, 0.4]), np.log([0.4, 0.4, 0.2]))
    np.testing.assert_allclose(np.exp(target), [0.25, 0.25, 0.5])


def test_visual_target_is_the_students_text_view_where_the_image_changes_nothing_for_the_teacher():
    student, teacher = np.log([0.1, 0.2, 0.7]), np.log([0.5, 0.3, 0.2])
    np.testing.assert_allclose(oracle.visual_target(student, teacher, teacher), student)


def test_visual_target_is_the_teachers_image_view_where_both_text_views_agree():
    text_only, teacher = np.log([0.1, 0.2, 0.7]), np.log([0.5, 0.3, 0.2])
    np.testing.assert_allclose(oracle.visual_target(text_only, teacher, text_only), teacher)


def test_token_logprobs_pick_each_rows_own_token():
    logits = logits_of([0.2, 0.3, 0.5], [0.1, 0.6, 0.3])
    np.testing.assert_allclose(oracle.token_logprobs(logits, [2, 0], everything(3)), np.log([0.5, 0.1]))
    support = np.array([True, False, True])
    np.testing.assert_allclose(oracle.token_logprobs(logits, [2, 0], support), np.log([5 / 7, 1 / 4]))
    with pytest.raises(ValueError):
        oracle.token_logprobs(logits, [2, 1], support)


def test_gate_passes_the_top_thirty_percent():
    shuffled = np.array([3.0, 9.0, 0.0, 7.0, 1.0, 5.0, 8.0, 2.0, 6.0, 4.0])  # Q0.7 = 6.3
    np.testing.assert_array_equal(shuffled[oracle.preservation_gate(shuffled) == 1.0], [9.0, 7.0, 8.0])
    assert oracle.preservation_gate(np.random.default_rng(0).exponential(size=1000)).sum() == 300


def test_gate_is_strict_so_equal_scores_all_stay_out():
    assert not oracle.preservation_gate(np.full(10, 0.4)).any()


def test_weights_of_either_reduction_sum_to_one():
    np.testing.assert_allclose(oracle.token_weights([1, 3], "token"), [1 / 4] * 4)
    np.testing.assert_allclose(oracle.token_weights([1, 3], "sequence"), [1 / 2, 1 / 6, 1 / 6, 1 / 6])
    for reduction in ("token", "sequence"):
        assert oracle.token_weights([1, 7, 2, 30], reduction).sum() == pytest.approx(1)
    with pytest.raises(ValueError):
        oracle.token_weights([1], "sum")


def test_a_short_rollout_counts_as_much_as_a_long_one_only_under_sequence():
    one_differs = replace(
        random_logits(4, 2),
        student_with_image=logits_of(HALVES, HALVES, HALVES, HALVES),
        teacher_with_image=logits_of(QUARTERS, HALVES, HALVES, HALVES),
    )
    assert oracle.standard_loss(one_differs, [1, 3], everything(2), "token") == pytest.approx(A / 4)
    assert oracle.standard_loss(one_differs, [1, 3], everything(2), "sequence") == pytest.approx(A / 2)


def test_vgs_losses_are_the_hand_computed_ones():
    losses = oracle.vgs_losses(two_tokens(), [2], everything(2), "token", 2.0, 0.01)
    assert losses.standard == pytest.approx(A / 2)
    assert losses.visual == pytest.approx(A / 2)
    # Without the gate this were A, and A again if the mean were over the tokens that pass it.
    assert losses.preservation == pytest.approx(A / 2)
    assert losses.total == pytest.approx(A / 2 * (1 + 2 + 0.01))


def test_the_gate_orders_tokens_by_what_the_teacher_sees_against_what_it_guesses_blind():
    # KL(with image ‖ text only) is 1.61 and 0.79, the other direction 0.64 and 1.03: the top tokens differ.
    sees, blind = logits_of(HALVES, [0.9, 0.1]), logits_of([0.01, 0.99], [0.3, 0.7])
    scores, turned = [
        oracle.visual_dependency_scores(*views, everything(2)) for views in ((sees, blind), (blind, sees))
    ]
    np.testing.assert_allclose(scores, [1.61, 0.79], atol=0.01)
    np.testing.assert_allclose(turned, [0.64, 1.03], atol=0.01)
    only_token_0_strays = logits_of(HALVES, [0.3, 0.7])
    logits = oracle.Logits(sees, only_token_0_strays, sees, blind)
    losses = oracle.vgs_losses(logits, [2], everything(2), "token", 2.0, 0.01)
    assert losses.preservation == pytest.approx(1.61 / 2, abs=0.01)


def test_without_steering_and_preservation_the_total_is_the_standard_loss():
    batch = random_logits(), [2, 3], everything(4), "sequence"
    losses = oracle.vgs_losses(*batch, 0.0, 0.0)
    assert losses.total == losses.standard == oracle.standard_loss(*batch)


def test_removed_ids_never_matter():
    support = np.array([True, False, True, True, False])
    views = astuple(random_logits(5, 5))
    spoilt = oracle.Logits(*[np.where(support, view, np.nan) for view in views])
    cut = oracle.Logits(*[view[:, support] for view in views])
    expected = oracle.vgs_losses(cut, [2, 3], everything(3), "token", 2.0, 0.01)
    assert oracle.vgs_losses(spoilt, [2, 3], support, "token", 2.0, 0.01) == expected
    gradients = oracle.vgs_gradients(spoilt, [2, 3], support, "token")
    for component in (gradients.standard, gradients.visual, gradients.preservation):
        assert not component.with_image[:, ~support].any()
        assert not component.text_only[:, ~support].any()


def test_central_difference_of_a_cube_is_three_squares():
    gradient = oracle.central_difference(lambda x: float((x**3).sum()), np.array([[1.0, 2.0], [-1.0, 0.0]]))
    np.testing.assert_allclose(gradient, [[3.0, 12.0], [3.0, 0.0]], atol=1e-8)


def test_gradients_are_the_hand_computed_ones():
    # d KL(p‖q)/d logit_i = p_i·(log p_i − log q_i − KL); for HALVES against QUARTERS: ½·(ln 2 − ½·ln 4/3),
    # which is ¼·ln 3, and the opposite for the other id; then halved, the mean over two tokens.
    # Token 1's q* is QUARTERS turned round.
    slope = np.log(3) / 8
    gradients = oracle.vgs_gradients(two_tokens(), [2], everything(2), "token")
    close = {"atol": 1e-9}
    np.testing.assert_allclose(gradients.standard.with_image, [[slope, -slope], [0, 0]], **close)
    np.testing.assert_allclose(gradients.visual.with_image, [[0, 0], [-slope, slope]], **close)
    np.testing.assert_allclose(gradients.preservation.text_only, [[0, 0], [slope, -slope]], **close)


def test_no_component_differentiates_the_other_view():
    gradients = oracle.vgs_gradients(random_logits(), [2, 3], everything(4), "sequence")
    assert not gradients.standard.text_only.any()
    assert not gradients.visual.text_only.any()
    assert not gradients.preservation.with_image.any()


def test_the_text_view_moves_the_visual_loss_and_yet_gets_no_gradient_from_it():
    logits = random_logits()

    def visual(student_text_only: np.ndarray) -> float:
        moved = replace(logits, student_text_only=student_text_only)
        return oracle.vgs_losses(moved, [5], everything(4), "token", 2.0, 0.01).visual

    assert np.abs(oracle.central_difference(visual, logits.student_text_only)).max() > 0.01
    assert not oracle.vgs_gradients(logits, [5], everything(4), "token").visual.text_only.any()


def test_gradients_follow_the_formula_for_a_kl_of_softmaxes():
    logits, lengths, support = random_logits(), [2, 3], everything(4)
    weights = oracle.token_weights(lengths, "sequence")[:, None]
    gate = oracle.preservation_gate(
        oracle.visual_dependency_scores(logits.teacher_with_image, logits.teacher_text_only, support)
    )[:, None]

    def slope(student: np.ndarray, target: np.ndarray) -> np.ndarray:
        """d KL(p‖q)/d logit_i = p_i·(log p_i − log q_i − KL)."""
        log_p = np.array([oracle.log_softmax(row, support) for row in student])
        log_q = np.array([oracle.log_softmax(row, support) for row in target])
        divergence = (np.exp(log_p) * (log_p - log_q)).sum(axis=1, keepdims=True)
        return np.exp(log_p) * (log_p - log_q - divergence)

    gradients = oracle.vgs_gradients(logits, lengths, support, "sequence")
    standard = weights * slope(logits.student_with_image, logits.teacher_with_image)
    visual = weights * slope(logits.student_with_image, oracle.visual_targets(logits, support))
    preservation = weights * gate * slope(logits.student_text_only, logits.teacher_text_only)
    np.testing.assert_allclose(gradients.standard.with_image, standard, atol=1e-9)
    np.testing.assert_allclose(gradients.visual.with_image, visual, atol=1e-9)
    np.testing.assert_allclose(gradients.preservation.text_only, preservation, atol=1e-9)


def test_norm_scale_keeps_the_length_of_the_standard_gradient():
    standard, visual = np.array([3.0, 0.0]), np.array([0.0, 2.0])
    assert oracle.norm_scale(standard, visual, 2.0) == pytest.approx(3 / 5)
    assert oracle.norm_scale(standard, visual, 0.0) == 1.0
    assert oracle.norm_scale(standard, standard, 2.0) == pytest.approx(1 / 3)
