"""What the loss phase holds, in arrays of chunk x vocabulary, and the gradients that it hands on.

The counts were measured on the CPU for every objective, alone, watched and mixed with grpo, with a head that has
as many rows as the tokenizer has ids and with one that has more (`python scripts/plan_check.py --arrays`).
"""

from vgs_mlx.objective.objectives import Objective
from vgs_mlx.objective.terms import TERMS

TERM_ARRAYS = {"forward_kl": 2, "jsd": 4, "visual_prior": 2}
"""What a term's value and gradient hold beyond those of a reverse KL to distributions that are there anyway."""


def loss_arrays(objective: Objective, pulls: int, *, sliced: bool) -> int:
    """Arrays of chunk x vocabulary at the loss phase's peak.

    Three of each view that is read (logits, masked ones, log-probabilities), less one that is used again; four more
    where all views are there, for the visual target; two of each of the student's views that a gradient goes to, and
    one for each of the `pulls`. Where the head has more rows than the tokenizer has ids (`sliced`), logits
    and their gradients exist a second time, without those rows.
    """
    views = len(objective.student_views) + len(objective.teacher_views)
    target = TERMS["visual"]
    whole = {*target.student} <= objective.student_views and {*target.teacher} <= objective.teacher_views
    pulled = {TERMS[part.term].pulls for part in objective.parts} if pulls else set()
    extra = max((TERM_ARRAYS.get(part.term, 0) for part in objective.parts), default=0)
    return 3 * views - 1 + 4 * whole + 2 * len(pulled) + pulls + extra + sliced * (views + pulls)


def score_arrays(objective: Objective, *, sliced: bool) -> int:
    """The same while the teacher's scores of tokens are computed before the terms (a head that trains needs them)."""
    if not objective.scores:
        return 0
    views = len(objective.teacher_views)
    return views + 1 + ("visual_advantage" in objective.scores) + sliced * views


def pulls(objective: Objective, *, separate: bool, head_trains: bool) -> int:
    """Cotangents of hidden states: one for each sum of terms and view that it pulls.

    `separate`: a tree for each role. A part that is weighted by a score of tokens makes a sum of its own unless the
    scores are known before (train/addends.py).
    """
    found = set()
    for part in objective.parts:
        alone = part.score and not head_trains
        name = (part.role, part.term) if alone else part.role if separate else ""
        found.add((name, TERMS[part.term].pulls))
    return len(found)


def trees(objective: Objective, *, separate: bool) -> int:
    """Gradient trees: one for each role where η is measured."""
    return len({part.role for part in objective.parts}) if separate else 1
