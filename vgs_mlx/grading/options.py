r"""Multiple choice: "B", "(B)", "Option B", "B. 45°" choose the same option, and a hedge chooses none."""

import re
from collections.abc import Sequence

from vgs_mlx.grading.brackets import Same, items

LEAD = r"(?:(?:the\s+)?(?:correct\s+)?(?:option|choice|answer)\s*(?:is\s*)?:?\s*)?"
LETTER = re.compile(rf"{LEAD}[(\[]?\s*([a-z])\s*[)\]]?\s*[.:)]?", re.IGNORECASE)
# "B", "(B) 45°", "Option B. 45°"; not "B 45", since "A or B" begins like that
LED_BY_LETTER = re.compile(
    rf"{LEAD}[(\[]?\s*([A-J])\s*(?:(?:[)\].:]|\s-\s)+\s*(.*))?", re.IGNORECASE | re.DOTALL
)
# A letter that stands for an option: "B", "(b)", "or b", but not "a circle", "AB", "f(a)", "I and II", "45° C"
OPTION_NAMED = re.compile(
    r"(?![Aa]\s+(?!or\b|and\b)[a-z])(?:(?<![A-Za-z\d°])(?<!° )[A-HJ](?![A-Za-z\d])"
    r"|(?<=\()(?<![A-Za-z\d]\()[a-hj](?=\))|(?<=\bor )[a-hj]\b|(?<=\band )[a-hj]\b|(?<=, )[a-hj](?=[).:]))"
)
KEY = re.compile(r"[(\[]?([A-J])[)\].:]+\s+(\S.*)", re.DOTALL)  # "B. 45°"
LISTED = re.compile(r"^\s*[(\[]?([A-J])[).:\]]+ *(\S.*?)\s*$", re.MULTILINE)
FILLER = {"and", "or", "option", "options", "answer", "answers", "choice", "choices"}


def listed(question: str) -> tuple[str, ...]:
    """The options that a question lists on lines of their own, "A. red", in order; empty if it lists none."""
    found = LISTED.findall(question)
    letters = "".join(letter for letter, _ in found)
    found, letters = found[max(letters.rfind("A"), 0) :], letters[max(letters.rfind("A"), 0) :]
    return tuple(text for _, text in found) if len(found) > 1 and "ABCDEFGHIJ".startswith(letters) else ()


def same_option(given: str, right: str, options: Sequence[str], same: Same) -> bool | None:
    """Whether the right option is chosen; None if `right` is not an option.

    `right` is a letter, a letter with its text, or the text of one of the `options`. `given` may be any of these, but
    the text alone only if the options are known.
    """
    key = KEY.fullmatch(right)
    letter = LETTER.fullmatch(right)
    if right.islower() and right > "j" and not options:
        letter = None  # a variable
    if key or letter:
        name, text = (key[1], key[2]) if key else (letter[1].upper(), _text(letter[1].upper(), options))
        return _chosen(given, name.upper(), text, options, same)
    place = next((n for n, each in enumerate(options) if same(each, right)), None)
    if place is None:
        return None
    return _chosen(given, chr(ord("A") + place), options[place], options, same) or None


def same_options(given: str, right: str) -> bool | None:
    """Whether the same options are chosen, in any order: "C, A", "A and C", "AC"; None if `right` isn't several."""
    wanted = [LETTER.fullmatch(each) for each in items(right)]
    if len(wanted) < 2 or not all(wanted):
        return None
    if re.search(r"\bor\b", given, re.IGNORECASE) and not re.search(r"\bor\b", right, re.IGNORECASE):
        return False  # a hedge
    words = re.findall(r"[A-Za-z]+|[^\sA-Za-z,;&().]", given)
    letters = [word.upper() if len(word) == 1 else word for word in words if word.casefold() not in FILLER]
    if not all(word.isalpha() and word.isupper() for word in letters):
        return False
    return sorted("".join(letters)) == sorted(each[1].upper() for each in wanted)


def _chosen(given: str, letter: str, text: str, options: Sequence[str], same: Same) -> bool:
    led, alone = LED_BY_LETTER.fullmatch(given), LETTER.fullmatch(given)
    if alone and (not led or not led[2]):
        return alone[1].upper() == letter
    if not led:
        return text in options and same(given, text)
    rest = led[2] or ""
    if led[1].upper() != letter:
        return text in options and same(given, text)
    if text:
        return same(rest, text)
    named = {found[0].upper() for found in OPTION_NAMED.finditer(rest)}
    return named <= {letter}


def _text(letter: str, options: Sequence[str]) -> str:
    place = ord(letter) - ord("A")
    return options[place] if place < len(options) else ""
