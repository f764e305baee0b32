"""What the loss phase of a run holds, in arrays of chunk x vocabulary, and how many trees and pulls it makes."""

from vgs_mlx.objective.terms import TERMS
from vgs_mlx.recipe import Recipe
from vgs_mlx.recipe_objective import resolved

LOSS_ARRAYS = {
    frozenset({"cross_entropy"}): 5,
    frozenset({"policy"}): 5,
    frozenset({"standard"}): 8,
    frozenset({"forward_kl"}): 10,
    frozenset({"jsd"}): 12,
    frozenset({"standard", "visual"}): 18,
    frozenset({"standard", "language"}): 20,
    frozenset({"standard", "visual", "language"}): 21,
    frozenset({"standard", "visual_prior"}): 22,
    frozenset({"standard", "language", "visual_prior"}): 23,
}
"""Arrays of chunk x vocabulary that live at once in the loss phase for these terms, counted by measuring on the
CPU: logits, log-probabilities of each model and view, terms, and a gradient for each pulled view."""

SCORE_ARRAYS = {"visual_dependency_score": 3, "visual_advantage": 4}
"""The same while the teacher's scores of tokens are computed."""


def loss_arrays(recipe: Recipe) -> int:
    """How many arrays of chunk x vocabulary the loss phase holds.

    Measured: a policy term beside others adds none; a view of the teacher that only its scores of tokens need adds
    three, being there; separate trees that pull one view twice add one.
    """
    wanted = resolved(recipe)
    terms = frozenset(part.term for part in wanted.parts)
    known = LOSS_ARRAYS[terms if terms == {"policy"} else terms - {"policy"}]
    read = {view for term in terms for view in TERMS[term].teacher}
    unread = "text_only" in wanted.teacher_views - read
    return known + 3 * unread + (trees(recipe) > 1)


def pulls(recipe: Recipe) -> int:
    """Cotangents of hidden states: one for each view that a tree pulls."""
    parts = resolved(recipe).parts
    apart = trees(recipe) > 1
    return len({(part.role if apart else "", TERMS[part.term].pulls) for part in parts})


def trees(recipe: Recipe) -> int:
    """Gradient trees: one for each role where η is measured."""
    found = resolved(recipe)
    measured = found.steers and isinstance(recipe.objective.norm_scale, str)
    return len({part.role for part in found.parts}) if measured else 1
