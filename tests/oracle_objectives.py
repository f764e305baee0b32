"""The other objectives once more, as plain float64 NumPy: functions of the student's logits, for finite differences.

Independent of the package, on top of `oracle`. Each loss takes the student's two logits (N, V), so that
what they don't differentiate (targets, gates, the sampling policy) stays as it was given.
"""

from collections.abc import Callable, Sequence

import numpy as np

import oracle

Loss = Callable[[np.ndarray, np.ndarray], float]
LOW, HIGH = 0.4, 0.7


def probabilities(logits: np.ndarray, support: np.ndarray) -> np.ndarray:
    """(N, S)."""
    return np.exp(np.array([oracle.log_softmax(row, support) for row in logits]))


def forward_kl_terms(student: np.ndarray, teacher: np.ndarray, support: np.ndarray) -> np.ndarray:
    return np.array(
        [
            sum(q * np.log(q / p) for p, q in zip(*rows, strict=True))
            for rows in both(student, teacher, support)
        ]
    )


def jsd_terms(student: np.ndarray, teacher: np.ndarray, support: np.ndarray, weight: float) -> np.ndarray:
    found = []
    for p, q in both(student, teacher, support):
        mixture = weight * q + (1 - weight) * p
        found.append(
            weight * (q * np.log(q / mixture)).sum() + (1 - weight) * (p * np.log(p / mixture)).sum()
        )
    return np.array(found)


def both(student: np.ndarray, teacher: np.ndarray, support: np.ndarray):
    return list(zip(probabilities(student, support), probabilities(teacher, support), strict=True))


def policy_terms(
    student: np.ndarray,
    tokens,
    sampling: np.ndarray,
    advantages: np.ndarray,
    clip: float,
    support: np.ndarray,
) -> np.ndarray:
    """Minus the clipped surrogate, token by token."""
    now = oracle.token_logprobs(student, tokens, support)
    found = []
    for new, old, advantage in zip(now, sampling, advantages, strict=True):
        ratio = np.exp(new - old)
        clipped = min(max(ratio, 1 - clip), 1 + clip)
        found.append(-min(ratio * advantage, clipped * advantage))
    return np.array(found)


def va_opd_weights(advantages: Sequence[Sequence[np.ndarray]]) -> list[np.ndarray]:
    """Token weights of prompts × rollouts of visual advantages, flat by rollout; they sum to 1 over the batch."""
    found = []
    for rollouts in advantages:
        means = np.array([values.mean() for values in rollouts])
        deviation = np.sqrt(((means - means.mean()) ** 2).mean())
        shares = np.exp((means - means.mean()) / deviation)
        shares = shares / shares.sum() / len(advantages)
        for share, values in zip(shares, rollouts, strict=True):
            count = max(1, round(0.2 * len(values)))
            high = set(sorted(range(len(values)), key=lambda i: -values[i])[:count])
            found.append(
                np.array(
                    [
                        share * (0.5 / count if i in high else 0.5 / (len(values) - count))
                        for i in range(len(values))
                    ]
                )
            )
    return found


def losses(
    logits: oracle.Logits,
    weights: np.ndarray,
    support: np.ndarray,
    gamma: float,
    lam: float,
    *,
    tokens=None,
    jsd_weight: float = 0.5,
) -> dict[str, Loss]:
    """Each objective's loss without η, as a function of the student's logits (with_image, text_only)."""
    q, q_text = logits.teacher_with_image, logits.teacher_text_only
    targets = oracle.visual_targets(logits, support)
    scores = oracle.visual_dependency_scores(q, q_text, support)
    gate = oracle.preservation_gate(scores)
    low, high = np.quantile(scores, LOW), np.quantile(scores, HIGH)
    adaptive = np.array([0.0 if score <= low else 0.5 if score <= high else 1.0 for score in scores])
    raised = weights * (1 + gamma * gate)

    def mean(terms: np.ndarray, by: np.ndarray = weights) -> float:
        return float((by * terms).sum())

    def standard(image: np.ndarray) -> np.ndarray:
        return oracle.standard_terms(image, q, support)

    def visual(image: np.ndarray) -> np.ndarray:
        return oracle.visual_terms(image, targets, support)

    def language(text: np.ndarray) -> np.ndarray:
        return oracle.language_terms(text, q_text, support)

    def prior(text: np.ndarray) -> np.ndarray:
        return oracle.visual_terms(text, targets, support)

    return {
        "standard": lambda image, text: mean(standard(image)),
        "vgs": lambda image, text: mean(
            standard(image) + gamma * visual(image) + lam * gate * language(text)
        ),
        "adaptive": lambda image, text: mean(
            standard(image) + gamma * adaptive * visual(image) + lam * gate * language(text)
        ),
        "language": lambda image, text: mean(
            standard(image) + gamma * language(text) + lam * gate * prior(text)
        ),
        "vds-weighted": lambda image, text: mean(standard(image), raised / raised.sum()),
        "forward-kl": lambda image, text: mean(forward_kl_terms(image, q, support)),
        "jsd": lambda image, text: mean(jsd_terms(image, q, support, jsd_weight)),
        "sft": lambda image, text: mean(-oracle.token_logprobs(image, tokens, support)),
    }
