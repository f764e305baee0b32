"""Log-probabilities over the answerable ids, and the reverse KL divergence with its closed-form gradient."""

import mlx.core as mx
from jaxtyping import Bool, Float, Int

EXCLUDED_LOGIT = -1e4
"""Stands for "impossible": exp of it is exactly 0 in float32, and unlike -inf it makes no nan in differences."""


def restricted_logprobs(
    logits: Float[mx.array, "*B V"], support: Bool[mx.array, " V"]
) -> Float[mx.array, "*B V"]:
    """Log-probabilities (nats, float32) with the ids outside `support` removed and the rest renormalised.

    Sampling and scoring both go through here, so that they see one distribution. With the whole vocabulary
    in the support this is the log-softmax.
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

    p ⊙ (log p − log target − KL): the log-ratio less its mean under p. Sums to 0 over the vocabulary.
    """
    ratio = student - target
    probabilities = mx.exp(student)
    return probabilities * (ratio - (probabilities * ratio).sum(axis=-1, keepdims=True))
