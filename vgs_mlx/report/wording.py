"""Numbers as a page writes them: a real minus sign, a thin space before the unit, and no insignificant digits."""

from collections.abc import Mapping
from typing import Any

THIN = "\u202f"  # narrow no-break space, so that a number and its unit stay together
MINUS = "\u2212"


def number(value: float | None, digits: int = 2) -> str:
    """A plain number; a dash where there is none."""
    return "–" if value is None else _signed(f"{value:,.{digits}f}")


def short(value: float | None) -> str:
    """A number of any size with about three significant digits."""
    if value is None:
        return "–"
    size = abs(value)
    if size and not 1e-3 <= size < 1e5:
        return _signed(f"{value:.1e}")
    return number(value, 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3)


def percent(share: float | None, digits: int = 1) -> str:
    """A share as per cent."""
    return "–" if share is None else f"{number(100 * share, digits)}{THIN}%"


def interval(low: float, high: float) -> str:
    """The two ends of an interval of shares."""
    return f"{number(100 * low, 1)}–{number(100 * high, 1)}{THIN}%"


def points(difference: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    text = number(100 * difference, 1)
    return f"+{text}" if text[0] != MINUS and _counts(text) else text


def seconds(value: float) -> str:
    """A duration in seconds, minutes or hours, whichever is easiest to read."""
    if value < 100:
        return f"{short(value)}{THIN}s"
    return f"{value / 60:.0f}{THIN}min" if value < 5400 else f"{value / 3600:.1f}{THIN}h"


def plural(count: int, word: str) -> str:
    """1 step, 2 steps."""
    return f"{count:,} {word}" + ("" if count == 1 else "s")


def interval_of(evaluation: Mapping[str, Any]) -> str:
    """The interval of an evaluation's accuracy."""
    return interval(evaluation["low"], evaluation["high"])


def share_of(evaluation: Mapping[str, Any]) -> str:
    """An evaluation's accuracy with its interval."""
    return f"{percent(evaluation['accuracy'])} ({interval_of(evaluation)})"


def _signed(text: str) -> str:
    """With a real minus sign; a number that rounds to 0 has no sign."""
    return text.replace("-", MINUS) if _counts(text) else text.lstrip("-")


def _counts(text: str) -> bool:
    """Whether a digit is not 0."""
    return any(each in "123456789" for each in text)
