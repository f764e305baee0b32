r"""Names, equations, inequalities and intervals: x = 5 for 5, \angle ABC = 60° for 60, x < 3 = 3 > x = (-\infty, 3)."""

import re
from dataclasses import dataclass

from vgs_mlx.grading.brackets import Same, items, ordered, paired, same_multiset, split
from vgs_mlx.grading.quantities import read_quantity
from vgs_mlx.grading.words import same_words

EQUALS = re.compile(r"(?<![<>≤≥≠:])=")
ORDER = re.compile(r"[<>≤≥]")
TURNED = {"<": ">", ">": "<", "≤": "≥", "≥": "≤"}
UNION = re.compile(r"∪|(?<!\w)or(?!\w)")
NAME = re.compile(
    r"(?:m\s*)?[∠∡△⊙]?\s*"
    r"(?:\\(?:overline|vec|hat|widehat|bar|overrightarrow|overleftrightarrow|dot|ddot|tilde)\s*\{[^{}]*\}"
    r"|\|[^|=]+\||\\frac\s*\{\s*d[^{}]*\}\s*\{\s*d[^{}]*\}|\([A-Za-z](?:, *[A-Za-z])*\)"
    r"|(?!\d)\w[\w' -]*?|(?<=[∠∡△⊙])\s*\w+|(?<=[∠∡△⊙] )\w+)"
    r"(?:_(?:\{[^{}]*\}|\w))?'*(?:\s*\([^()]*\))?'*"
)
NO_NAME = re.compile(r"\b(?:and|or|not)\b|[a-z]\s*-\s*[a-z]\b(?![a-z])", re.IGNORECASE)
LIMIT = re.compile(r"lim ?_\{[^{}]*\} ?")
VARIABLE = re.compile(r"[^\W\d_](?:_\{?\w+\}?)?'*|[a-z]\([a-z]\)")
BUILDER = re.compile(r"\\\{\s*([^|:∈]+?)\s*(?:∈\s*ℝ\s*)?[|:]\s*(.*?)\s*\\\}", re.DOTALL)
EVERYTHING = ("ℝ", "all real numbers", "all reals")
LOW, HIGH = "-∞", "∞"


@dataclass(frozen=True)
class Interval:
    """The numbers from `low` to `high`; `ends` are its brackets: "[)" includes only the lower end."""

    low: str
    high: str
    ends: str


def same_named(given: str, right: str, same: Same) -> bool | None:
    """Compares values whose names agree, or one of which has no name; None if neither side has a name."""
    named, wanted = assignment(given), assignment(right)
    if named and wanted:
        if same_words(named[0], wanted[0]):
            return same(named[1], wanted[1])
        return False if read_quantity(named[1]) and read_quantity(wanted[1]) else None
    if wanted:
        return None if is_equation(given) else same(given, wanted[1])
    if named and not is_equation(right):
        return same(named[1], right)
    return None


def assignment(text: str) -> tuple[str, str] | None:
    """The name and the value of "x = 5"; None for other texts, including equations."""
    sides = split(text, EQUALS)
    if len(sides) != 2 or not all(sides):
        return None
    name, value = sides if is_name(sides[0]) else reversed(sides)
    return (
        (name, value)
        if is_name(name) and not (is_name(value) and is_name(sides[0]) and " " in value)
        else None
    )


def is_equation(text: str) -> bool:
    """Whether it has an equals sign outside of brackets: \\sum_{i=1}^{3} i has none."""
    return len(split(text, EQUALS)) > 1


def names_differ(text: str) -> bool:
    """Whether it lists values with different names: x = 1, y = 2."""
    named = [assignment(each) for each in items(text)]
    return len(named) > 1 and all(named) and len({name for name, _ in named}) > 1


def is_name(text: str) -> bool:
    """Whether it can name a quantity: x, v_0, f(x), ∠ABC, |AB|, area of the circle."""
    text = LIMIT.sub("", text.strip())
    return NAME.fullmatch(text) is not None and not NO_NAME.search(text)


def same_order(given: str, right: str, same: Same) -> bool | None:
    """Compares inequalities side by side, whichever way they point; None if `right` isn't one."""
    wanted, found = _chain(right), _chain(given)
    if wanted is None:
        return None
    return found is not None and found[1] == wanted[1] and all(map(same, found[0], wanted[0]))


def same_unequal(given: str, right: str, same: Same) -> bool | None:
    """Compares x ≠ 4 and the like; None if `right` isn't one."""
    wanted, found = right.split("≠"), given.split("≠")
    if len(wanted) != 2:
        return None
    return len(found) == 2 and same_multiset(
        [each.strip() for each in found], [each.strip() for each in wanted], same
    )


def same_intervals(given: str, right: str, same: Same) -> bool | None:
    r"""Compares sets of numbers: (1, 2), x \in (1, 2), 1 < x < 2, and unions; None if `right` isn't one."""
    wanted = None if ordered(right) and ordered(given) else intervals(right)
    if wanted is None:
        return None
    found = intervals(given)
    if found is None and ordered(right):
        return None  # a point, perhaps
    if found is None or (found[0] and wanted[0] and found[0] != wanted[0]):
        return False

    def equal(one: Interval, other: Interval) -> bool:
        return one.ends == other.ends and same(one.low, other.low) and same(one.high, other.high)

    return paired(found[1], wanted[1], equal)


def intervals(text: str) -> tuple[str, list[Interval]] | None:
    """The variable ("" if none is named) and the intervals whose union the text is; None for other texts."""
    if built := BUILDER.fullmatch(text):
        text = built[2]
    variable, belongs, domain = text.partition("∈")
    variable, text = (variable.strip(), domain.strip()) if belongs else ("", text)
    if text in EVERYTHING:
        return variable, [Interval(LOW, HIGH, "()")]
    parts = [_interval(part) for part in split(text, UNION) if part]
    if not parts or None in parts:
        return None
    names = {name for name, _ in parts} - {""} | ({variable} - {""})
    return (names.pop() if names else "", [each for _, each in parts]) if len(names) < 2 else None


def _interval(text: str) -> tuple[str, Interval] | None:
    if chain := _chain(text):
        return _between(*chain)
    found = ordered(text)
    if not found or len(found[1]) != 2 or not re.fullmatch(r"[(\[][)\]]", found[0]) or text[0] not in "([":
        return None
    low, high = found[1]
    return "", Interval(low, HIGH if high == "+∞" else high, found[0])


def _between(sides: list[str], signs: list[str]) -> tuple[str, Interval] | None:
    """The interval of x < 3 or 2 < x ≤ 6, with signs that point upwards; None for other chains."""
    closed = ["≤" in sign for sign in signs]
    if len(sides) == 3 and VARIABLE.fullmatch(sides[1]):
        return sides[1], Interval(
            sides[0], sides[2], ("[" if closed[0] else "(") + ("]" if closed[1] else ")")
        )
    if len(sides) != 2 or all(map(VARIABLE.fullmatch, sides)):
        return None
    if VARIABLE.fullmatch(sides[0]):
        return sides[0], Interval(LOW, sides[1], "(" + ("]" if closed[0] else ")"))
    if VARIABLE.fullmatch(sides[1]):
        return sides[1], Interval(sides[0], HIGH, ("[" if closed[0] else "(") + ")")
    return None


def _chain(text: str) -> tuple[list[str], list[str]] | None:
    """The sides and signs of an inequality, turned so that the signs point upwards; None for other texts."""
    sides, signs = split(text, ORDER), ORDER.findall(text)
    if len(sides) < 2 or len(signs) != len(sides) - 1 or not all(sides) or EQUALS.search(text):
        return None
    if all(sign in "<≤" for sign in signs):
        return sides, signs
    if all(sign in ">≥" for sign in signs):
        return sides[::-1], [TURNED[sign] for sign in signs[::-1]]
    return None
