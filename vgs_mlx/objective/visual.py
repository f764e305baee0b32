"""What the picture contributes: the views, the visual target, and the scores of visual dependency."""

from typing import NamedTuple

import mlx.core as mx
from jaxtyping import Float

from vgs_mlx.objective.divergence import reverse_kl


class Views(NamedTuple):
    """One quantity at the same completion tokens, after the prompt in each view; None for views that aren't needed."""

    with_image: mx.array | None = None
    text_only: mx.array | None = None
    degraded: mx.array | None = None  # the picture scaled down and up again; for the teacher only (VA-OPD)


def visual_target(
    student_text: Float[mx.array, "*B V"],
    teacher_image: Float[mx.array, "*B V"],
    teacher_text: Float[mx.array, "*B V"],
) -> Float[mx.array, "*B V"]:
    """log q*: the student's own language prior, moved as the picture moves the teacher (Eq. 10).

    log q* = log p(·|x) + log q(·|I,x) − log q(·|x) − log Z*. The student's p(·|x) has no gradient here (our choice;
    the paper doesn't say). q* equals p(·|x) where the picture doesn't move the teacher.
    """
    unnormalised = mx.stop_gradient(student_text) + teacher_image - teacher_text
    return unnormalised - mx.logsumexp(unnormalised, axis=-1, keepdims=True)


def visual_dependency_score(
    teacher_image: Float[mx.array, "*B V"], teacher_text: Float[mx.array, "*B V"]
) -> Float[mx.array, "*B"]:
    """VDS = KL(q(·|I,x) ‖ q(·|x)) in nats (Eq. 12): how far the picture moves the teacher at each token."""
    return reverse_kl(teacher_image, teacher_text)


def visual_advantage(full: Float[mx.array, "*B"], degraded: Float[mx.array, "*B"]) -> Float[mx.array, "*B"]:
    """VA = max(log q(y|I,x) − log q(y|degraded I,x), 0) of the tokens taken, nats (Liu et al., arXiv 2605.21924)."""
    return mx.maximum(full - degraded, 0.0)
