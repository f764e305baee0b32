"""Log-probabilities over the answerable ids, and divergences between them with their closed-form gradients."""

import mlx.core as mx
from jaxtyping import Bool, Float, Int

EXCLUDED_LOGIT = -1e4
"""The logit of an impossible id: its exp is exactly 0 in float32, and unlike -inf it gives no NaN in differences."""


def restricted_logprobs(
    logits: Float[mx.array, "*B V"], support: Bool[mx.array, " V"]
) -> Float[mx.array, "*B V"]:
    """Log-probabilities (nats, float32) with the ids outside `support` removed and the rest renormalised.

    Sampling and scoring both use this function, so that they see the same distribution. With the whole vocabulary in
    the support it is the log-softmax.
    """
    masked = mx.where(support, logits.astype(mx.float32), EXCLUDED_LOGIT)
    return masked - mx.logsumexp(masked, axis=-1, keepdims=True)


def token_logprobs(logprobs: Float[mx.array, "*B V"], tokens: Int[mx.array, "*B"]) -> Float[mx.array, "*B"]:
    """Log-probabilities of the given tokens, nats."""
    return mx.take_along_axis(logprobs, tokens[..., None], axis=-1)[..., 0]


def entropy(logprobs: Float[mx.array, "*B V"]) -> Float[mx.array, "*B"]:
    """Shannon entropy in nats; log V for the uniform distribution."""
    return -(mx.exp(logprobs) * logprobs).sum(axis=-1)


def reverse_kl(student: Float[mx.array, "*B V"], target: Float[mx.array, "*B V"]) -> Float[mx.array, "*B"]:
    """KL(student ‖ target) in nats over the last axis (Eq. 3), from log-probabilities; 0 where they are equal."""
    return (mx.exp(student) * (student - target)).sum(axis=-1)


def reverse_kl_gradient(
    student: Float[mx.array, "*B V"], target: Float[mx.array, "*B V"]
) -> Float[mx.array, "*B V"]:
    """∂ KL(student ‖ target) / ∂ (student's logits), the target held constant.

    p ⊙ (log p − log target − KL): the log-ratio minus its mean under p. It sums to 0 over the vocabulary.
    """
    return _through_softmax(student, student - target)


def forward_kl(student: Float[mx.array, "*B V"], teacher: Float[mx.array, "*B V"]) -> Float[mx.array, "*B"]:
    """KL(teacher ‖ student) in nats: the student must cover all that the teacher covers. 0 where they are equal."""
    return reverse_kl(teacher, student)


def forward_kl_gradient(
    student: Float[mx.array, "*B V"], teacher: Float[mx.array, "*B V"]
) -> Float[mx.array, "*B V"]:
    """∂ KL(teacher ‖ student) / ∂ (student's logits) = p − q."""
    return mx.exp(student) - mx.exp(teacher)


def jensen_shannon(
    student: Float[mx.array, "*B V"], teacher: Float[mx.array, "*B V"], weight: float
) -> Float[mx.array, "*B"]:
    """Generalised Jensen-Shannon divergence β KL(q ‖ m) + (1 − β) KL(p ‖ m), m = β q + (1 − β) p, nats.

    As in Agarwal et al. 2024 (GKD), with p the student, q the teacher, and 0 < β < 1. Divided by β it tends to
    KL(q ‖ p) for β → 0; divided by 1 − β it tends to KL(p ‖ q) for β → 1.
    """
    mixture = _mixture(student, teacher, weight)
    return weight * reverse_kl(teacher, mixture) + (1 - weight) * reverse_kl(student, mixture)


def jensen_shannon_gradient(
    student: Float[mx.array, "*B V"], teacher: Float[mx.array, "*B V"], weight: float
) -> Float[mx.array, "*B V"]:
    """∂ JSD / ∂ (student's logits). ∂/∂p is (1 − β) log(p / m): the terms from p inside m cancel."""
    return (1 - weight) * _through_softmax(student, student - _mixture(student, teacher, weight))


def _mixture(student: mx.array, teacher: mx.array, weight: float) -> mx.array:
    return mx.logaddexp(teacher + mx.log(mx.array(weight)), student + mx.log(mx.array(1 - weight)))


def _through_softmax(logprobs: mx.array, gradient: mx.array) -> mx.array:
    """From ∂/∂probabilities to ∂/∂logits: p ⊙ (gradient − its mean under p)."""
    probabilities = mx.exp(logprobs)
    return probabilities * (gradient - (probabilities * gradient).sum(axis=-1, keepdims=True))
