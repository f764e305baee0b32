r"""Answers of several parts: lists, sets, points, intervals' ends, matrices. The parts are compared one by one.

A list in text is a multiset, "3, 5" = "5 and 3"; braces make a set; round, square and angle brackets keep the order.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from vgs_mlx.grading.plain import ROW_END
from vgs_mlx.grading.words import same_words

Same = Callable[[str, str], bool]
"""(given, right) -> whether these two parts of an answer mean the same."""

Part = TypeVar("Part")
MOST = 40  # parts; an answer with more is compared as text
OPENING, CLOSING = "([{⟨⌊⌈", ")]}⟩⌋⌉"
GROUPED = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?!\d|,\d)")
JOINT = re.compile(r"(?:[,;]\s*)?(?<!\w)(?:and|or)(?!\w)|[,;]|(?<=\s)&(?=\s)", re.IGNORECASE)
JOINING_WORD = re.compile(r"\b(?:and|or)\b", re.IGNORECASE)
MATRIX = re.compile(
    r"[(\[|‖]?\s*\\begin\s*\{(\w*matrix|array)\*?\}(?:\s*\{[lcr|\s]*\}|\[[lcr]\])?(.*?)\\end\s*\{\w+\*?\}\s*[)\]|‖]?",
    re.DOTALL,
)
CASES = re.compile(
    r"[.\\{]*\s*\\begin\s*\{(?:cases|aligned|array)\}(?:\{[lcr]*\})?(.*?)\\end\s*\{\w+\}", re.DOTALL
)
DETERMINANT = ("vmatrix", "Vmatrix")


def same_list(given: str, right: str, same: Same) -> bool | None:
    """Whether both list the same things equally often, in any order; None if `right` is not a list."""
    wanted = items(right)
    if len(wanted) < 2:
        return None
    found = items(_inside(given) if given.startswith("\\{") else given)
    if _joints(given) and _joints(right) and _joints(given) != _joints(right):
        return False  # "red or blue" is not "red and blue"
    if any("…" in each for each in wanted):
        return len(found) == len(wanted) and all(map(same, found, wanted))
    return same_multiset(found, wanted, same)


def same_set(given: str, right: str, same: Same) -> bool | None:
    """Whether two sets are equal, ignoring repeats; None if `right` is not a set."""
    wanted, found = members(right), members(given)
    if wanted is None:
        return None
    if found is None:
        found = items(given)
        return len(found) > 1 and same_multiset(found, wanted, same)
    return all(any(same(one, other) for other in wanted) for one in found) and all(
        any(same(one, other) for one in found) for other in wanted
    )


def same_tuple(given: str, right: str, same: Same) -> bool | None:
    """Whether the brackets and their parts are the same, in order; None if `right` has no such brackets."""
    wanted, found = ordered(right), ordered(given)
    if wanted is None:
        return None
    if found is None or found[0] != wanted[0] or len(found[1]) != len(wanted[1]):
        return False
    names = [re.match(r"[A-Za-z]?'?", each)[0] for each in (given, right)]
    return (not all(names) or names[0] == names[1]) and all(map(same, found[1], wanted[1]))


def same_matrix(given: str, right: str, same: Same) -> bool | None:
    """Whether two matrices, or two determinants, have the same rows; None if `right` is neither."""
    wanted, found = matrix(right), matrix(given)
    if wanted is None:
        return None
    if found is None or found[0] != wanted[0] or list(map(len, found[1])) != list(map(len, wanted[1])):
        return False
    return all(all(map(same, *rows)) for rows in zip(found[1], wanted[1], strict=True))


def same_multiset(found: Sequence[str], wanted: Sequence[str], same: Same) -> bool:
    """Whether each of `wanted` has its own counterpart in `found`, and none is left over. Equal words pair first."""
    return paired(found, wanted, same_words, same)


def paired(found: Sequence[Part], wanted: Sequence[Part], *tests: Callable[[Part, Part], bool]) -> bool:
    """Whether each of `wanted` has its own counterpart in `found`, by the first test that finds one."""
    if len(found) != len(wanted):
        return False
    left = list(found)
    for each in wanted:
        match = next((one for test in tests for one in left if test(one, each)), None)
        if match is None:
            return False
        left.remove(match)
    return True


def items(text: str) -> list[str]:
    r"""The parts of a list in text: "3, 5", "3 and 5", "2\pm 1". A text that is not a list is its only part."""
    parts = [part for part in split(text, JOINT) if part]
    if len(parts) > MOST:
        return [text]
    return [each for part in parts for each in _both_signs(part)]


def _both_signs(text: str) -> list[str]:
    """2 + 1 and 2 - 1 for 2 ± 1."""
    if text.count("±") != 1 or "∓" in text:
        return [text]
    return [text.replace("±", sign).removeprefix("+").strip() for sign in "+-"]


def members(text: str) -> list[str] | None:
    r"""The members listed in \{ \}; None if the text is not such a set."""
    if text == "∅":
        return []
    if not (text.startswith("\\{") and text.endswith("\\}")) or re.search(r"[|:]", text):
        return None
    inner = _inside(text)
    return items(inner) if inner else []


def ordered(text: str) -> tuple[str, list[str]] | None:
    """The brackets around the text and the two or more parts in them: "(4, 5]" is ("(]", ["4", "5"])."""
    found = re.fullmatch(r"(?:[A-Za-z]'?\s*)?([(\[⟨])(.*)([)\]⟩])", text, re.DOTALL)
    if not found or not _is_one(text):
        return None
    parts = split(found[2], re.compile(r"[,;]"))
    if len(parts) < 2:
        parts = split(found[2], re.compile(r"[,;]"), grouped=False)
    return (found[1] + found[3], parts) if 2 <= len(parts) <= MOST and all(parts) else None


def matrix(text: str) -> tuple[bool, list[list[str]]] | None:
    """Whether it is a determinant, and its rows of cells; None if the text is not a matrix."""
    found = MATRIX.fullmatch(text)
    if not found:
        return None
    straight = found[1] in DETERMINANT or (text.lstrip()[0] in "|‖" and found[1] in ("array", "matrix"))
    return straight, [[cell.strip() for cell in row.split("&")] for row in _rows(found[2])]


def cases(text: str) -> list[str] | None:
    """The lines of a system of equations; None for other texts."""
    found = CASES.fullmatch(text)
    return [row.replace("&", "").strip() for row in _rows(found[1])] if found else None


def split(text: str, separator: re.Pattern, grouped: bool = True) -> list[str]:
    """The parts between separators outside of brackets. Commas that group a number's digits don't separate."""
    kept = {place for each in GROUPED.finditer(text) for place in range(*each.span())} if grouped else set()
    depths = list(_depths(text))
    parts, start = [], 0
    for found in separator.finditer(text):
        if found.start() >= start and depths[found.start()] == 0 and found.start() not in kept:
            parts.append(text[start : found.start()].strip())
            start = found.end()
    return [*parts, text[start:].strip()]


def _depths(text: str) -> Iterator[int]:
    """How many brackets are open at each character."""
    depth = 0
    for character in text:
        if character in CLOSING:
            depth = max(0, depth - 1)
        yield depth
        depth += character in OPENING


def _is_one(text: str) -> bool:
    """Whether the first bracket of the text is closed by its last character."""
    depths = list(_depths(text))
    start = next(place for place, character in enumerate(text) if character in OPENING)
    return all(depth > 0 for depth in depths[start + 1 : -1]) and depths[-1] == 0


def _inside(text: str) -> str:
    return text.removeprefix("\\{").removesuffix("\\}").strip()


def _joints(text: str) -> set[str]:
    return {each.casefold() for each in JOINING_WORD.findall(text)}


def _rows(text: str) -> list[str]:
    rows = re.split(rf"{ROW_END}(?:\[[^\]]*\])?|\\cr(?![a-z])", re.sub(r"\\hline", "", text))
    return [row for row in rows if row.strip()]
