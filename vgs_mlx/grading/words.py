"""Words, names and codes: only case, spaces around signs and punctuation at a word's end may differ."""

import re

TOKEN = re.compile(r"\d{1,3}(?:,\d{3})+(?!\d)|[^\W_]+|[^\w\s]|_")
BETWEEN_WORDS = re.compile(r"(?<=[^\W\d_]{3})-(?=[^\W\d_]{3})")  # not in x-y or AB-CD
AFTER_WORD = re.compile(
    r"(?<=[^\W\d_])[.,;:]+(?=\s|$)|(?<=[^\W\d_]{2})[!?]+(?=\s|$)|(?<=[)\"'])[.,;:]+(?=\s|$)"
)
QUOTED = re.compile(r"([\"'])(.*)\1", re.DOTALL)
INDEX = re.compile(r"(?<=[A-Za-z)\]])_\{?(\d+)\}?")  # H_2O, a_{12}
CHARGE = re.compile(r"\^\{?(\d*[+-])\}?")
MONTH = re.compile(r"\b(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\b")
FORMULA = re.compile(r"(?:[A-Z][a-z]?\d*|[()\[\]]\d*|[+-])+")
ELEMENT = re.compile(r"[A-Z][a-z]?|\d+|.")
TRUTHS = {"true": "yes", "false": "no"}


def same_words(given: str, right: str) -> bool:
    """Whether two texts are the same, including order and articles. "true" counts as "yes" if "yes" is right."""
    formulas = formula(given), formula(right)
    if all(formulas):
        return formulas[0] == formulas[1]  # CO2 is not Co2
    words = [tokens(given), tokens(right)]
    if len(words[1]) == 1 and words[1][0] in TRUTHS.values():
        words[0] = [TRUTHS.get(word, word) for word in words[0]]
    return bool(words[0]) and words[0] == words[1]


def tokens(text: str) -> list[str]:
    """The words, numbers and signs of a text without its spaces, casefolded."""
    text = text.casefold()
    if quoted := QUOTED.fullmatch(text):
        text = quoted[2]
    text = BETWEEN_WORDS.sub(" ", INDEX.sub(r"\1", CHARGE.sub(r"\1", text)))
    if MONTH.search(text):
        text = text.replace(",", " ")
    return TOKEN.findall(AFTER_WORD.sub(" ", text))


def formula(text: str) -> list[str] | None:
    """The elements and numbers of a text that may be a chemical formula with a number; None for other texts."""
    text = INDEX.sub(r"\1", CHARGE.sub(r"\1", text.replace(" ", "")))
    return ELEMENT.findall(text) if FORMULA.fullmatch(text) and re.search(r"[A-Z]\D*\d", text) else None
