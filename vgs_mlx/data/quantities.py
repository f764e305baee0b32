r"""Numbers as people write them, with or without a unit: 1,000; 0.5; 1/2; \frac{1}{2}; 2 1/2; 50%; 3 cm; $5.

Read exactly, as fractions: 1/3 is not 0.333.
"""

import re
from dataclasses import dataclass
from fractions import Fraction

# Every spelling of a unit, casefolded. Units are compared by name and never converted.
SPELLINGS = {
    "%": "% \\% percent",
    "°": "° ^\\circ ^{\\circ} \\degree degree degrees deg",
    "mm": "mm", "cm": "cm centimeter centimeters centimetre centimetres", "km": "km kilometers kilometres",
    "m": "m meter meters metre metres", "in": "in inch inches", "ft": "ft foot feet",
    "g": "g gram grams", "kg": "kg kilogram kilograms", "l": "l liter liters litre litres", "ml": "ml",
    "s": "s sec second seconds", "min": "min minute minutes", "h": "h hour hours", "day": "day days",
    "year": "year years", "$": "$ \\$ dollar dollars", "€": "€ euro euros", "£": "£ pound pounds",
}  # fmt: skip
UNITS = {spelling: unit for unit, spellings in SPELLINGS.items() for spelling in spellings.split()}
POWERS = {"²": "2", "³": "3", "^2": "2", "^3": "3", "^{2}": "2", "^{3}": "3"}

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
    number, unit = _cut_unit(text)
    value = _value(number)
    return None if value is None else Quantity(sign * value, unit)


def same_quantity(given: Quantity, right: Quantity) -> bool:
    """Equal numbers, and units that are equal or named on one side alone. 50% is also 0.5."""
    if given.unit and right.unit:
        return given == right
    if given.value == right.value:
        return True
    return "%" in (given.unit, right.unit) and _share(given) == _share(right)


def _share(quantity: Quantity) -> Fraction:
    return quantity.value / 100 if quantity.unit == "%" else quantity.value


def _cut_unit(text: str) -> tuple[str, str]:
    """The text before its unit, and the unit's one name with its power."""
    power = next((mark for mark in POWERS if text.endswith(mark)), "")
    text = text.removesuffix(power).strip()
    for spelling in sorted(UNITS, key=len, reverse=True):
        number = text.removesuffix(spelling)
        # "3m" may be three times m: a unit of one letter needs a space
        if number != text and (len(spelling) > 1 or not spelling.isalpha() or number.endswith(" ")):
            return number.strip(), UNITS[spelling] + POWERS.get(power, "")
    return text + power, ""


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
