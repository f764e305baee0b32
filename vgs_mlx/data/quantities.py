r"""Numbers as people write them, with or without a unit: 1,000; 0.5; 1/2; \frac{1}{2}; 2 1/2; 50%; 3 cm; $5.

Read exactly, as fractions: 1/3 is not 0.333.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction


def _degrees(*scales: str) -> str:
    signs = ("°", "^\\circ", "^{\\circ}", "\\degree", "degree", "degrees", "deg")
    return ",".join(f"{sign} {scale}" for sign in signs for scale in scales)


# Every spelling of a unit, casefolded, a space where there may be one. Units are compared by name and never converted.
SPELLINGS = {
    "%": "%, \\%, percent",
    "°": _degrees(""), "°c": "celsius," + _degrees("c", "celsius"),
    "°f": "fahrenheit," + _degrees("f", "fahrenheit"),
    "mm": "mm, millimeter, millimeters, millimetre, millimetres",
    "cm": "cm, centimeter, centimeters, centimetre, centimetres",
    "m": "m, meter, meters, metre, metres",
    "km": "km, kilometer, kilometers, kilometre, kilometres",
    "in": "in, inch, inches", "ft": "ft, foot, feet", "yd": "yd, yard, yards", "mi": "mi, mile, miles",
    "g": "g, gram, grams", "kg": "kg, kilogram, kilograms",
    "l": "l, liter, liters, litre, litres", "ml": "ml, milliliter, milliliters, millilitre, millilitres",
    "s": "s, sec, second, seconds", "min": "min, minute, minutes", "h": "h, hr, hour, hours",
    "day": "day, days", "week": "week, weeks", "month": "month, months", "year": "year, years",
    "mph": "mph, mile per hour, miles per hour", "km/h": "km / h, kilometers per hour, kilometres per hour",
    "m/s": "m / s, meters per second, metres per second",
    "$": "$, \\$, dollar, dollars", "cent": "¢, cent, cents", "€": "€, euro, euros", "£": "£, pound, pounds",
    "rad": "rad, radian, radians", "unit": "unit, units",
}  # fmt: skip
UNITS = {
    "".join(spelling.split()): unit
    for unit, spellings in SPELLINGS.items()
    for spelling in spellings.split(",")
}
POWERS = {"²": "2", "³": "3", "^2": "2", "^3": "3", "^{2}": "2", "^{3}": "3"}
BEFORE = {"square": "2", "sq": "2", "cubic": "3", "cu": "3"}


def _any_of(texts: Iterable[str]) -> str:
    """A pattern for one of the texts; where they have a space, any white space or none."""
    return "|".join(r"\s*".join(map(re.escape, text.split())) for text in texts)


UNIT_END = re.compile(
    r"(.*?(?:[^\W_]|[.)}\]]))"  # a number or a variable, but no operator and no index
    r"(\s+|(?<![^\W\d_])|(?![a-z]))"  # "3cm", but not the end of a word
    rf"(?:({_any_of(BEFORE)})\b\.?\s*)?({_any_of(','.join(SPELLINGS.values()).split(','))})\s*({_any_of(POWERS)})?",
    re.IGNORECASE | re.DOTALL,
)
VARIABLES = re.compile(r"[a-z](/[a-z])?")  # what looks like m, or like m/s

DECIMAL = r"(?:\d{1,3}(?:,\d{3})+|\d{1,40})(?:\.\d{0,40})?(?:e[-+]?\d{1,2})?|\.\d{1,40}"
PLAIN = re.compile(DECIMAL)
SLASHED = re.compile(rf"({DECIMAL})\s*/\s*({DECIMAL})")
STACKED = re.compile(rf"\\frac\s*\{{\s*({DECIMAL})\s*\}}\s*\{{\s*({DECIMAL})\s*\}}")
MIXED = re.compile(r"(\d{1,9})(?:\s+(\d{1,9})\s*/\s*(\d{1,9})|\s*\\frac\{(\d{1,9})\}\{(\d{1,9})\})")


@dataclass(frozen=True)
class Quantity:
    """A number and its unit, "" where none is named; powers are part of it ("cm2")."""

    value: Fraction
    unit: str


def read_quantity(text: str) -> Quantity | None:
    """The quantity that `text` is as a whole; None where it is anything else."""
    text = text.casefold().strip()
    sign, text = (-1, text[1:].strip()) if text.startswith("-") else (1, text.removeprefix("+").strip())
    for mark in ("\\$", "$", "€", "£"):
        if text.startswith(mark):
            value = _value(text.removeprefix(mark).strip())
            return None if value is None else Quantity(sign * value, UNITS[mark])
    number, unit = cut_unit(text, letters=True)
    value = _value(number)
    return None if value is None else Quantity(sign * value, unit)


def cut_unit(text: str, letters: bool) -> tuple[str, str]:
    """What stands before a unit at the end, and the unit's one name with its power; `text` and "" without one.

    A unit of several letters may follow at once, "3cm". One of a single letter may be a variable: it counts only
    with `letters`, and after a space.
    """
    found = UNIT_END.fullmatch(text)
    if not found:
        return text, ""
    number, gap, before, spelling, power = found.groups("")
    spelling = "".join(spelling.casefold().split())
    if VARIABLES.fullmatch(spelling) and not (letters and gap):
        return text, ""
    return number, UNITS[spelling] + (BEFORE.get(before.casefold(), "") or POWERS.get(power, ""))


def same_quantity(given: Quantity, right: Quantity) -> bool:
    """Equal numbers, and units that are equal or named on one side alone. 50% is also 0.5."""
    if given.unit and right.unit:
        return given == right
    if given.value == right.value:
        return True
    return "%" in (given.unit, right.unit) and _share(given) == _share(right)


def _share(quantity: Quantity) -> Fraction:
    return quantity.value / 100 if quantity.unit == "%" else quantity.value


def _value(text: str) -> Fraction | None:
    if PLAIN.fullmatch(text):
        return _decimal(text)
    if mixed := MIXED.fullmatch(text):
        whole, above, below = (int(part) for part in mixed.groups() if part)
        return whole + Fraction(above, below) if below else None
    if parts := SLASHED.fullmatch(text) or STACKED.fullmatch(text):
        above, below = (_decimal(part) for part in parts.groups())
        return above / below if below else None
    return None


def _decimal(text: str) -> Fraction:
    return Fraction(text.replace(",", "").removesuffix("."))
