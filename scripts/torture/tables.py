"""Data sets that the `datasets` library reads: one kind of cell a column, any kind; sound, odd or damaged files."""

import datetime
import decimal
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from torture import bad_pictures
from torture.fuzzing import cut, flipped
from torture.odd_rows import text

Draw = random.Random


def sound_table(draw: Draw, rows: int) -> datasets.Dataset:
    """A data set whose every row must be taken; with class labels, and lists of pictures, half of the time."""
    listed, labelled = draw.random() < 0.5, draw.random() < 0.5
    cells = [{"bytes": bad_pictures.sound(draw), "path": None} for _ in range(rows)]
    image, word = datasets.Image(), datasets.Value("string")
    labels = datasets.ClassLabel(names=["red", "blue"])
    columns = {
        "question": ["What colour?"] * rows,
        "answer": [draw.randrange(2) if labelled else draw.choice(["red", "2"]) for _ in range(rows)],
        "images" if listed else "image": [[cell] if listed else cell for cell in cells],
        "kind": [draw.randrange(2) for _ in range(rows)],
    }
    features = {
        "question": word, "answer": labels if labelled else word,
        "images" if listed else "image": datasets.List(image) if listed else image,
        "kind": labels,
    }  # fmt: skip
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


def _texts(draw: Draw) -> str | None:
    """Arrow holds no lone surrogates."""
    found = text(draw) if draw.random() < 0.5 else draw.choice(["What?", "2", "red", None])
    return found and found[:20_000].encode("utf-8", "replace").decode()


def _moment(draw: Draw) -> datetime.datetime:
    return datetime.datetime(2020, 1, draw.randint(1, 28))


KINDS: dict[str, Callable[[Draw], tuple[pa.DataType, Callable[[], Any]]]] = {
    "text": lambda draw: (pa.string(), lambda: _texts(draw)),
    "large text": lambda draw: (pa.large_string(), lambda: _texts(draw)),
    "integer": lambda draw: (draw.choice([pa.int64(), pa.int8(), pa.uint64()]), lambda: draw.choice([0, 1, 2, 3,
    None])),
    "float": lambda draw: (draw.choice([pa.float64(), pa.float32()]), lambda: draw.choice([0.5, float("nan"),
    float("inf"), -2.0, None])),
    "boolean": lambda draw: (pa.bool_(), lambda: draw.choice([True, False, None])),
    "bytes": lambda draw: (draw.choice([pa.binary(), pa.large_binary()]),
    lambda: draw.choice([bad_pictures.strange(draw), b"", None])),
    "picture": lambda draw: (
        pa.struct({"bytes": pa.binary(), "path": pa.string()}),
        lambda: draw.choice([{"bytes": bad_pictures.strange(draw), "path": _texts(draw)}, {"bytes": None,
        "path": "none.png"}, None, {"bytes": b"", "path": None}]),
    ),
    "texts": lambda draw: (pa.list_(pa.string()), lambda: draw.choice([None, [], [_texts(draw)], ["red", "blue"]])),
    "pictures": lambda draw: (
        pa.list_(pa.struct({"bytes": pa.binary(), "path": pa.string()})),
        lambda: draw.choice([None, [], [None], [{"bytes": bad_pictures.strange(draw), "path": None}] * 2]),
    ),
    "lists": lambda draw: (pa.list_(pa.list_(pa.int32())), lambda: draw.choice([None, [], [[1, None], None]])),
    "object": lambda draw: (pa.struct({"a": pa.int32(), "path": pa.string()}), lambda: draw.choice([None, {"a": 1,
    "path": "x"}, {"a": None, "path": None}])),
    "nothing": lambda draw: (pa.null(), lambda: None),
    "moment": lambda draw: (draw.choice([pa.timestamp("us"), pa.timestamp("s", tz="UTC")]),
    lambda: draw.choice([None, _moment(draw)])),
    "day": lambda draw: (pa.date32(), lambda: draw.choice([None, _moment(draw).date()])),
    "decimal": lambda draw: (pa.decimal128(9, 2), lambda: draw.choice([None, decimal.Decimal("1.50")])),
    "dictionary": lambda draw: (pa.dictionary(pa.int32(), pa.string()), lambda: draw.choice(["red", None])),
    "map": lambda draw: (pa.map_(pa.string(), pa.string()), lambda: draw.choice([None, [("a", "b")]])),
}  # fmt: skip


def odd_table(draw: Draw, rows: int) -> pa.Table:
    """A table with our columns, each of some kind; usually the right one for most of them."""
    usual = {
        "question": "text",
        "answer": draw.choice(["text", "integer", "float"]),
        "image": draw.choice(["picture", "text", "bytes"]),
    }
    usual |= {
        draw.choice(["options", "kind", "solution", "images", "A", "messages", "choices"]): draw.choice(
            list(KINDS)
        )
    }
    columns = {}
    for name, kind in usual.items():
        kind = draw.choice(list(KINDS)) if draw.random() < 0.25 else kind
        type, cell = KINDS[kind](draw)
        columns[name] = pa.array([cell() for _ in range(rows)], type)
    if draw.random() < 0.1:
        columns.pop(draw.choice(list(columns)))
    return pa.table(columns)


def write(draw: Draw, folder: Path, rows: int) -> bool:
    """A data set in a new folder; whether all of its rows must be taken."""
    folder.mkdir()
    file = folder / "train-00000-of-00001.parquet"
    kind = draw.random()
    if kind < 0.15:
        sound_table(draw, rows).save_to_disk(str(folder), num_proc=None)
        return True
    if kind < 0.4:
        sound_table(draw, rows).to_parquet(str(file))
        return True
    if kind < 0.85:
        pq.write_table(odd_table(draw, rows), file)
        return False
    if kind < 0.92:
        sound_table(draw, rows).save_to_disk(str(folder))
        file = draw.choice(sorted(each for each in folder.iterdir() if each.is_file()))
    else:
        sound_table(draw, rows).to_parquet(str(file))
    whole = file.read_bytes()
    file.write_bytes(
        draw.choice(
            [cut(whole, draw), flipped(whole, draw), flipped(whole, draw, len(whole) - 400), b"", b"PAR1"]
        )
    )
    return False
