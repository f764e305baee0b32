"""Declares the objectives: the terms of each, how they are spread over the tokens, and the role of each part."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import mlx.core as mx
import numpy as np

from vgs_mlx.objective.terms import TERMS, diagnostics
from vgs_mlx.objective.weightings import WEIGHTINGS, Batch

Role = Literal["standard", "steering", "preservation"]
Coefficients = dict[str, mx.array]
"""Term -> its weight at every token, (N,)."""


@dataclass(frozen=True)
class Score:
    """A score of tokens that weights may depend on."""

    teacher: tuple[str, ...]  # the views that it is computed from
    extra_arrays: int = (
        0  # measured: chunk × vocabulary arrays held in addition to those of a KL between two views
    )


SCORES = {
    "visual_dependency_score": Score(("with_image", "text_only")),
    "visual_advantage": Score(("with_image", "degraded"), extra_arrays=1),
}


@dataclass(frozen=True)
class Part:
    """An addend of an objective. Its role decides its coefficient: 1, γ for steering, λ for preservation."""

    term: str
    weighting: str = "everywhere"
    role: Role = "standard"
    share: float = 1.0  # in a mixture (Eq. 22)

    @property
    def score(self) -> str | None:
        """The teacher's score of tokens that its weights depend on, if any."""
        return WEIGHTINGS[self.weighting].score


@dataclass(frozen=True)
class Objective:
    """L = η (L_standard + γ L_steering + λ L_preservation), without roles that have no part."""

    parts: tuple[Part, ...]
    on_policy: bool = True  # trains on the student's own samples; else on given answers
    rewarded: bool = False  # its answers have rewards and advantages (GRPO)
    mixed: bool = False  # a mixture has no η

    def has(self, role: Role) -> bool:
        return any(part.role == role for part in self.parts)

    @property
    def steers(self) -> bool:
        """Whether η scales the update."""
        return self.has("steering") and not self.mixed

    @property
    def watchable(self) -> bool:
        """Whether η can be measured without changing the training: all parts have the role "standard"."""
        return all(part.role == "standard" for part in self.parts)

    @property
    def scores(self) -> set[str]:
        """The teacher's scores of tokens that its parts' weights depend on."""
        return {part.score for part in self.parts if part.score}

    @property
    def computed_terms(self) -> set[str]:
        """The terms of its parts, and the diagnostics that need no further views."""
        own = {part.term for part in self.parts}
        return own.union(diagnostics(self.student_views, self.teacher_views))

    @property
    def pulled_views(self) -> set[str]:
        """The student's views that receive gradients."""
        return {TERMS[part.term].pulls for part in self.parts}

    @property
    def student_views(self) -> set[str]:
        """The student's views that its terms read."""
        return {view for part in self.parts for view in TERMS[part.term].student}

    @property
    def teacher_views(self) -> set[str]:
        """The teacher's views that its terms and scores read; empty for an objective that needs no teacher."""
        scored = {view for score in self.scores for view in SCORES[score].teacher}
        return scored | {view for part in self.parts for view in TERMS[part.term].teacher}


_STANDARD = Part("standard")
OBJECTIVES = {
    "standard": Objective((_STANDARD,)),  # Eq. 4
    "vgs": Objective(  # Eq. 13-18
        (_STANDARD, Part("visual", role="steering"), Part("language", "gated", "preservation"))
    ),
    "adaptive": Objective(  # Eq. 24-25
        (_STANDARD, Part("visual", "adaptive", "steering"), Part("language", "gated", "preservation"))
    ),
    "language": Objective(  # Eq. 19-21, the control experiment
        (_STANDARD, Part("language", role="steering"), Part("visual_prior", "gated", "preservation"))
    ),
    "vds-weighted": Objective((Part("standard", "upweighted"),)),  # control: re-weighting without steering
    "va-opd": Objective((Part("standard", "visual_advantage"),)),  # arXiv 2605.21924
    "forward-kl": Objective((Part("forward_kl"),)),
    "jsd": Objective((Part("jsd"),)),  # Agarwal et al. 2024
    "sft": Objective((Part("cross_entropy"),), on_policy=False),
    "grpo": Objective((Part("policy"),), rewarded=True),
}

ALL_TERMS = OBJECTIVES["vgs"]
"""It reads both views of both models, so all terms of the paper can be computed: for watched terms and analyses."""


def resolve(
    name: str, steering_coef: float, preservation_coef: float, mix: float = 0.0, mix_with: str = "standard"
) -> Objective:
    """The objective without the parts whose coefficient is 0, so that they are not computed.

    `mix` α > 0 adds a distillation objective to `grpo`: (1 − α) · policy + α · distillation (Eq. 22).
    """
    objective = OBJECTIVES[name]
    if mix and objective.rewarded:
        own = [replace(part, share=1 - mix) for part in objective.parts]
        added = [replace(part, share=mix) for part in OBJECTIVES[mix_with].parts]
        objective = replace(objective, parts=(*own, *added), mixed=True)
    unused = {"steering": not steering_coef, "preservation": not preservation_coef, "standard": False}
    return replace(objective, parts=tuple(part for part in objective.parts if not unused[part.role]))


def weights_by_role(objective: Objective, batch: Batch) -> dict[str, Coefficients]:
    """The terms' weights at every token for each role, without γ and λ.

    Steering and the measurement of η need a gradient tree for each role.
    """
    by_role: dict[str, dict[str, np.ndarray]] = {}
    for part in objective.parts:
        spread = part.share * WEIGHTINGS[part.weighting].spread(batch)
        terms = by_role.setdefault(part.role, {})
        terms[part.term] = terms.get(part.term, 0.0) + spread
    return {
        role: {term: mx.array(weights, dtype=mx.float32) for term, weights in terms.items()}
        for role, terms in by_role.items()
    }


def total(
    by_role: Mapping[str, Coefficients], steering_coef: float, preservation_coef: float
) -> dict[str, Coefficients]:
    """The roles' weights merged into one sum, with γ and λ: one gradient tree is enough when η isn't measured."""
    factors = role_coefficients(steering_coef, preservation_coef)
    merged: Coefficients = {}
    for role, coefficients in by_role.items():
        for term, weights in coefficients.items():
            merged[term] = merged.get(term, 0.0) + factors[role] * weights
    return {"total": merged}


def role_coefficients(steering_coef: float, preservation_coef: float) -> dict[Role, float]:
    """Each role's coefficient: 1, γ, λ."""
    return {"standard": 1.0, "steering": steering_coef, "preservation": preservation_coef}
