r"""Grades a completion: is the final answer in its last \boxed{} right, and which rule says so?

It is strict on purpose, since it is a reward. An answer outside a box is wrong; two answers are not one right answer;
an answer is compared as a whole, never searched for inside a sentence. The form of the right answer decides how both
are read.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vgs_mlx.grading import brackets, expressions, literals, mathematics, options, relations
from vgs_mlx.grading.box import extract_answer
from vgs_mlx.grading.numbers import read_based
from vgs_mlx.grading.plain import bare, canonical
from vgs_mlx.grading.quantities import Quantity, cut_unit, read_quantity, same_parts, same_quantity
from vgs_mlx.grading.units import agree
from vgs_mlx.grading.words import formula, same_words
from vgs_mlx.types import Example

LONGEST = 1_000  # characters; a longer answer is right only if it is exactly the same text
DEEPEST = 6  # nested brackets; what is nested deeper is compared as text

Answer = str | int | float
Same = brackets.Same


MEANINGS = {
    "no box": "the completion has no \\boxed{}, or the last one is not closed",
    "empty box": "the last \\boxed{} is empty",
    "option": "another option, several options or none",
    "code": "a time, date, range, score, size, formula or code with other characters or in another order",
    "inequality": "different sides or another sign",
    "equation": "another value, or a statement that is not the one expected",
    "matrix": "another entry, or a different number of rows or columns",
    "interval": "different ends, or an end that is open instead of closed, or the reverse",
    "list": "a part is missing, extra or different; in a list with … the order counts",
    "set": "another element",
    "tuple": "another part, another order or different brackets",
    "base": "another value, or a number without its base",
    "number": "another number, or another unit",
    "unit": "another unit",
    "expression": "not equal, or not shown to be equal in time",
    "text": "another text: only case, spaces and styles may differ",
    "length": "longer than 1,000 characters, and not exactly the same",
}
"""Rule -> what is wrong with an answer that it rejects."""


@dataclass(frozen=True)
class Verdict:
    """Whether an answer is right, and the rule that decided: one of MEANINGS."""

    right: bool
    rule: str


def is_correct(
    completion: str, answer: Answer | Sequence[Answer], options: Sequence[str] | None = None
) -> bool:
    """Whether the completion's final answer is `answer`, or one of several right answers.

    Numbers are read as JSON writes them. `options` are the texts of the options A, B, C, ... if the question has
    options.
    """
    return grade(completion, answer, options).right


def grade_example(completion: str, example: Example, tidy: Callable[[str], str] = str) -> Verdict:
    """The verdict on a completion for a row of a data set; `tidy` rewrites the content of the box first."""
    return grade(completion, example.answers, example.options, tidy)


def grade(
    completion: str,
    answer: Answer | Sequence[Answer],
    options: Sequence[str] | None = None,
    tidy: Callable[[str], str] = str,
) -> Verdict:
    """The verdict on a completion. With several right answers: on the first that it matches, else on the last."""
    given = extract_answer(completion)
    if not given:
        return Verdict(False, "no box" if given is None else "empty box")
    given = tidy(given)
    verdict = Verdict(False, "text")  # if there is no right answer at all
    for right in [answer] if isinstance(answer, Answer) else answer:
        verdict = compare(given, right if isinstance(right, str) else json.dumps(right), options or ())
        if verdict.right:
            break
    return verdict


def gradable(answer: str) -> bool:
    r"""Whether any completion can match `answer`: no \boxed{} can hold "{1", and "." is empty."""
    if extract_answer(f"\\boxed{{{answer}}}") != answer.strip():
        return False
    return len(answer) > LONGEST or bool(bare(canonical(answer)))


def compare(given: str, right: str, options: Sequence[str] = ()) -> Verdict:
    r"""The verdict on a final answer without its box; `right` may be in a box itself."""
    boxed = extract_answer(right)
    right = right if boxed is None else boxed
    if max(len(given), len(right)) > LONGEST:
        return Verdict(given == right, "length")
    comparisons = expressions.Comparisons()
    return _compare(
        canonical(given), canonical(right), [canonical(each) for each in options], comparisons.same, 0
    )


def _compare(given: str, right: str, texts: Sequence[str], equal: Same, depth: int) -> Verdict:
    """Try the rules in order; the first that knows the form of `right` decides."""
    if not bare(given) or not bare(right):
        return Verdict(False, "empty box")
    if same_words(bare(given), bare(right)):
        return Verdict(True, "text") if _units_agree(given, right) else Verdict(False, "unit")
    if depth > DEEPEST:
        return Verdict(False, "text")

    def same(one: str, other: str) -> bool:
        return _compare(one, other, (), equal, depth + 1).right

    if depth == 0 and (chosen := _option(given, right, texts, same)) is not None:
        return Verdict(chosen, "option")
    for rule, decide in RULES:
        if (decided := decide(given, right, same)) is not None:
            return Verdict(decided, rule)
    return _value(given, right, equal)


def _units_agree(given: str, right: str) -> bool:
    """Whether texts that differ at most in case are the same as quantities too: 5 mW is not 5 MW."""
    wanted = None if given == right else read_quantity(right)
    if wanted is None or not wanted.units:
        return True
    found = read_quantity(given)
    return found is not None and bool(found.units & wanted.units)


def _option(given: str, right: str, texts: Sequence[str], same: Same) -> bool | None:
    several = options.same_options(bare(given), bare(right))
    return options.same_option(bare(given), bare(right), texts, same) if several is None else several


def _literal(given: str, right: str, _: Same) -> bool | None:
    same = literals.same_literal(bare(given), bare(right))
    if same is None and (literals.is_joined(bare(given)) or formula(bare(right))):
        return False
    return same


def _system(given: str, right: str, same: Same) -> bool | None:
    wanted, found = brackets.cases(right), brackets.cases(given)
    if wanted is None:
        return None
    return brackets.same_multiset(brackets.items(given) if found is None else found, wanted, same)


def _list(given: str, right: str, same: Same) -> bool | None:
    """A list. If it may also be a number (3,5), either reading counts. Values with different names keep their order."""
    if relations.names_differ(right) and not relations.is_equation(given):
        wanted, found = brackets.items(right), brackets.items(given)
        return len(found) == len(wanted) and all(map(same, found, wanted))
    listed = brackets.same_list(given, right, same)
    return None if listed is False and read_quantity(right) else listed


def _based(given: str, right: str, _: Same) -> bool | None:
    wanted, found = read_based(bare(right)), read_based(bare(given))
    if wanted and found:
        return wanted[0] == found[0]
    if not wanted and not found:
        return None
    value, base = wanted or found
    other = read_quantity(given if wanted else right)
    return base == 10 and other is not None and other.value == value


def _value(given: str, right: str, equal: Same) -> Verdict:
    """The last rules: numbers and expressions, with or without units."""
    quantities = [read_quantity(given), read_quantity(right)]
    if all(quantities):
        return Verdict(same_quantity(*quantities), "number")
    if relations.is_equation(given) and not relations.is_equation(right):
        return Verdict(False, "equation")
    if _one_names_a_unit(quantities):
        closer = [read_quantity(each, gap=False) for each in (given, right)]  # 18m is then 18 m
        if all(closer) and all(each.units for each in closer) and same_quantity(*closer):
            return Verdict(True, "number")
    exact = _exact(quantities[1])
    if not (quantities[1] and quantities[1].units) and _equal_expressions(
        bare(given), exact or bare(right), equal
    ):
        return Verdict(True, "expression")
    (found, found_units), (wanted, wanted_units) = cut_unit(given), cut_unit(right)
    if not agree(found_units, wanted_units):
        return Verdict(False, "unit")
    cut = quantities[1] is not None or (found, wanted) != (bare(given), bare(right))
    same = cut and _equal_expressions(found, exact or wanted, equal)
    rule = (
        "expression"
        if all(map(mathematics.is_expression, (found, wanted)))
        else "number"
        if exact
        else "text"
    )
    return Verdict(same, rule)


def _one_names_a_unit(quantities: Sequence[Quantity | None]) -> bool:
    return quantities.count(None) == 1 and any(each is not None and each.units for each in quantities)


def _exact(quantity: Quantity | None) -> str:
    """A number in a spelling that no parser can misread: 1e-05 might be 1·e - 05."""
    return "" if quantity is None else rf"\frac{{{quantity.value.numerator}}}{{{quantity.value.denominator}}}"


def _equal_expressions(given: str, right: str, equal: Same) -> bool:
    texts = (given, right)
    return all(map(mathematics.is_expression, texts)) and equal(*map(mathematics.to_latex, texts))


Rule = Callable[[str, str, Same], bool | None]
RULES: tuple[tuple[str, Rule], ...] = (
    ("code", _literal),
    ("inequality", relations.same_unequal),
    ("equation", relations.same_named),
    ("matrix", brackets.same_matrix),
    ("number", lambda given, right, _: same_parts(given, right) or None),
    ("list", _system),
    ("interval", relations.same_intervals),
    ("inequality", relations.same_order),
    ("list", _list),
    ("set", brackets.same_set),
    ("tuple", brackets.same_tuple),
    ("base", _based),
)
"""The rules for the forms of a right answer, in the order in which they are tried."""
