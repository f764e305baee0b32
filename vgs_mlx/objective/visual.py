"""What the picture contributes: the two views, the visual target and the visual dependency score."""

from typing import NamedTuple

import mlx.core as mx
from jaxtyping import Float

from vgs_mlx.objective.divergence import reverse_kl


class Views(NamedTuple):
    """The same quantity for the same completion tokens after the prompt with its picture, and without it."""

    with_image: mx.array | None
    text_only: mx.array | None


def visual_target(
    student_text: Float[mx.array, "*B V"],
    teacher_image: Float[mx.array, "*B V"],
    teacher_text: Float[mx.array, "*B V"],
) -> Float[mx.array, "*B V"]:
    """log q*: the student's own language prior, moved by what the picture does to the teacher (Eq. 10).

    log q* = log p(·|x) + log q(·|I,x) − log q(·|x) − log Z*. The student's p(·|x) carries no gradient here
    (a choice of ours; the paper is silent). Equals p(·|x) where the picture doesn't move the teacher.
    """
    unnormalised = mx.stop_gradient(student_text) + teacher_image - teacher_text
    return unnormalised - mx.logsumexp(unnormalised, axis=-1, keepdims=True)


def visual_dependency_score(
    teacher_image: Float[mx.array, "*B V"], teacher_text: Float[mx.array, "*B V"]
) -> Float[mx.array, "*B"]:
    """VDS = KL(q(·|I,x) ‖ q(·|x)) in nats (Eq. 12): how far the picture moves the teacher at each token."""
    return reverse_kl(teacher_image, teacher_text)


def pairs(student: Views, teacher: Views) -> dict[str, tuple[str, mx.array]]:
    """Each loss term as KL(student in a view ‖ target): term -> (the student's view, the target's log-probs).

    A term whose views aren't given is left out.
    """
    found = {}
    if student.with_image is not None and teacher.with_image is not None:
        found["standard"] = ("with_image", teacher.with_image)  # Eq. 3
        if student.text_only is not None and teacher.text_only is not None:
            target = visual_target(student.text_only, teacher.with_image, teacher.text_only)
            found["visual"] = ("with_image", target)  # Eq. 11
    if student.text_only is not None and teacher.text_only is not None:
        found["language"] = ("text_only", teacher.text_only)  # Eq. 6
    return found
