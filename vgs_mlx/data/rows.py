"""A data set's row -> an Example, or the reason why it can't be one. Shared by every source of rows."""

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from vgs_mlx.data.answers import extract_answer
from vgs_mlx.errors import Refusal
from vgs_mlx.types import Example, Picture

FIELDS = ("image", "images", "question", "answer", "kind", "solution")
MARKER = "<image>"  # where many data sets say that the picture goes; here pictures always come first


@dataclass(frozen=True)
class BadRow:
    """A row that can't be used."""

    where: str  # "folder/train.jsonl:12": the file and the line, or the Hub data set and the row
    reason: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


@dataclass(frozen=True)
class Row:
    """A row not yet looked at: `example` makes it or raises a Refusal with the reason."""

    where: str
    example: Callable[[], Example]


def check_columns(columns: Mapping[str, str]) -> None:
    """Refuses a mapping (our name -> the data set's) with a name that is not one of FIELDS."""
    for field in columns:
        if field not in FIELDS:
            near = difflib.get_close_matches(field, FIELDS, n=1) or [", ".join(FIELDS)]
            raise Refusal(f"data.columns: no field named {field!r}; did you mean {near[0]}?")


def to_example(
    row: Mapping[str, Any], id: str, columns: Mapping[str, str], to_picture: Callable[[Any], Picture]
) -> Example:
    """The row as an Example; `to_picture` turns one picture's cell into a Picture.

    The marker `<image>` is taken out of the question: a picture's place is the prompt's business, and the
    text-only view must not speak of one. Raises a Refusal with the reason.
    """
    question = _text(row, "question", columns).replace(MARKER, "").strip()
    if not question:
        raise Refusal(f"empty question{_seen(row, 'question', columns)}")
    answer = _answer(row, columns)
    return Example(
        id=id,
        question=question,
        answer=answer,
        pictures=tuple(to_picture(cell) for cell in _cells(row, columns)),
        kind=_text(row, "kind", columns),
        solution=_text(row, "solution", columns),
    )


def _text(row: Mapping[str, Any], field: str, columns: Mapping[str, str]) -> str:
    value = row.get(columns.get(field, field))
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Refusal(f"{field} must be text, not {_kind(value)}")
    return value.strip()


def _answer(row: Mapping[str, Any], columns: Mapping[str, str]) -> str:
    value = row.get(columns.get("answer", "answer"))
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return str(value)
    if value is not None and not isinstance(value, str):
        raise Refusal(f"answer must be text or a number, not {_kind(value)}")
    if not (value or "").strip():
        raise Refusal(f"missing answer{_seen(row, 'answer', columns)}")
    return extract_answer(value) or value.strip()  # some data sets box it already


def _cells(row: Mapping[str, Any], columns: Mapping[str, str]) -> list[Any]:
    """The picture cells of a row: `image` holds one, `images` a list of them."""
    one = row.get(columns.get("image", "image"))
    many = row.get(columns.get("images", "images"))
    if one is not None and many is not None:
        raise Refusal("both image and images are given: keep one")
    if isinstance(one, list):
        raise Refusal("image must be one picture, not a list: name the column images")
    if many is not None and not isinstance(many, list):
        raise Refusal(f"images must be a list, not {_kind(many)}: name the column image")
    cells = [one] if one is not None else many or []
    if not cells:
        raise Refusal(f"no picture{_seen(row, 'image', columns)}: the method compares with and without one")
    if any(cell is None or cell == "" for cell in cells):
        raise Refusal("no picture: an empty entry among image or images")
    return cells


def _seen(row: Mapping[str, Any], field: str, columns: Mapping[str, str]) -> str:
    """Names the row's own columns where ours is not among them, since the mend is then data.columns."""
    asked = columns.get(field, field)
    if asked in row or (field == "image" and columns.get("images", "images") in row):
        return ""
    names = ", ".join(sorted(str(name) for name in row)[:12])
    return f" (no column {asked!r} among {names[:200]}; data.columns can map it)"


def _kind(value: Any) -> str:
    names = {bool: "true or false", dict: "an object", list: "a list", int: "a number", str: "text"}
    return names.get(type(value), type(value).__name__)
