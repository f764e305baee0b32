"""From both models' logits to the terms at each token and their gradients: pure, compiled as one function.

Compiling computes a softmax that several terms read only once, and fuses elementwise work into one pass over memory.
"""

from collections.abc import Mapping

import mlx.core as mx

from vgs_mlx.objective.divergence import entropy, restricted_logprobs, token_logprobs
from vgs_mlx.objective.objectives import Coefficients
from vgs_mlx.objective.terms import TERMS, Comparison, Given, Options, Taken, readable
from vgs_mlx.objective.visual import Views, visual_advantage, visual_dependency_score


def compare(
    student: Views,
    teacher: Views,
    support: mx.array,
    taken: Taken,
    options: Options,
    parts: Mapping[str, Coefficients],
) -> tuple[dict[str, mx.array], dict[str, Views]]:
    """Every term and score at each of C tokens (C,), nats, and for each part ∂ (Σ weight · term) / ∂ logits.

    The gradient is with respect to the student's logits, by view. Logits are (C, V) in each view, `support` is (V,)
    bool, and the weights in `parts` are (C,).
    """
    terms, gradients = _compare(student, teacher, support, taken, vars(options), parts)
    return terms, {part: Views(*each) for part, each in gradients.items()}


@mx.compile
def depend(teacher: Views, support: mx.array, ids: mx.array) -> dict[str, mx.array]:
    """How much each of C tokens depends on the picture, (C,) nats, by each score that the teacher's views allow.

    The text view gives VDS (Eq. 12). The degraded view gives the visual advantage of the token taken.
    """
    return _dependency(_logprobs(teacher, support), ids)


@mx.compile
def _compare(student, teacher, support, taken, options, parts):  # the arguments of `compare`, as trees
    given = Given(_logprobs(student, support), _logprobs(teacher, support), Taken(*taken), Options(**options))
    compared = _compared(given, parts)
    gradients = {part: _logit_gradients(compared, coefficients) for part, coefficients in parts.items()}
    return _reported(given, compared), gradients


def _logprobs(logits: Views, support: mx.array) -> Views:
    return Views(*(each if each is None else restricted_logprobs(each, support) for each in logits))


def _compared(given: Given, parts: Mapping[str, Coefficients]) -> dict[str, Comparison]:
    """The terms of all parts, and the diagnostics that need no further forward pass."""
    names = {term for coefficients in parts.values() for term in coefficients}
    names.update(readable(given.student, given.teacher))
    return {name: term.compare(given) for name, term in TERMS.items() if name in names}


def _reported(given: Given, compared: Mapping[str, Comparison]) -> dict[str, mx.array]:
    terms = {name: each.values for name, each in compared.items()}
    return {
        **terms,
        **_dependency(given.teacher, given.taken.ids),
        "entropy": entropy(given.student.with_image),
    }


def _dependency(teacher: Views, ids: mx.array) -> dict[str, mx.array]:
    found = {}
    if teacher.with_image is not None and teacher.text_only is not None:
        found["visual_dependency_score"] = visual_dependency_score(teacher.with_image, teacher.text_only)
    if teacher.with_image is not None and teacher.degraded is not None:
        full, degraded = (token_logprobs(view, ids) for view in (teacher.with_image, teacher.degraded))
        found["visual_advantage"] = visual_advantage(full, degraded)
    return found


def _logit_gradients(compared: Mapping[str, Comparison], coefficients: Coefficients) -> Views:
    """∂ (Σ weight · term) / ∂ the student's logits, in each view."""
    found: dict[str, mx.array] = {}
    for term, weights in coefficients.items():
        gradient = weights[:, None] * compared[term].gradient
        view = TERMS[term].pulls
        found[view] = found[view] + gradient if view in found else gradient
    return Views(**found)
