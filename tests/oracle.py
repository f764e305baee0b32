"""The paper's equations once more, as plain float64 NumPy loops: what the package's MLX code is tested by.

Slow and naive on purpose, and independent of the package. Equation numbers are those of Yoon et al.,
«Decomposed On-Policy Distillation for Vision-Language Reasoning», arXiv 2606.00564. All terms are in nats.

Shapes: N tokens (the completions of a batch laid end to end, no padding), V ids in the vocabulary, S of them
answerable.
Row n of any logits is the distribution that token n was drawn from, so no shift by one is left to do here.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

GATE_QUANTILE = 0.7


@dataclass(frozen=True)
class Logits:
    """What both models say about the same N tokens in both views, each (N, V)."""

    student_with_image: np.ndarray
    student_text_only: np.ndarray
    teacher_with_image: np.ndarray
    teacher_text_only: np.ndarray


@dataclass(frozen=True)
class Losses:
    """Means over the batch, in nats. The components carry no γ, λ or η; the total carries γ and λ."""

    standard: float
    visual: float
    preservation: float
    total: float


@dataclass(frozen=True)
class ViewGradients:
    """One component's derivative with respect to the student's logits in each view, each (N, V)."""

    with_image: np.ndarray
    text_only: np.ndarray


@dataclass(frozen=True)
class Gradients:
    """Of the components as `Losses` has them: without γ, λ and η."""

    standard: ViewGradients
    visual: ViewGradients
    preservation: ViewGradients


# One position.


def log_softmax(logits: np.ndarray, support: np.ndarray) -> np.ndarray:
    """(V,) logits and a (V,) bool mask -> (S,) log-probs of the answerable ids, in id order, summing to 1.

    The other ids are removed, not set to −inf, so whatever their logits are is never looked at.
    """
    answerable = np.array([logits[i] for i in range(len(support)) if support[i]], dtype=np.float64)
    shifted = answerable - answerable.max()
    return shifted - np.log(np.exp(shifted).sum())


def kl(first: np.ndarray, second: np.ndarray) -> float:
    """KL(first ‖ second) = Σ exp(first)·(first − second) of two (S,) log-probs; 0 where they are equal."""
    total = 0.0
    for log_a, log_b in zip(first, second, strict=True):
        if np.exp(log_a) > 0.0:  # 0·log 0 is 0
            total += np.exp(log_a) * (log_a - log_b)
    return float(total)


def visual_target(
    student_text_only: np.ndarray, teacher_with_image: np.ndarray, teacher_text_only: np.ndarray
) -> np.ndarray:
    """log q* (Eq. 10): log p(·|x) + log q(·|I,x) − log q(·|x), normalised; all (S,) log-probs."""
    unnormalised = student_text_only + teacher_with_image - teacher_text_only
    return log_softmax(unnormalised, np.ones(len(unnormalised), dtype=bool))


# Every token: (N, V) logits -> (N,) terms.


def token_logprobs(logits: np.ndarray, token_ids: np.ndarray, support: np.ndarray) -> np.ndarray:
    """Log-prob of each token taken, (N,). ValueError for an id outside the support: it can't be sampled."""
    ids = [i for i in range(len(support)) if support[i]]
    rows = zip(logits, token_ids, strict=True)
    return np.array([log_softmax(row, support)[ids.index(token)] for row, token in rows])


def standard_terms(
    student_with_image: np.ndarray, teacher_with_image: np.ndarray, support: np.ndarray
) -> np.ndarray:
    """KL( p(·|I,x) ‖ q(·|I,x) ), the reverse KL (Eq. 3)."""
    return _kl_of_rows(student_with_image, teacher_with_image, support)


def language_terms(
    student_text_only: np.ndarray, teacher_text_only: np.ndarray, support: np.ndarray
) -> np.ndarray:
    """KL( p(·|x) ‖ q(·|x) ) (Eq. 6)."""
    return _kl_of_rows(student_text_only, teacher_text_only, support)


def visual_dependency_scores(
    teacher_with_image: np.ndarray, teacher_text_only: np.ndarray, support: np.ndarray
) -> np.ndarray:
    """KL( q(·|I,x) ‖ q(·|x) ), of the teacher alone (Eq. 12)."""
    return _kl_of_rows(teacher_with_image, teacher_text_only, support)


def visual_targets(logits: Logits, support: np.ndarray) -> np.ndarray:
    """log q* (Eq. 10) of every token, (N, S)."""
    targets = []
    for n in range(len(logits.student_text_only)):
        targets.append(
            visual_target(
                log_softmax(logits.student_text_only[n], support),
                log_softmax(logits.teacher_with_image[n], support),
                log_softmax(logits.teacher_text_only[n], support),
            )
        )
    return np.array(targets)


def visual_terms(student_with_image: np.ndarray, targets: np.ndarray, support: np.ndarray) -> np.ndarray:
    """KL( p(·|I,x) ‖ q* ) (Eq. 11), for the (N, S) log q* of `visual_targets`."""
    rows = zip(student_with_image, targets, strict=True)
    return np.array([kl(log_softmax(student, support), target) for student, target in rows])


def _kl_of_rows(first: np.ndarray, second: np.ndarray, support: np.ndarray) -> np.ndarray:
    rows = zip(first, second, strict=True)
    return np.array([kl(log_softmax(a, support), log_softmax(b, support)) for a, b in rows])


# The batch.


def preservation_gate(scores: np.ndarray, quantile: float = GATE_QUANTILE) -> np.ndarray:
    """1[VDS > Q], (N,) of 0.0 and 1.0; Q: the linearly interpolated quantile over the batch's tokens."""
    threshold = np.quantile(scores, quantile)
    return np.array([1.0 if score > threshold else 0.0 for score in scores])


def token_weights(completion_lengths: list[int], reduction: str) -> np.ndarray:
    """Each token's share of the batch's mean, (N,), summing to 1.

    "token": 1 / N. "sequence": the mean over rollouts of the mean over a rollout's tokens.
    """
    if min(completion_lengths) < 1:
        raise ValueError("even an empty answer has its end-of-sequence token")
    weights = []
    for length in completion_lengths:
        for _ in range(length):
            if reduction == "token":
                weights.append(1.0 / sum(completion_lengths))
            elif reduction == "sequence":
                weights.append(1.0 / length / len(completion_lengths))
            else:
                raise ValueError(f"reduction is token or sequence, not {reduction}")
    return np.array(weights)


def standard_loss(
    logits: Logits, completion_lengths: list[int], support: np.ndarray, reduction: str
) -> float:
    """The `standard` objective (Eq. 4)."""
    terms = standard_terms(logits.student_with_image, logits.teacher_with_image, support)
    return _weighted_sum(token_weights(completion_lengths, reduction), terms)


def vgs_losses(
    logits: Logits,
    completion_lengths: list[int],
    support: np.ndarray,
    reduction: str,
    steering_coef: float,
    preservation_coef: float,
) -> Losses:
    """L = L_std + γ·L_vis + λ·L_pres (Eq. 13–18 before η). Gated-off tokens count in L_pres's mean."""
    functions = _component_functions(logits, completion_lengths, support, reduction)
    student = logits.student_with_image, logits.student_text_only
    standard, visual, preservation = [function(*student) for function in functions]
    total = standard + steering_coef * visual + preservation_coef * preservation
    return Losses(standard, visual, preservation, total)


def _component_functions(
    logits: Logits, completion_lengths: list[int], support: np.ndarray, reduction: str
) -> tuple[Callable[[np.ndarray, np.ndarray], float], ...]:
    """L_std, L_vis and L_pres as functions of the student's two logits, (with_image, text_only).

    q* and the gate are computed here, once, from the logits given: what the functions are called with later
    does not reach them, and that is how p(·|x) inside q* comes to carry no gradient.
    """
    weights = token_weights(completion_lengths, reduction)
    targets = visual_targets(logits, support)
    scores = visual_dependency_scores(logits.teacher_with_image, logits.teacher_text_only, support)
    gate = preservation_gate(scores)

    def standard(with_image: np.ndarray, text_only: np.ndarray) -> float:
        return _weighted_sum(weights, standard_terms(with_image, logits.teacher_with_image, support))

    def visual(with_image: np.ndarray, text_only: np.ndarray) -> float:
        return _weighted_sum(weights, visual_terms(with_image, targets, support))

    def preservation(with_image: np.ndarray, text_only: np.ndarray) -> float:
        return _weighted_sum(weights, gate * language_terms(text_only, logits.teacher_text_only, support))

    return standard, visual, preservation


def _weighted_sum(weights: np.ndarray, terms: np.ndarray) -> float:
    return float(sum(weight * term for weight, term in zip(weights, terms, strict=True)))


# Gradients.


def central_difference(
    function: Callable[[np.ndarray], float], at: np.ndarray, step: float = 1e-5
) -> np.ndarray:
    """(f(x + step) − f(x − step)) / (2·step), one entry of `at` at a time; here right to about 1e-9."""
    gradient = np.zeros(at.shape)
    for index in np.ndindex(*at.shape):
        above, below = at.astype(np.float64), at.astype(np.float64)  # astype copies
        above[index] += step
        below[index] -= step
        gradient[index] = (function(above) - function(below)) / (2 * step)
    return gradient


def vgs_gradients(
    logits: Logits, completion_lengths: list[int], support: np.ndarray, reduction: str
) -> Gradients:
    """Derivatives of L_std, L_vis and L_pres with respect to the student's logits, q* held constant."""

    def both_views(function: Callable[[np.ndarray, np.ndarray], float]) -> ViewGradients:
        with_image, text_only = logits.student_with_image, logits.student_text_only
        return ViewGradients(
            with_image=central_difference(lambda moved: function(moved, text_only), with_image),
            text_only=central_difference(lambda moved: function(with_image, moved), text_only),
        )

    functions = _component_functions(logits, completion_lengths, support, reduction)
    return Gradients(*[both_views(function) for function in functions])


def norm_scale(standard_gradient: np.ndarray, visual_gradient: np.ndarray, steering_coef: float) -> float:
    """η = ‖g_std‖ / ‖g_std + γ·g_vis‖ (Eq. 15), of two (P,) gradients over all P trainable numbers.

    1 for γ = 0. The preservation term does not enter. nan where both gradients are 0.
    """
    standard = standard_gradient.astype(np.float64)
    steered = standard + steering_coef * visual_gradient.astype(np.float64)
    return float(np.sqrt((standard**2).sum()) / np.sqrt((steered**2).sum()))
