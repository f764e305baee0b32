"""JSON of which nothing is lost or guessed: no key twice, no nesting that is too deep for later code."""

import json
from typing import Any

DEEPEST = 100  # levels of nested lists and objects


class Faulty(ValueError):
    """The text is not JSON that can be used; the message says why, on one line."""


def load(content: bytes | str, *, constants: bool = False) -> Any:
    """The value of a JSON text in UTF-8; `constants`: NaN and Infinity are read too. Raises `Faulty`."""
    try:
        text = content if isinstance(content, str) else content.decode("utf-8")
        value = json.loads(
            text, parse_constant=None if constants else _no_constant, object_pairs_hook=_object
        )
    except Faulty:
        raise
    except UnicodeDecodeError as error:
        raise Faulty(f"not UTF-8 (byte {error.start + 1})") from error
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise Faulty(f"broken JSON: {error.msg} at {line}character {error.colno}") from error
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError as error:  # Python's limit on the digits of a whole number
        raise Faulty("broken JSON: a number with too many digits") from error
    if text.count("[") + text.count("{") > DEEPEST and _deeper(value, DEEPEST):
        raise _too_deep()
    return value


def _deeper(value: Any, levels: int) -> bool:
    """Whether lists and objects are nested more than `levels` deep."""
    layer = [value]
    for _ in range(levels):
        parts = [
            each.values() if isinstance(each, dict) else each
            for each in layer
            if isinstance(each, dict | list)
        ]
        layer = [each for part in parts for each in part]
    return any(isinstance(each, dict | list) for each in layer)


def _too_deep() -> Faulty:
    return Faulty(f"broken JSON: more than {DEEPEST} levels of nested lists and objects")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):  # json alone would keep the last
        names = [name for name, _ in pairs]
        raise Faulty(
            f"the key {next(name for name in names if names.count(name) > 1)!r} appears twice: keep one"
        )
    return found


def _no_constant(name: str) -> None:
    raise Faulty(f"broken JSON: {name} is not a JSON value: omit the key, or write null")
