"""Multiple-choice options in columns of their own, beside a question that may not list them."""

import ast
import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any

_NAME = re.compile(
    r"(?:(?:answer|candidate|question|multiple_?choice|mcq?)_?)?(?:options?|choices?)(?:_?(?:list|texts?|[a-h]|\d+))?",
    re.IGNORECASE,
)  # options, choices, answer_options, choices_text, option_a, optionB, choice1
_LETTERS = "ABCDEFGH"  # names of columns, if there is more than one of them
_LABEL = re.compile(r"^\(?[A-Ha-h](?:[.):]\s*|$)")  # "A. ", "(b) ", and a bare "C"


def columns(names: Iterable[str], not_options: Collection[str] = ()) -> list[str]:
    """The columns among `names` that hold options, judging by their names; never those in `not_options`."""
    asked = [name for name in names if name not in not_options]
    letters = [name for name in asked if name in _LETTERS and len(name) == 1]
    return [name for name in asked if _NAME.fullmatch(name) or (len(letters) > 1 and name in letters)]


def texts(cell: Any) -> list[str]:
    """The options in a cell, without leading letters; none in an empty cell."""
    whole = [text.strip() for text in _texts(cell)]
    bare = [_LABEL.sub("", text, count=1).strip() for text in whole]
    return [text for text in bare if text] or [text for text in whole if text]  # letters alone


def unlisted(options: Iterable[str], question: str) -> list[str]:
    """The options that the question doesn't list."""
    return [text for text in options if not _stands_in(text, question)]


def counted(options: Sequence[str], answer: str) -> bool:
    """Whether the answer can only be an index of several options: a whole number that occurs in none of them."""
    return len(options) > 1 and answer.isdecimal() and not any(_stands_in(answer, text) for text in options)


def _texts(cell: Any) -> list[str]:
    """The texts in a cell: a list, an object, either of these as a string, or the lines of a text."""
    if isinstance(cell, dict):
        return [text for value in cell.values() for text in _texts(value)]
    if isinstance(cell, list | tuple):
        return [text for value in cell for text in _texts(value)]
    if cell is None or isinstance(cell, bool) or cell != cell:  # NaN: an empty cell
        return []
    if isinstance(cell, str) and cell.strip()[:1] in ("[", "{"):
        try:
            return _texts(ast.literal_eval(cell.strip()))
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            pass
    return str(cell).splitlines()


def _stands_in(text: str, question: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(text)}(?!\w)", question, re.IGNORECASE) is not None
