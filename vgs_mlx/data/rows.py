"""A row of a data set becomes an Example, or a reason why it can't. Shared by every source of rows.

What would silently change a row's meaning is refused: a marker inside the question, options that the question doesn't
list, a text that is not valid Unicode.
"""

import difflib
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from vgs_mlx.data import markers, options
from vgs_mlx.data.pictures import shown
from vgs_mlx.errors import Refusal
from vgs_mlx.formats import texts
from vgs_mlx.grading import extract_answer, gradable
from vgs_mlx.grading.options import listed
from vgs_mlx.types import Example, Picture

FIELDS = ("image", "images", "question", "answer", "kind", "solution")
CONVERSATIONS = ("messages", "conversations", "conversation", "prompt")
"""Columns that hold whole conversations as lists of turns."""


@dataclass(frozen=True)
class BadRow:
    """A row that can't be used."""

    where: str  # "folder/train.jsonl:12": the file and the line, or the Hub data set and the row
    reason: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


@dataclass(frozen=True)
class Row:
    """A row not yet looked at. `example` makes its Example, or raises `Refusal` with the reason."""

    where: str
    example: Callable[[], Example]
    unread: Callable[[], Collection[str]]  # its columns that nothing reads; none if it can't be parsed


@dataclass(frozen=True)
class Columns:
    """What a data set's columns mean. Raises `Refusal` for a name of ours that is not one of FIELDS."""

    names: Mapping[str, str] = field(default_factory=dict)  # our name -> the data set's, where they differ
    ignored: Collection[str] = ()  # columns of the data set that are not read

    def __post_init__(self) -> None:
        for name in self.names:
            if name not in FIELDS:
                near = difflib.get_close_matches(name, FIELDS, n=1) or [", ".join(FIELDS)]
                raise Refusal(f"data.columns: no field named {name!r}; did you mean {near[0]}?")

    def of(self, field: str) -> str:
        """The data set's name for one of FIELDS."""
        return self.names.get(field, field)

    def unread(self, there: Iterable[str]) -> list[str]:
        """The columns among `there` that are neither ours nor ignored."""
        known = {self.of(field) for field in FIELDS} | set(self.ignored)
        return [name for name in there if name not in known]

    def unused(self, there: Iterable[str]) -> list[str]:
        """The unread columns that nothing looks at: options are looked at."""
        read = self.options(there)
        return [name for name in self.unread(there) if name not in read]

    def options(self, there: Iterable[str]) -> list[str]:
        """The unread columns that hold options, judging by their names."""
        return options.columns(self.unread(there))


def to_example(
    row: Mapping[str, Any], id: str, columns: Columns, to_picture: Callable[[Any], Picture]
) -> Example:
    """The row as an Example; `to_picture` turns the cell of one picture into a Picture.

    The markers `<image>` at the question's ends are removed: the prompt decides where a picture goes, and the
    text-only view must not mention one. Raises `Refusal` with the reason.
    """
    question = _text(row, "question", columns)
    if not question:
        raise Refusal(f"empty question{_seen(row, 'question', columns)}")
    answer, *also = _answers(row, columns)
    kind, solution = _kind(row, columns), _text(row, "solution", columns)
    _refuse_lost_options(row, question, answer, columns)
    cells = _cells(row, columns)
    asked = markers.taken_out(question, len(cells))
    if not asked:
        raise Refusal(f"empty question: it has nothing but {markers.MARKER}")
    pictures = tuple(to_picture(cell) for cell in cells)
    return Example(id, asked, answer, pictures, kind, solution, also=tuple(also), options=listed(asked))


def conversation(names: Iterable[str]) -> str | None:
    """What to say if one of the columns `names` holds conversations instead of questions; None otherwise."""
    column = next((name for name in names if name in CONVERSATIONS), None)
    return column and (
        f"the column {column!r} holds a conversation, and these are not read yet: write the user's text as question, "
        "the right final answer as answer, the assistant's last turn as solution, the pictures as image or images"
    )


def _refuse_lost_options(row: Mapping[str, Any], question: str, answer: str, columns: Columns) -> None:
    """Refuse a question that doesn't list its options, and an answer that is an index of them, from 0 or from 1."""
    for column in columns.options(row):
        offered = options.texts(row[column])
        if left_out := options.unlisted(offered, question):
            raise Refusal(
                f"the question does not list its options (column {column!r}: {shown(', '.join(left_out))}): write them "
                f"into the question, or say that they don't belong there: data.ignore_columns=[{column}]"
            )
        if options.counted(offered, answer):
            raise Refusal(
                f"the answer {answer} is in none of the options (column {column!r}: {shown(', '.join(offered))}): if "
                f"it counts them, write the letter or the text of the right one; else data.ignore_columns=[{column}]"
            )


def _value(row: Mapping[str, Any], field: str, columns: Columns) -> Any:
    """The cell of one of FIELDS; None if it is ignored or empty, as NaN is in a table of numbers."""
    column = columns.of(field)
    value = None if column in columns.ignored else row.get(column)
    return None if isinstance(value, float) and math.isnan(value) else value


def _text(row: Mapping[str, Any], field: str, columns: Columns) -> str:
    value = _value(row, field, columns)
    if value is None:
        return ""
    if not isinstance(value, str):
        if isinstance(value, list) and (talk := conversation([columns.of(field)])):
            raise Refusal(talk)
        raise Refusal(f"{field} must be text, not {_type(value)}")
    return _sound(value, field)


def _sound(text: str, field: str) -> str:
    """The text without surrounding space. Raises `Refusal` for a text that a tokenizer can't take."""
    if fault := texts.fault(text):
        raise Refusal(f"the {field} {fault}")
    return text.strip()


def _kind(row: Mapping[str, Any], columns: Columns) -> str:
    value = _value(row, "kind", columns)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if number else _text(row, "kind", columns)


def _answers(row: Mapping[str, Any], columns: Columns) -> list[str]:
    """The right answers. A list holds several, any of which counts."""
    value = _value(row, "answer", columns)
    if isinstance(value, list):
        if not value:
            raise Refusal("missing answer: the list of answers is empty")
        return list(dict.fromkeys(_answer(each, " in the list of answers") for each in value))
    return [_answer(value, _seen(row, "answer", columns))]


def _answer(value: Any, seen: str) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        if isinstance(value, int) or math.isfinite(value):  # whole numbers may be too large for a float
            return str(value)
        raise Refusal(f"answer must be a finite number, not {value}")
    if isinstance(value, bool):
        raise Refusal(
            f"answer must be text or a number, not {_type(value)}: write the word, such as 'yes' or 'no'"
        )
    if value is not None and not isinstance(value, str):
        raise Refusal(f"answer must be text or a number, not {_type(value)}")
    answer = _sound(value or "", "answer")
    if not answer:
        raise Refusal(f"missing answer{seen or ': the cell is empty'}")
    answer = extract_answer(answer) or answer  # some data sets box their answers
    if not gradable(answer):
        raise Refusal(
            f"no completion could be graded right by the answer {shown(answer)!r}: write the final answer as it would "
            "stand in \\boxed{}, with its braces in pairs"
        )
    return answer


def _cells(row: Mapping[str, Any], columns: Columns) -> list[Any]:
    """The picture cells of a row: `image` holds one, `images` a list of them."""
    one, many = _value(row, "image", columns), _value(row, "images", columns)
    if one is not None and many is not None:
        raise Refusal("both image and images are given: keep one, or name the other in data.ignore_columns")
    if isinstance(one, list):
        raise Refusal("image must be one picture, not a list: name the column images")
    if many is not None and not isinstance(many, list):
        raise Refusal(f"images must be a list, not {_type(many)}: name the column image")
    cells = [one] if one is not None else many or []
    if not cells:
        raise Refusal(f"no picture{_seen(row, 'image', columns)}: the method compares with and without one")
    if any(cell is None or cell == "" for cell in cells):
        raise Refusal("no picture: an empty entry among image or images")
    return cells


def _seen(row: Mapping[str, Any], field: str, columns: Columns) -> str:
    """The row's own columns, for a message, if ours is not among them: the fix may then be data.columns."""
    asked = [columns.of(name) for name in (("image", "images") if field == "image" else (field,))]
    if any(name in row for name in asked):
        return ""
    if field == "question" and (talk := conversation(name for name in row if isinstance(row[name], list))):
        return f": {talk}"
    there = ", ".join(sorted(map(str, row))) or "none"
    return f" (this row has no column {' or '.join(map(repr, asked))} among {shown(there)}; data.columns can map it)"


def _type(value: Any) -> str:
    names = {
        bool: "true or false",
        dict: "an object",
        list: "a list",
        int: "a number",
        float: "a number",
        str: "text",
    }
    return names.get(type(value), type(value).__name__)
