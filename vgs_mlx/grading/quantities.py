"""Numbers with units: 3 cm, $5, 50%, 30°, 9.8 m/s². They are compared by exact value and by the unit's name."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from vgs_mlx.grading.numbers import decimal_comma, read_number
from vgs_mlx.grading.plain import bare
from vgs_mlx.grading.unit_names import Unit
from vgs_mlx.grading.units import UPRIGHT, agree, read_money, read_unit

NO_UNIT: frozenset[Unit] = frozenset()
PERCENT = (("%", 1),)
UNIT_STARTS = re.compile(rf"[ {UPRIGHT}]*(?=[^\W\d_]|[°%$€£¥₹₩₽₺₫฿₪₱₦₴¢]|\\frac)")
PARTS = re.compile(r"(?<=[^\W\d_])(?:\.? and |\.? ?)(?=\d)")  # between 3 hours and 20 minutes
PART = re.compile(r"(\d+(?:\.\d+)?) ?([^\d,;]+)")
SIGN = re.compile(r"[°%$€£¥₹₩₽₺₫฿₪₱₦₴¢]")
MAYBE_VARIABLE = re.compile(
    r"(?:[A-Za-z]|mn|mj|mv|ma|mh|pa|ha|ev|bar?)\.?([ /^·].*)?", re.DOTALL
)  # what may be a unit or a variable


@dataclass(frozen=True)
class Quantity:
    """A number, and the units that its text may name; none if it names none."""

    value: Fraction
    units: frozenset[Unit]


def read_quantity(text: str, gap: bool = True) -> Quantity | None:
    """The quantity that the whole `text` is; None if it is anything else.

    A unit of one letter may be a variable: it counts only after a space, unless `gap` is False.
    """
    plain = bare(text)
    sign, unsigned = (
        (-1, plain[1:].strip()) if plain.startswith("-") else (1, plain.removeprefix("+").strip())
    )
    money, amount = read_money(unsigned)
    if money:
        value = _number(amount)
        return None if value is None else Quantity(sign * value, money)
    if (value := _number(plain)) is not None:
        return Quantity(value, NO_UNIT)
    for number, units, _ in _cuts(text, gap):
        if (value := _number(bare(number))) is not None:
            return Quantity(value, units)
    return None


def same_quantity(given: Quantity, right: Quantity) -> bool:
    """Whether the numbers are equal and the units agree; one side may lack its unit. 50% is also 0.5."""
    if given.value == right.value:
        return agree(given.units, right.units)
    if given.units and right.units:
        return False
    return PERCENT in (given.units | right.units) and _share(given) == _share(right)


def same_parts(given: str, right: str) -> bool:
    """Whether both are the same quantities in several units: 3 hours 20 minutes = 3 h 20 min."""
    parts = [_parts(bare(each)) for each in (given, right)]
    return bool(parts[1]) and len(parts[0]) == len(parts[1]) and all(map(_same_part, *parts))


def _same_part(given: Quantity, right: Quantity) -> bool:
    return given.value == right.value and bool(given.units & right.units)


def _parts(text: str) -> list[Quantity]:
    """The quantities that the text consists of, at least two and each in another unit; else none."""
    found = [PART.fullmatch(each) for each in PARTS.split(text)]
    if len(found) < 2 or not all(found):
        return []
    parts = [Quantity(read_number(each[1]) or Fraction(0), read_unit(each[2])) for each in found]
    return (
        parts
        if all(each.units for each in parts) and len({each.units for each in parts}) == len(parts)
        else []
    )


def cut_unit(text: str) -> tuple[str, frozenset[Unit]]:
    r"""An expression without the unit at its end, and the unit: 2\pi\text{ m} is in metres, but 2\pi m is not.

    A unit of one letter may be a variable: it counts only if it was set upright.
    """
    money, amount = read_money(text)
    if money:
        return bare(amount), money
    for number, units, upright in _cuts(text):
        if upright or not MAYBE_VARIABLE.fullmatch(bare(text)[len(bare(number)) :].strip()):
            return bare(number), units
    return bare(text), NO_UNIT


def _cuts(text: str, needs_gap: bool = True) -> Iterator[tuple[str, frozenset[Unit], bool]]:
    """Ways to cut the text: a possible number or expression, the units of the rest, and whether these are upright."""
    for found in UNIT_STARTS.finditer(text):
        number, rest = text[: found.start()].rstrip(), text[found.end() :]
        gap = bool(found[0])
        if not number or number[-1] in "+-*/·×^_=(\\" or (not gap and number[-1].isalpha()):
            continue
        if needs_gap and not gap and MAYBE_VARIABLE.fullmatch(rest):
            continue  # 3m may be three times m, 3mn three times m times n
        if units := read_unit(bare(rest)):
            yield number, units, UPRIGHT in found[0] or SIGN.match(rest) is not None


def _number(text: str) -> Fraction | None:
    value = read_number(text)
    return decimal_comma(text) if value is None else value


def _share(quantity: Quantity) -> Fraction:
    return quantity.value / 100 if PERCENT in quantity.units else quantity.value
