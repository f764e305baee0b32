r"""Numbers as people write them, read exactly: 1,000; 3,5; 1/2; \frac{1}{2}; 2½; 0.\overline{3}; 1.6×10^{-19}; 2^{10}.

They are fractions: 1/3 is not 0.333, and no number is rounded.
"""

import re
from fractions import Fraction

DIGITS = 40  # of a number; a longer number is compared as text
EXPONENT, BITS = 10_000, 40_000  # powers beyond these are not computed

WHOLE = r"(?:\d{1,3}(?:,\d{3})+|\d{1,3}(?:\.\d{3}){2,}|\d{1,3}(?: \d{3})+|\d{1,3}(?:'\d{3})+|\d+)(?!\d)"
DECIMAL = rf"(?:{WHOLE}(?:\.\d*)?|\.\d+)"
INDIAN = re.compile(r"\d{1,2}(?:,\d{2})+,\d{3}(?:\.\d+)?")
PLAIN = re.compile(DECIMAL)
EUROPEAN = re.compile(r"(\d{1,3}(?:[. ]\d{3})*|\d+),(\d+)(?!\d)(.*)")
SHORT_POWER = re.compile(rf"({DECIMAL})\s?[eE]\s?\^?\{{?([-+]?\d{{1,9}})\}}?")
TIMES_POWER = re.compile(
    rf"(?:({DECIMAL})\s*[×·*xX]\s*)?10\s*\^\s*(?:\{{\s*([-+]?\s*\d+)\s*\}}|\(([-+]?\d+)\)|([-+]?\d+))"
)
POWER = re.compile(r"([^{}^]+)\^\s*(?:\{\s*([-+]?\d+)\s*\}|([-+]?\d+))")
STACKED = re.compile(r"\\frac\s*\{((?:[^{}]|\{[^{}]*\})*)\}\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
MIXED = re.compile(r"(\d+)\s*\\frac\s*\{\s*(\d+)\s*\}\s*\{\s*(\d+)\s*\}|(\d+) (\d+)\s*/\s*(\d+)")
SLASHED = re.compile(r"([^/]+)/([^/]+)")
RATIO = re.compile(rf"({DECIMAL})\s*:\s*({DECIMAL})")
REPEATING = re.compile(
    r"(\d*)\.(\d*)(?:\\(?:overline|bar|dot)\s*\{(\d+)\}|\((\d+)\)|\\(?:overline|bar|dot)\s*(\d))"
)
DOTTED = re.compile(r"(\d*)\.(\d*)\\dot\s*\{?(\d)\}?(\d*)\\dot\s*\{?(\d)\}?")
GOES_ON = re.compile(r"(\d*)\.(\d*?)(\d+?)\3{2,}…|(\d*)\.(\d*?)(\d{2,}?)\6…")
SCALES = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12}
SCALED = re.compile(rf"({DECIMAL})\s*({'|'.join(SCALES)})", re.IGNORECASE)
BASED = re.compile(r"\(?(\d[\dA-F]*|[A-F][\dA-F]+)\)?_(?:\{\s*(\d{1,2}|[a-z]+)\s*\}|(\d{1,2}))")
BASES = {
    "two": 2,
    "three": 3,
    "four": 4,
    "five": 5,
    "six": 6,
    "seven": 7,
    "eight": 8,
    "ten": 10,
    "sixteen": 16,
}


def read_number(text: str) -> Fraction | None:
    """The number that the whole `text` is; None if it is anything else."""
    text = text.strip()
    sign = -1 if text.startswith("-") else 1
    if text[:1] in ("-", "+"):
        text = text[1:].strip()
    if not text or text[0] in "-+":
        return None
    inner = _without_brackets(text)
    value = read_number(inner) if inner is not text else _unsigned(text)
    return None if value is None else sign * value


def read_based(text: str) -> tuple[int, int] | None:
    """The value and the base of digits with an index: 1011_2 is (11, 2). None for other texts."""
    found = BASED.fullmatch(text.strip())
    if not found:
        return None
    index = found[2] or found[3]
    base = int(index) if index.isdigit() else BASES.get(index.casefold(), 0)
    try:
        return (int(found[1], base), base) if base > 1 and (found[1][0].isdigit() or base == 16) else None
    except ValueError:  # a digit that the base does not have
        return None


def decimal_comma(text: str) -> Fraction | None:
    """3,5 and 1.234,5 read with a decimal comma; None for other texts, and if the comma may group digits."""
    text = text.strip()
    sign = -1 if text.startswith("-") else 1
    found = EUROPEAN.fullmatch(text.lstrip("-+ "))
    if not found or (len(found[2]) == 3 and not re.search("[. ]", found[1]) and found[1] != "0"):
        return None
    value = _unsigned(f"{re.sub('[. ]', '', found[1])}.{found[2]}{found[3]}")
    return None if value is None else sign * value


def _unsigned(text: str) -> Fraction | None:
    if len(text) > 4 * DIGITS:
        return None
    for read in (_plain, _power_of_ten, _mixed, _fraction, _repeating, _power, _scaled):
        if (value := read(text)) is not None:
            return value
    return None


def _plain(text: str) -> Fraction | None:
    if text.startswith("0,") and text[2:].isdigit():
        return decimal_comma(text)
    if not PLAIN.fullmatch(text) and not INDIAN.fullmatch(text):
        return None
    text = re.sub("[, ']", "", text).removesuffix(".")
    return Fraction(text.replace(".", "") if text.count(".") > 1 else text) if len(text) <= DIGITS else None


def _power_of_ten(text: str) -> Fraction | None:
    if found := SHORT_POWER.fullmatch(text):
        return _times_power(found[1], 10, found[2])
    if found := TIMES_POWER.fullmatch(text):
        return _times_power(found[1] or "1", 10, found[2] or found[3] or found[4])
    return None


def _mixed(text: str) -> Fraction | None:
    found = MIXED.fullmatch(text)
    if not found:
        return None
    whole, above, below = (int(part) for part in found.groups() if part)
    return whole + Fraction(above, below) if above < below else None


def _fraction(text: str) -> Fraction | None:
    found = STACKED.fullmatch(text) or SLASHED.fullmatch(text) or RATIO.fullmatch(text)
    if not found:
        return None
    above, below = map(read_number, found.groups())
    return above / below if above is not None and below else None


def _repeating(text: str) -> Fraction | None:
    if found := REPEATING.fullmatch(text):
        return _endless(found[1], found[2], found[3] or found[4] or found[5])
    if found := DOTTED.fullmatch(text):
        return _endless(found[1], found[2], "".join(found.groups()[2:]))
    if found := GOES_ON.fullmatch(text):
        return _endless(*[part for part in found.groups() if part is not None])
    return None


def _endless(whole: str, once: str, period: str) -> Fraction:
    repeated = Fraction(int(period), (10 ** len(period) - 1) * 10 ** len(once))
    return Fraction(f"{whole or 0}.{once or 0}") + repeated


def _power(text: str) -> Fraction | None:
    found = POWER.fullmatch(text)
    base = read_number(found[1]) if found else None
    if base is None or (base < 0 and not found[1].strip().startswith("(")):
        return None
    return _times_power("1", base, found[2] or found[3])


def _scaled(text: str) -> Fraction | None:
    found = SCALED.fullmatch(text)
    return _plain(found[1]) * 10 ** SCALES[found[2].casefold()] if found else None


def _times_power(factor: str, base: Fraction | int, exponent: str) -> Fraction | None:
    power, first, base = int(exponent.replace(" ", "")), _plain(factor), Fraction(base)
    size = max(base.numerator.bit_length(), base.denominator.bit_length())
    if first is None or abs(power) > EXPONENT or size * abs(power) > BITS or (base == 0 and power <= 0):
        return None
    return first * base**power


def _without_brackets(text: str) -> str:
    """The text without round brackets around the whole; the same object if there are none."""
    if text[0] != "(" or text[-1] != ")" or "(" in text[1:] or ")" in text[:-1]:
        return text
    return text[1:-1]
