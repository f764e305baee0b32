"""Data sets in JSON Lines: one object per line, pictures as paths relative to the file or as data URIs.

    {"image": "pictures/7.png", "question": "How many dots?", "answer": "3"}
    {"images": ["a.png", "data:image/png;base64,..."], "question": "...", "answer": "B", "kind": "chart"}

`kind` and `solution` are optional. Lines stay in memory; pictures in files do not.
"""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from vgs_mlx.data import pictures
from vgs_mlx.data.rows import Columns, Row, to_example
from vgs_mlx.errors import Refusal
from vgs_mlx.formats import strict_json
from vgs_mlx.types import Example, Picture


def rows(path: Path, *, columns: Columns, allow_outside: bool) -> list[Row]:
    """The file's rows, not yet parsed; blank lines are omitted. Raises `Refusal` for a file that can't be read."""
    if path.exists() and not path.is_file():  # a pipe would never end
        raise Refusal(f"data file {path}: not a file: give a .jsonl file that is there")
    try:
        lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    except OSError as error:
        raise Refusal(f"data file {path}: {error.strerror}: give a .jsonl file that is there") from error
    return [
        _row(path, number, line, columns, allow_outside)
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]


def _row(path: Path, number: int, line: bytes, columns: Columns, allow_outside: bool) -> Row:
    def to_picture(cell: Any) -> Picture:
        if not isinstance(cell, str):
            raise Refusal(f"a picture must be a path or a data URI{_instead(cell)}")
        if cell.startswith("data:"):
            return pictures.from_data_uri(cell)
        file = pictures.inside(path.parent, cell, allow_outside=allow_outside)
        return pictures.from_file(file, pictures.shown(cell))

    def example() -> Example:
        return to_example(_parse(line), f"{path.name}:{number}", columns, to_picture)

    return Row(f"{path}:{number}", example, lambda: _unread(line, columns))


def _instead(cell: Any) -> str:
    """What a picture's cell is instead of text, and what to write there."""
    if not isinstance(cell, dict):
        return f", not {type(cell).__name__}"
    if cell.get("path"):
        return f", not an object: write its path alone, {json.dumps(pictures.shown(str(cell['path'])))}"
    if "bytes" in cell:
        return ", not an object with bytes: write data:image/png;base64,... or the path of a file"
    return ", not an object: write its path alone"


def _unread(line: bytes, columns: Columns) -> Collection[str]:
    try:
        return columns.unused(_parse(line))
    except Refusal:
        return ()


def _parse(line: bytes) -> dict[str, Any]:
    try:
        row = strict_json.load(line)
    except strict_json.Faulty as error:
        raise Refusal(str(error)) from error
    if not isinstance(row, dict):
        raise Refusal("not a JSON object: every line must be {...}")
    return row
