"""Texts that can't be written as UTF-8, which is all that tokenizers and files take."""

import re
from collections.abc import Mapping
from typing import Any

_FAULT = re.compile("[\ud800-\udfff\0]")


def fault(text: str) -> str | None:
    """Why the text can't be written, and at which character (from 1), as the end of a sentence; None for a good text.

    JSON and file names bring lone surrogates (`\\ud800`) into a program; many libraries end a text at a NUL.
    """
    match = _FAULT.search(text)
    if match is None:
        return None
    place = f"at character {match.start() + 1}"
    if match[0] == "\0":
        return f"holds a NUL ({place})"
    return f"is not valid Unicode (lone surrogate \\u{ord(match[0]):04x} {place})"


def fault_among(value: Any) -> str | None:
    """The first fault in a text, or in the texts of a list or an object; None for other values."""
    if isinstance(value, Mapping):
        return fault_among([*value, *value.values()])
    parts = value if isinstance(value, list | tuple) else [value]
    return next((found for each in parts if isinstance(each, str) and (found := fault(each))), None)


def one_line(error: BaseException | str, longest: int = 300) -> str:
    """The text of another library's error, for a message: on one line, printable, at most `longest` characters."""
    return printable(" ".join(str(error).split()))[:longest] or type(error).__name__


def printable(text: str) -> str:
    """The text with unprintable characters written out, as in `caf\\udce9`."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
