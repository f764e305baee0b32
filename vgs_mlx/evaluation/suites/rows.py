"""From a benchmark's rows on the Hub to examples, one at a time: a picture is read only when it is opened."""

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vgs_mlx.data import hub
from vgs_mlx.errors import Refusal
from vgs_mlx.evaluation.suites.benchmark import Benchmark
from vgs_mlx.types import Example, Picture


@dataclass(frozen=True)
class Item:
    """A row of a benchmark that has not been read yet."""

    number: int  # its place in the data set's split; keys its random numbers and stored answers
    id: str
    example: Callable[
        [], Example | None
    ]  # None for a row of another benchmark; raises `Refusal` for a bad row
    cells: Callable[[], list[Any]]  # of its pictures, as they are stored

    def asked(self, example: Example) -> str:
        """Identifies the question, its pictures and the right answer, so that a stored answer is used for no other."""
        pictures = [hashlib.sha256(_bytes(cell)).hexdigest() for cell in self.cells()]
        text = "\0".join([example.question, key(example), str(len(example.pictures)), *pictures])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def items(benchmark: Benchmark) -> list[Item]:
    """The benchmark's rows, always in the same shuffled order: the first ones are a fair sample of all.

    (Published rows are sorted by subject or difficulty.) Raises `Refusal` for data that can't be loaded or lacks
    a column.
    """
    name = hub.HubName(benchmark.source, benchmark.config, benchmark.split)
    split, data = hub.open_split(name)
    missing = [each for each in (*benchmark.columns, *benchmark.pictures) if each not in data.column_names]
    if missing:
        raise Refusal(
            f"benchmark {benchmark.name}: {name} has no column {missing[0]!r} but {', '.join(data.column_names)}: "
            "its schema differs from its declaration: correct that in vgs_mlx/evaluation/suites"
        )
    kept = {*benchmark.columns, *({benchmark.kind} & set(data.column_names))}
    texts = data.select_columns([each for each in data.column_names if each in kept])
    readers = [hub.picture_reader(name, data, column) for column in benchmark.pictures]
    stored = [hub.stored_cells(data, column) for column in benchmark.pictures]

    def cells(number: int) -> list[Any]:
        return [cell for of_column in stored for cell in of_column(number)]

    def item(number: int) -> Item:
        id = f"{benchmark.source}:{split}:{number}"
        example = functools.partial(_example, benchmark, texts, readers, number, id)
        return Item(number, id, example, functools.partial(cells, number))

    return [item(int(number)) for number in np.random.default_rng(0).permutation(len(data))]


def key(example: Example) -> str:
    """The right answer; an option's letter with its text, the form in stored answers since the first version."""
    place = ord(example.answer) - ord("A") if len(example.answer) == 1 else -1
    text = example.options[place] if 0 <= place < len(example.options) else ""
    return f"{example.answer}. {text}" if text else example.answer


def _bytes(cell: Any) -> bytes:
    """A cell's picture, still encoded; of a picture in a file only the name, since folders change."""
    if isinstance(cell, dict):
        return _bytes(cell.get("bytes") or cell.get("path"))
    if isinstance(cell, str):
        return (cell if cell.startswith("data:") else Path(cell).name).encode()
    return cell or b""  # a row with an empty cell is refused elsewhere


def _example(
    benchmark: Benchmark, texts: Any, readers: list[Callable[[int, str], list[Picture]]], number: int, id: str
) -> Example | None:
    row = texts[number]
    try:
        asked = benchmark.ask(row)
    except (TypeError, AttributeError) as error:  # an empty cell, or one of an unexpected type
        raise Refusal(f"a cell is empty or of an unexpected type ({error})") from error
    if asked is None:
        return None
    if not all(isinstance(text, str) and text.strip() for text in asked[:2]):
        raise Refusal("a question or answer that is empty or not text")
    pictures = tuple(picture for read in readers for picture in read(number, id))
    if readers and not pictures:
        raise Refusal("no picture")
    return Example(
        id,
        asked.question.strip(),
        asked.answer.strip(),
        pictures,
        kind=_kind(row.get(benchmark.kind)),
        options=asked.options,
    )


def _kind(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)
