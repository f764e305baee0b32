"""Answers that look like arithmetic but aren't: 12:30, 2021-03-05, 10-20, 3-1, 192.168.0.1, AB-12, 1920×1080.

They are compared as text, so that 12:30 is not 2:05 and 3-1 is not 4-2.
"""

import re

from vgs_mlx.grading.words import MONTH

NUMBER = r"\d+(?:[.,]\d+)*[°%]?"
MERIDIEM = re.compile(r"\b([ap])\.? ?m\b\.?", re.IGNORECASE)
TIME = re.compile(
    r"\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?: ?[ap]m)?(?: ?[a-z]{2,4})?|\d{1,2} ?[ap]m", re.IGNORECASE
)
JOINED = re.compile(
    r"(?:"
    rf"[+$€£¥]?{NUMBER}(?:-[$€£¥]?{NUMBER})+(?: ?[^\W\d_]{{2,}}| [A-Za-z])?"  # ranges, scores, dates, telephone numbers
    rf"|\+?(?:\d+[ -]?)?\(\d+\)[ -]?\d+(?:[- ]\d+)*"  # (555) 123-4567
    r"|\d+(?:/\d+){2,}|\d+/\d+ ?mmHg"  # dates, blood pressure
    r"|v?\d+(?:\.\d+){2,}(?:[:/]\d+)?"  # versions, IP addresses, dates
    r"|\d+(?::\d+){2,}"  # ratios of three
    r")",
    re.IGNORECASE,
)
SIZE = re.compile(r"\d[\d.,]*(?: ?[a-z\"']{1,4})?(?:×\d[\d.,]*(?: ?[a-z\"']{1,4})?)+", re.IGNORECASE)
FEET = re.compile(r"\d+'(?: ?\d+(?:\.\d+)?\"?)?|\d+°\d+'(?:\d+(?:\.\d+)?\")?")
CODE = re.compile(
    r"(?=.*[A-Z])(?=.*\d)[A-Za-z0-9]+(?:[-./][A-Za-z0-9]+)+|[A-Z]+(?:-[A-Z]+){2,}|[A-Z]{2,}(?:-[A-Z]+)+"
)
DATE = re.compile(
    rf"(?:[a-z]+day,? )?(?:{MONTH.pattern}\.? \d{{1,2}}(?:st|nd|rd|th)?"
    rf"|\d{{1,2}}(?:st|nd|rd|th)? (?:of )?{MONTH.pattern})"
    r"(?:,? \d{4})?",
    re.IGNORECASE,
)
GROUPED = re.compile(r"\d{1,3}(?:\.\d{3}){2,}")  # 2.718.281 is a number
UNIT = re.compile(r"(?<=[\d°%])(?:[^\W\d_]+|[%°])$")
SPACED = re.compile(r"\s*([-:/×])\s*")
SIZED = re.compile(r"(?<=\d)\s*[x×*]\s*(?=\d)", re.IGNORECASE)


def same_literal(given: str, right: str) -> bool | None:
    """Whether two such answers are the same; one of them may lack the unit. None if `right` is not such an answer."""
    wanted, found = read_literal(right), read_literal(given)
    if wanted is None or wanted == found:
        return None if wanted is None else True
    found = found or given.casefold().replace(" ", "")
    units = [UNIT.search(each) for each in (found, wanted)]
    if TIME.fullmatch(wanted) or CODE.fullmatch(wanted) or DATE.fullmatch(wanted) or all(units):
        return False
    return UNIT.sub("", found) == UNIT.sub("", wanted)


def read_literal(text: str) -> str | None:
    """The text in the form in which such answers are compared; None for other texts."""
    if GROUPED.fullmatch(text):
        return None
    if DATE.fullmatch(text):
        return text.casefold().replace(",", "")
    text = _closed_up(SIZED.sub("×", text))
    if TIME.fullmatch(text):
        return re.sub(r"^0(?=\d)", "", text.casefold().replace(" ", ""))
    if JOINED.fullmatch(text) or SIZE.fullmatch(text) or FEET.fullmatch(text):
        return text.casefold().replace(" ", "")
    return text if CODE.fullmatch(text) else None


def is_joined(text: str) -> bool:
    """Whether it is a time, a range, a score, a date or the like, and therefore not a number or an expression."""
    text = _closed_up(text)
    return not GROUPED.fullmatch(text) and bool(TIME.fullmatch(text) or JOINED.fullmatch(text))


def _closed_up(text: str) -> str:
    """The text without spaces around its signs, and with am and pm for a.m. and p.m."""
    return MERIDIEM.sub(r"\1m", SPACED.sub(r"\1", text))
