"""Every loss term: the views it reads, the student's view it has a gradient in, and its values and gradients."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import NamedTuple

import mlx.core as mx

from vgs_mlx.objective import divergence
from vgs_mlx.objective.policy import clipped_surrogate, clipped_surrogate_gradient
from vgs_mlx.objective.visual import Views, visual_target


@dataclass(frozen=True)
class Options:
    """The settings of individual terms."""

    jsd_weight: float = 0.5  # β of the generalised Jensen-Shannon divergence
    clip: float = 0.2  # GRPO's ratio is clipped at 1 ± this


class Taken(NamedTuple):
    """The N tokens taken, with their data from sampling, (N,) each."""

    ids: mx.array  # int32
    sampling_logprobs: mx.array | None = None  # nats, of the distribution they were sampled from
    advantages: mx.array | None = None  # of the rollouts, or of their steps

    def part(self, window: slice) -> "Taken":
        return Taken(*(None if each is None else each[window] for each in self))


class Given(NamedTuple):
    """Everything that a term may read for C tokens. Both models' log-probabilities are (C, V) in each view."""

    student: Views
    teacher: Views
    taken: Taken
    options: Options


class Comparison(NamedTuple):
    """A term at C tokens. Both arrays are lazy: an unused one costs nothing."""

    values: mx.array  # (C,) nats
    gradient: mx.array  # (C, V), ∂ value / ∂ logits of the student in the view `Term.pulls`


@dataclass(frozen=True)
class Term:
    """A loss term, as the loss phase, the step and the plan need it."""

    compare: Callable[[Given], Comparison]
    pulls: str = "with_image"  # the student's view that receives its gradient
    student: tuple[str, ...] = ("with_image",)  # the views that it reads
    teacher: tuple[str, ...] = ("with_image",)
    extra_arrays: int = (
        0  # measured: chunk × vocabulary arrays held in addition to those of a reverse KL between two views
    )


BOTH = ("with_image", "text_only")
DIAGNOSTICS = ("standard", "visual", "language")
"""Terms that are reported whenever the views they read are computed anyway."""


def _kl(student: mx.array, target: mx.array) -> Comparison:
    return Comparison(divergence.reverse_kl(student, target), divergence.reverse_kl_gradient(student, target))


def _target(given: Given) -> mx.array:
    return visual_target(given.student.text_only, given.teacher.with_image, given.teacher.text_only)


def _forward_kl(given: Given) -> Comparison:
    pair = given.student.with_image, given.teacher.with_image
    return Comparison(divergence.forward_kl(*pair), divergence.forward_kl_gradient(*pair))


def _jensen_shannon(given: Given) -> Comparison:
    both = given.student.with_image, given.teacher.with_image, given.options.jsd_weight
    return Comparison(divergence.jensen_shannon(*both), divergence.jensen_shannon_gradient(*both))


def _cross_entropy(given: Given) -> Comparison:
    student, ids = given.student.with_image, given.taken.ids
    return Comparison(-divergence.token_logprobs(student, ids), _less_one_hot(student, ids))


def _policy(given: Given) -> Comparison:
    student, taken = given.student.with_image, given.taken
    logprobs = divergence.token_logprobs(student, taken.ids)
    known = taken.sampling_logprobs, taken.advantages, given.options.clip
    pull = clipped_surrogate_gradient(logprobs, *known)
    return Comparison(-clipped_surrogate(logprobs, *known), pull[:, None] * _less_one_hot(student, taken.ids))


def _less_one_hot(logprobs: mx.array, ids: mx.array) -> mx.array:
    """p − 1[token], (C, V): minus the gradient of the token's log-probability with respect to the logits."""
    return mx.exp(logprobs) - (mx.arange(logprobs.shape[-1]) == ids[:, None])


TERMS = {
    "standard": Term(lambda given: _kl(given.student.with_image, given.teacher.with_image)),  # Eq. 3
    "visual": Term(  # Eq. 11
        lambda given: _kl(given.student.with_image, _target(given)),
        student=BOTH,
        teacher=BOTH,
        extra_arrays=4,
    ),
    "language": Term(  # Eq. 6
        lambda given: _kl(given.student.text_only, given.teacher.text_only),
        "text_only",
        ("text_only",),
        ("text_only",),
    ),
    "visual_prior": Term(  # Eq. 21: KL(p(·|x) ‖ q*), which preserves the visual part while language is steered
        lambda given: _kl(given.student.text_only, _target(given)),
        "text_only",
        ("text_only",),
        BOTH,
        extra_arrays=2,
    ),
    "forward_kl": Term(_forward_kl, extra_arrays=2),
    "jsd": Term(_jensen_shannon, extra_arrays=4),
    "cross_entropy": Term(_cross_entropy, teacher=()),  # −log p of the given tokens
    "policy": Term(_policy, teacher=()),  # minus GRPO's clipped surrogate
}


def readable(student: Views, teacher: Views) -> list[str]:
    """The diagnostics that can be computed from the given views."""
    return diagnostics(_there(student), _there(teacher))


def diagnostics(student: Collection[str], teacher: Collection[str]) -> list[str]:
    """The diagnostics that read only these views of the student and the teacher."""
    return [
        name
        for name in DIAGNOSTICS
        if {*TERMS[name].student} <= {*student} and {*TERMS[name].teacher} <= {*teacher}
    ]


def _there(views: Views) -> list[str]:
    return [name for name, array in views._asdict().items() if array is not None]
