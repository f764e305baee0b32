"""The loss phase: hidden states in; per-token terms and gradients with respect to hidden states out.

Log-probabilities over the vocabulary exist for `chunk_size` positions at a time, so memory doesn't grow
with completion length x vocabulary. All positions are completion positions: nothing else meets the head.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import mlx.core as mx

from vgs_mlx.objective.divergence import entropy, restricted_logprobs, token_logprobs
from vgs_mlx.objective.objectives import Coefficients
from vgs_mlx.objective.terms import TERMS, Compared, Given, Options, Taken, readable
from vgs_mlx.objective.visual import Views, visual_advantage, visual_dependency_score

Parameters = Mapping[str, mx.array]
"""The head's trainable weights by name; empty where the head is frozen."""


@dataclass(frozen=True)
class Head:
    """A model's language-model head: `apply(parameters, hidden (C, D)) -> logits (C, V)`."""

    apply: Callable[[Parameters, mx.array], mx.array]
    parameters: Parameters


@dataclass(frozen=True)
class Scored:
    """What the loss phase found for N tokens."""

    terms: dict[str, mx.array]  # per token (N,), nats: the loss terms, entropy, and VDS where it was computed
    cotangents: dict[str, Views]  # per part: ∂ loss / ∂ hidden states (N, D) in each view; None where 0
    head_gradients: dict[str, dict[str, mx.array]]  # per part: ∂ loss / ∂ head parameters


def teacher_scores(
    hidden: Views, head: Head, support: mx.array, ids: mx.array, chunk_size: int
) -> dict[str, mx.array]:
    """How much each of N tokens depends on the picture, (N,) nats, in each way that the teacher's views allow.

    VDS (Eq. 12) from the text view, the visual advantage of the token taken from the degraded view.
    """
    found: dict[str, list[mx.array]] = {}
    for window in _windows(hidden.with_image.shape[0], chunk_size):
        teacher = _logprobs(hidden, head, support, window)
        if teacher.text_only is not None:
            scores = visual_dependency_score(teacher.with_image, teacher.text_only)
            found.setdefault("visual_dependency_score", []).append(scores)
        if teacher.degraded is not None:
            full, degraded = (
                token_logprobs(view, ids[window]) for view in (teacher.with_image, teacher.degraded)
            )
            found.setdefault("visual_advantage", []).append(visual_advantage(full, degraded))
        mx.eval([values[-1] for values in found.values()])
    return {name: mx.concatenate(values) for name, values in found.items()}


def score(
    student_hidden: Views,
    teacher_hidden: Views,
    student_head: Head,
    teacher_head: Head | None,
    support: mx.array,
    taken: Taken,
    parts: Mapping[str, Coefficients],
    chunk_size: int,
    options: Options,
) -> Scored:
    """Every term at each of N tokens, and the gradients of each part's weighted sum of terms.

    Hidden states are (N, D) after the final norm, in completion order; `support` (V,) bool; the weights in
    `parts` are (N,). A teacher without views has no head either. Gradients are the terms' closed forms, carried
    through the head by `mx.vjp`.
    """
    chunks = []
    head_gradients: dict[str, dict[str, mx.array]] = {part: {} for part in parts}
    for window in _windows(student_hidden.with_image.shape[0], chunk_size):
        given = Given(
            _logprobs(student_hidden, student_head, support, window),
            _logprobs(teacher_hidden, teacher_head, support, window),
            taken.part(window),
            options,
        )
        compared = _compared(given, parts)
        terms = _reported(given, compared)
        cotangents = {}
        for part, coefficients in parts.items():
            windowed = {term: weights[window] for term, weights in coefficients.items()}
            hidden = Views(*(view if view is None else view[window] for view in student_hidden))
            cotangents[part], gradients = _through_head(
                hidden, student_head, _logit_gradients(compared, windowed)
            )
            _accumulate(head_gradients[part], gradients)
        mx.eval(terms, cotangents, head_gradients)
        chunks.append((terms, cotangents))
    return Scored(_join([terms for terms, _ in chunks]), _join_cotangents(chunks, parts), head_gradients)


def _windows(count: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def _logprobs(hidden: Views, head: Head | None, support: mx.array, window: slice) -> Views:
    return Views(
        *(
            view if view is None else restricted_logprobs(head.apply(head.parameters, view[window]), support)
            for view in hidden
        )
    )


def _compared(given: Given, parts: Mapping[str, Coefficients]) -> dict[str, Compared]:
    """The terms of all parts, and those that can be reported at no further forward pass."""
    names = {term for coefficients in parts.values() for term in coefficients}
    names.update(readable(given.student, given.teacher))
    return {name: term.compare(given) for name, term in TERMS.items() if name in names}


def _reported(given: Given, compared: Mapping[str, Compared]) -> dict[str, mx.array]:
    terms = {name: each.values for name, each in compared.items()}
    if given.teacher.text_only is not None and given.teacher.with_image is not None:
        terms["visual_dependency_score"] = visual_dependency_score(
            given.teacher.with_image, given.teacher.text_only
        )
    terms["entropy"] = entropy(given.student.with_image)
    return terms


def _logit_gradients(compared: Mapping[str, Compared], coefficients: Coefficients) -> Views:
    """∂ (Σ weight · term) / ∂ the student's logits, in each view."""
    found: dict[str, mx.array] = {}
    for term, weights in coefficients.items():
        gradient = weights[:, None] * compared[term].gradient
        view = TERMS[term].pulls
        found[view] = found[view] + gradient if view in found else gradient
    return Views(**found)


def _through_head(hidden: Views, head: Head, logit_gradients: Views) -> tuple[Views, dict[str, mx.array]]:
    names = list(head.parameters)
    cotangents, parameter_gradients = [], {}
    for states, gradient in zip(hidden, logit_gradients, strict=True):
        if gradient is None:
            cotangents.append(None)
            continue
        _, (states_gradient, *rest) = mx.vjp(
            lambda states, *weights: head.apply(dict(zip(names, weights, strict=True)), states).astype(
                mx.float32
            ),
            [states, *head.parameters.values()],
            [gradient],
        )
        cotangents.append(states_gradient)
        _accumulate(parameter_gradients, dict(zip(names, rest, strict=True)))
    return Views(*cotangents), parameter_gradients


def _accumulate(sums: dict[str, mx.array], more: Mapping[str, mx.array]) -> None:
    for name, value in more.items():
        sums[name] = sums[name] + value if name in sums else value


def _join(chunks: list[dict[str, mx.array]]) -> dict[str, mx.array]:
    return {name: mx.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}


def _join_cotangents(chunks: list, parts: Mapping[str, Coefficients]) -> dict[str, Views]:
    joined = {}
    for part in parts:
        views = zip(*(cotangents[part] for _, cotangents in chunks), strict=True)
        joined[part] = Views(*(None if view[0] is None else mx.concatenate(view) for view in views))
    return joined
