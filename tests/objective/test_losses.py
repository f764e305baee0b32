"""Every objective's loss and its gradient in the student's logits, against float64 and finite differences."""

import mlx.core as mx
import numpy as np
import pytest

import oracle
import oracle_objectives
from vgs_mlx.objective.chunked import Chunking, Head, Heads, States, score, teacher_scores
from vgs_mlx.objective.divergence import forward_kl, jensen_shannon, restricted_logprobs, reverse_kl
from vgs_mlx.objective.objectives import OBJECTIVES, resolve, total, weights_by_role
from vgs_mlx.objective.terms import TERMS, Taken
from vgs_mlx.objective.visual import Views
from vgs_mlx.objective.weightings import Batch

N, V, GAMMA, LAMBDA = 9, 6, 2.0, 0.5
SUPPORT = np.array([True, True, True, True, False, True])
TOKENS = np.array([0, 1, 2, 3, 5, 0, 1, 2, 3])
LENGTHS = [4, 5]
IDENTITY = Head(
    lambda _, states: states, {}
)  # hidden states are the logits: their gradients are what is tested


def logits(seed: int) -> oracle.Logits:
    rng = np.random.default_rng(seed)
    return oracle.Logits(*(2 * rng.normal(size=(N, V)) for _ in range(4)))


def views(left: np.ndarray, right: np.ndarray) -> Views:
    return Views(mx.array(left.astype(np.float32)), mx.array(right.astype(np.float32)))


def computed(name: str, given: oracle.Logits, *, taken: Taken | None = None, chunk: int = 4, **mix):
    """The loss and its gradients (with_image, text_only), as the package computes them."""
    objective = resolve(name, GAMMA, LAMBDA, **mix)
    teacher = views(given.teacher_with_image, given.teacher_text_only)
    taken = taken or Taken(mx.array(TOKENS))
    support = mx.array(SUPPORT)
    found = teacher_scores(teacher, IDENTITY, support, taken.ids, 4)
    batch = Batch(
        np.array(oracle.token_weights(LENGTHS, "sequence"), dtype=np.float32), LENGTHS, [0, 1],
        {key: np.array(value) for key, value in found.items()}, GAMMA,
    )  # fmt: skip
    parts = total(weights_by_role(objective, batch), GAMMA, LAMBDA)
    student = views(given.student_with_image, given.student_text_only)
    heads = Heads(IDENTITY, IDENTITY, support)
    scored = score(States(student, teacher), heads, taken, parts, Chunking(chunk))
    loss = sum(float((weights * scored.terms[term]).sum()) for term, weights in parts["total"].items())
    cotangents = scored.cotangents["total"]
    return loss, [np.zeros((N, V)) if each is None else np.array(each) for each in cotangents[:2]]


@pytest.mark.parametrize(
    "name", ["standard", "vgs", "adaptive", "language", "vds-weighted", "forward-kl", "jsd", "sft"]
)
def test_loss_and_gradient_equal_the_oracle(name):
    given = logits(1)
    weights = oracle.token_weights(LENGTHS, "sequence")
    loss = oracle_objectives.losses(given, weights, SUPPORT, GAMMA, LAMBDA, tokens=TOKENS)[name]
    found, gradients = computed(name, given)
    image, text = given.student_with_image, given.student_text_only
    assert found == pytest.approx(loss(image, text), rel=1e-5)
    expected = (
        oracle.central_difference(lambda moved: loss(moved, text), image),
        oracle.central_difference(lambda moved: loss(image, moved), text),
    )
    for ours, theirs in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_the_policy_s_loss_and_gradient_equal_the_oracle():
    """Ratios inside and beyond the clip, advantages of both signs."""
    given, rng = logits(2), np.random.default_rng(3)
    now = oracle.token_logprobs(given.student_with_image, TOKENS, SUPPORT)
    sampling = now + rng.choice([-0.5, -0.1, 0.1, 0.5], size=N)
    advantages = rng.choice([-1.0, 2.0], size=N)
    taken = Taken(
        *(
            mx.array(np.asarray(each))
            for each in (TOKENS, sampling.astype(np.float32), advantages.astype(np.float32))
        )
    )
    weights = oracle.token_weights(LENGTHS, "sequence")

    def loss(image):
        terms = oracle_objectives.policy_terms(image, TOKENS, sampling, advantages, 0.2, SUPPORT)
        return float((weights * terms).sum())

    found, (gradient, _) = computed("grpo", given, taken=taken)
    assert found == pytest.approx(loss(given.student_with_image), rel=1e-5)
    expected = oracle.central_difference(loss, given.student_with_image)
    np.testing.assert_allclose(gradient, expected, atol=1e-6)
    blocked = np.abs(expected).max(axis=1) == 0
    assert blocked.any() and not blocked.all(), "some tokens are clipped, some are not"


def test_a_mixture_s_ends_are_its_two_objectives():
    """Eq. 22: α = 0 is the policy alone, α = 1 the distillation alone (without η)."""
    given = logits(4)
    sampling = oracle.token_logprobs(given.student_with_image, TOKENS, SUPPORT).astype(np.float32)
    taken = Taken(mx.array(TOKENS), mx.array(sampling), mx.array(np.linspace(-1, 1, N).astype(np.float32)))
    policy, vgs = computed("grpo", given, taken=taken), computed("vgs", given)
    for alpha in (0.0, 0.3, 1.0):
        loss, gradients = computed("grpo", given, taken=taken, mix=alpha, mix_with="vgs")
        assert loss == pytest.approx((1 - alpha) * policy[0] + alpha * vgs[0], rel=1e-5, abs=1e-6)
        for mixed, left, right in zip(gradients, policy[1], vgs[1], strict=True):
            np.testing.assert_allclose(mixed, (1 - alpha) * left + alpha * right, atol=1e-6)


def test_a_mixture_has_no_norm_scale():
    assert OBJECTIVES["vgs"].steers
    assert not resolve("grpo", 2.0, 0.01, 0.3, "vgs").steers


def test_the_jensen_shannon_divergence_tends_to_both_kls():
    given = logits(5)
    support = mx.array(SUPPORT)
    student, teacher = (
        restricted_logprobs(mx.array(each.astype(np.float32)), support)
        for each in (given.student_with_image, given.teacher_with_image)
    )
    near_zero, near_one = 1e-4, 1 - 1e-4
    forward = np.array(jensen_shannon(student, teacher, near_zero)) / near_zero
    reverse = np.array(jensen_shannon(student, teacher, near_one)) / (1 - near_one)
    np.testing.assert_allclose(forward, np.array(forward_kl(student, teacher)), rtol=0.02)
    np.testing.assert_allclose(reverse, np.array(reverse_kl(student, teacher)), rtol=0.02)


@pytest.mark.parametrize("name", [name for name in OBJECTIVES if name not in ("grpo", "va-opd")])
def test_chunks_change_nothing(name):
    given = logits(6)
    whole, cut = computed(name, given, chunk=64), computed(name, given, chunk=2)
    assert whole[0] == pytest.approx(cut[0], rel=1e-6)
    for left, right in zip(whole[1], cut[1], strict=True):
        np.testing.assert_allclose(left, right, atol=1e-7)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_knows_the_terms_that_the_loss_phase_computes(name):
    rng = np.random.default_rng(0)
    objective = OBJECTIVES[name]
    student, teacher = (
        Views(**{view: mx.array(rng.normal(size=(N, V)).astype(np.float32)) for view in read})
        for read in (objective.student_views, objective.teacher_views)
    )
    parts = {"total": {part.term: mx.ones(N) for part in objective.parts}}
    taken = Taken(mx.array(TOKENS), mx.zeros(N), mx.ones(N))
    heads = Heads(IDENTITY, IDENTITY, mx.array(SUPPORT))
    scored = score(States(student, teacher), heads, taken, parts, Chunking(4))
    assert scored.terms.keys() & TERMS.keys() == objective.computed_terms
    pulled = {view for view, each in scored.cotangents["total"]._asdict().items() if each is not None}
    assert pulled == objective.pulled_views


def test_views_that_an_objective_does_not_need_are_not_asked_for():
    assert OBJECTIVES["standard"].student_views == OBJECTIVES["standard"].teacher_views == {"with_image"}
    assert OBJECTIVES["va-opd"].teacher_views == {"with_image", "degraded"}
    assert OBJECTIVES["va-opd"].student_views == {"with_image"}
    assert OBJECTIVES["vds-weighted"].student_views == {"with_image"}
    assert OBJECTIVES["vgs"].student_views == {"with_image", "text_only"}
    assert not OBJECTIVES["sft"].teacher_views and not OBJECTIVES["grpo"].teacher_views
    assert resolve("grpo", 2.0, 0.0, 0.3, "standard").teacher_views == {"with_image"}
