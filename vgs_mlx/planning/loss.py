"""What the loss phase holds, in arrays of chunk × vocabulary, and the gradients that it hands on.

All follows from the declarations of terms, scores and objectives. The counts were measured on the CPU for every
objective, alone, watched and mixed with grpo, with a head that has as many rows as the tokenizer has ids and with one
that has more (`python scripts/plan_check.py --arrays`).
"""

from vgs_mlx.objective.objectives import SCORES, Objective
from vgs_mlx.objective.terms import TERMS


def loss_arrays(objective: Objective, pulls: int, *, sliced: bool) -> int:
    """Arrays of chunk × vocabulary at the loss phase's peak.

    Three for each view that is read (logits, masked logits, log-probabilities), less one that is used again; what each
    term declares; two for each of the student's views that a gradient goes to, and one for each of the `pulls`.
    Where the head has more rows than the tokenizer has ids (`sliced`), logits and their gradients exist a second
    time, without those rows.
    """
    views = len(objective.student_views) + len(objective.teacher_views)
    pulled = len(objective.pulled_views) if pulls else 0
    extra = sum(TERMS[term].extra_arrays for term in objective.computed_terms)
    return 3 * views - 1 + extra + 2 * pulled + pulls + sliced * (views + pulls)


def score_arrays(objective: Objective, *, sliced: bool) -> int:
    """Arrays of chunk × vocabulary while the teacher's scores are computed before the terms: a head that trains needs
    them.
    """
    if not objective.scores:
        return 0
    views = len(objective.teacher_views)
    return views + 1 + sum(SCORES[score].extra_arrays for score in objective.scores) + sliced * views


def pulls(objective: Objective, *, separate: bool, head_trains: bool) -> int:
    """How many cotangents of hidden states there are: one for each sum of terms and each view that it pulls.

    `separate`: a tree for each role. A part that is weighted by a score of tokens is a sum of its own, unless the
    scores are known beforehand (train/addends.py).
    """
    pulled = set()
    for part in objective.parts:
        alone = part.score and not head_trains
        name = (part.role, part.term) if alone else part.role if separate else ""
        pulled.add((name, TERMS[part.term].pulls))
    return len(pulled)


def trees(objective: Objective, *, separate: bool) -> int:
    """How many gradient trees there are: one for each role where η is measured (`separate`), else one."""
    return len({part.role for part in objective.parts}) if separate else 1
