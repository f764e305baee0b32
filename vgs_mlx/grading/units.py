r"""Units of measure and money, read by name and never converted: 5 kg = 5 kilograms, but 50 mm is not 5 cm.

A spelling may name two units ("pounds" is a weight and money), so a reading is a set of them.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from itertools import product

from vgs_mlx.grading.unit_names import FOLDED, MONEY, SPELLINGS, Unit

LONGEST = 60
UPRIGHT = "\ue001"  # put by `canonical` before a unit that was set upright: 2\pi\text{ m}
BEFORE = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
AFTER = {"squared": 2, "cubed": 3}
WORD = re.compile(r"(?:US|[ACR])\$|°[CF]?(?![A-Za-z])|[%$€£¥₹₩₽₺₫฿₪₱₦₴¢]|[^\W\d_]+(?:-[^\W\d_]+)*\.?")
POWER = re.compile(
    r"\s*\^\s*(?:\{\s*(-?\d)\s*\}|(-?\d))|(?<=[a-z])([23])(?!\d)|\s+(squared|cubed)\b", re.IGNORECASE
)
WORDS_FOR_SIGNS = [
    (re.compile(r"\\frac\s*\{([^{}]*)\}\s*\{([^{}]*(?:\{\d\})?[^{}]*)\}"), r"\1/(\2)"),
    (re.compile(r"\bper cent\b", re.IGNORECASE), "%"),
    (re.compile(r"\bper\b", re.IGNORECASE), "/"),
    (re.compile(r"(?:°|\bdegrees?) ?(?=(?:[CF]|celsius|fahrenheit)\b)", re.IGNORECASE), "°"),
    (re.compile(r"° ?(?=celsius|fahrenheit)", re.IGNORECASE), ""),
    (re.compile(rf"(?<=μ)[ {UPRIGHT}]+(?=[A-Za-z])"), ""),
    (re.compile(r"\*"), "·"),
]


@lru_cache(maxsize=4096)
def read_unit(text: str) -> frozenset[Unit]:
    r"""The units that the whole `text` may name: m/s^2, kg·m^{-3}, \frac{m}{s}, sq. ft; empty if it names none."""
    if len(text) > LONGEST:
        return frozenset()
    for pattern, sign in WORDS_FOR_SIGNS:
        text = pattern.sub(sign, text)
    text = text.replace(UPRIGHT, " ").strip()
    factors, sign, grouped, place = [], 1, False, 0
    while place < len(text):
        character = text[place]
        if character in " ·/()-":
            grouped = character == "(" or (grouped and character != ")")
            sign = {"/": -1, ")": 1}.get(character, sign)
            place += 1
            continue
        units, place = _factor(text, place)
        if not units:
            return frozenset()
        if units in factors:
            return frozenset()  # cm cm
        factors.append([_raised(unit, sign) for unit in units])
        sign = sign if grouped else 1  # m/s·kg divides by s only, J/(kg·K) by both
    return frozenset(map(_multiplied, product(*factors))) if factors else frozenset()


def read_money(text: str) -> tuple[frozenset[Unit], str]:
    """The units that the sign before an amount may mean, and the amount; without a sign, no units and the text."""
    for mark in MONEY:
        if text.startswith(mark):
            return frozenset(SPELLINGS[mark]), text.removeprefix(mark).strip()
    return frozenset(), text


def agree(given: frozenset[Unit], right: frozenset[Unit]) -> bool:
    """Whether two readings can mean the same unit; a side without a unit agrees with any."""
    return not given or not right or bool(given & right)


def _factor(text: str, place: int) -> tuple[Iterable[Unit], int]:
    """The units that the word at `place` may name, raised to its power, and where the word ends."""
    power, word = 1, WORD.match(text, place)
    if word and (before := BEFORE.get(word[0].casefold().removesuffix("."))):
        power = before
        word = WORD.match(text, word.end() + (text[word.end() :][:1] == " "))
    if not word:
        return (), place
    name, end = word[0], word.end()
    if "-" in name and not _named(name):  # ft-lb
        name = name.partition("-")[0]
        end = word.start() + len(name)
    if raised := POWER.match(text, end):
        power, end = (
            AFTER.get((raised[4] or "").casefold()) or int(raised[1] or raised[2] or raised[3]),
            raised.end(),
        )
    return [_raised(unit, power) for unit in _named(name)], end


def _named(spelling: str) -> set[Unit]:
    for each in (spelling, spelling.removesuffix(".")):
        if units := SPELLINGS.get(each) or FOLDED.get(each.casefold()):
            return units
    return set()


def _raised(unit: Unit, power: int) -> Unit:
    return tuple((name, own * power) for name, own in unit)


def _multiplied(factors: Iterable[Unit]) -> Unit:
    total: dict[str, int] = {}
    for name, power in (each for unit in factors for each in unit):
        total[name] = total.get(name, 0) + power
    return tuple(sorted((name, power) for name, power in total.items() if power))
