"""Data sets of the Hugging Face Hub, and local folders that `datasets` reads (parquet, save_to_disk, ...).

Picture cells are read raw, not decoded by `datasets`, so that pictures.py's limits hold for them too.
"""

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets

from vgs_mlx.data import pictures
from vgs_mlx.data.rows import Row, to_example
from vgs_mlx.errors import Refusal
from vgs_mlx.types import Example, Picture

# The paper's data, a split of Vision-SR1-47K. That one's columns are problem, answer and images (one picture)
# in the training commands of its authors and others; the split was not seen itself, only code that reads it
# by the same names. Where they differ after all, loading says so and names the columns there are.
PAPER_COLUMNS = {"question": "problem", "answer": "answer", "images": "images"}
READY_COLUMNS = {"tomyoon2/OPD_train": PAPER_COLUMNS, "tomyoon2/OPD_val": PAPER_COLUMNS}

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class HubName:
    """A data set on the Hub or in a local folder, with its configuration and split where given."""

    name: str
    config: str | None = None
    split: str | None = None

    def __str__(self) -> str:
        return ":".join(part for part in (self.name, self.config, self.split) if part)

    @property
    def folder(self) -> Path | None:
        """The local folder of that name, where there is one: it goes before the Hub."""
        path = Path(self.name).expanduser()
        return path if path.is_dir() else None

    @property
    def label(self) -> str:
        """What rows are called by: a Hub id, or a folder's own name wherever the folder lies."""
        return self.folder.resolve().name if self.folder else self.name


def parse_name(source: str) -> HubName | None:
    """`name`, `name:split` or `name:config:split`, name being a folder or of a Hub id's form; else None."""
    for parts in (source.rsplit(":", colons) for colons in (0, 1, 2)):
        name = HubName(parts[0], *([None, *parts[1:]] if len(parts) < 3 else parts[1:]))
        if (name.folder or HUB_ID.fullmatch(name.name)) and all(parts):
            return name
    return None


def rows(name: HubName, *, columns: Mapping[str, str], allow_outside: bool) -> list[Row]:
    """The data set's rows, pictures not yet decoded. Without a split: `train`, or the only one there is.

    Refuses what can't be loaded, a split that is not there, and columns that are not.
    """
    columns = columns or READY_COLUMNS.get(name.name, {})
    split, data = open_split(name)
    texts = data.select_columns(_text_columns(data, columns, name))
    pictures_of = picture_reader(
        name, data, _picture_column(data, columns, name), allow_outside=allow_outside
    )
    ours = {**columns, "image": "image", "images": "images"}

    def example(index: int) -> Example:
        id = f"{name.label}:{split}:{index}"
        row = {**texts[index], "images": pictures_of(index, id)}
        return to_example(row, id, ours, lambda picture: picture)

    return [Row(f"{name.name}:{split}:{i}", functools.partial(example, i)) for i in range(len(data))]


def open_split(name: HubName) -> tuple[str, datasets.Dataset]:
    """The split that is meant, by its name. Raises a Refusal where it can't be loaded, or isn't there."""
    return _pick(_load(name), name)


def picture_reader(
    name: HubName, data: datasets.Dataset, column: str, *, allow_outside: bool = False
) -> Callable[[int, str], list[Picture]]:
    """A function (row, the row's id) -> the pictures of its cell in that column: none, one or several.

    It raises a Refusal for a cell that holds no picture.
    """
    cells = stored_cells(data, column)
    root = name.folder or Path(datasets.config.HF_CACHE_HOME)
    file = functools.partial(pictures.inside, root, allow_outside=allow_outside)
    called = functools.partial(_called, name.folder)

    def read(index: int, id: str) -> list[Picture]:
        fetch = functools.partial(cells, index)
        return [_picture(at, cell, fetch, id, file, called) for at, cell in enumerate(fetch())]

    return read


def stored_cells(data: datasets.Dataset, column: str) -> Callable[[int], list[Any]]:
    """A function: row -> the cells of its pictures in that column, as they are stored."""
    # this format hands out cells undecoded
    return functools.partial(_cells, data.select_columns([column]).with_format("arrow"), column)


def _load(name: HubName) -> Mapping[str, datasets.Dataset]:
    """The data set's splits by name."""
    try:
        if name.folder and any((name.folder / mark).exists() for mark in ("state.json", "dataset_dict.json")):
            loaded = datasets.load_from_disk(str(name.folder))
        else:
            loaded = datasets.load_dataset(str(name.folder or name.name), name.config)
    except Exception as error:  # whatever its readers and the network raise becomes one line
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        tried = "a local folder" if name.folder else "no such folder here; asked the Hugging Face Hub"
        raise Refusal(f"data set {name} can't be loaded ({tried}): {pictures.shown(line)}") from error
    return {str(loaded.split or "train"): loaded} if isinstance(loaded, datasets.Dataset) else loaded


def _pick(splits: Mapping[str, datasets.Dataset], name: HubName) -> tuple[str, datasets.Dataset]:
    split = name.split or (next(iter(splits)) if len(splits) == 1 else "train")
    if split not in splits:
        names = ", ".join(splits)
        raise Refusal(f"data set {name} has no split {split!r} but {names}: write {name.name}:SPLIT")
    return split, splits[split]


def _picture_column(data: datasets.Dataset, columns: Mapping[str, str], name: HubName) -> str:
    mapped = [columns[field] for field in ("image", "images") if field in columns]
    found = [column for column in mapped or ["images", "image"] if column in data.column_names]
    if not found:
        raise _no_column((mapped or ["image"])[0], "image", data, name)
    return found[0]


def _text_columns(data: datasets.Dataset, columns: Mapping[str, str], name: HubName) -> list[str]:
    """The columns of question and answer, which must be there, and of kind and solution where there."""
    names = {field: columns.get(field, field) for field in ("question", "answer", "kind", "solution")}
    for field, column in names.items():
        if column not in data.column_names and (field in ("question", "answer") or field in columns):
            raise _no_column(column, field, data, name)
    return [column for column in dict.fromkeys(names.values()) if column in data.column_names]


def _no_column(column: str, field: str, data: datasets.Dataset, name: HubName) -> Refusal:
    names = ", ".join(data.column_names)
    mend = f"say in data.columns which is {field}"
    return Refusal(f"data set {name} has no column {column!r} but {names}: {mend}")


def _cells(data: datasets.Dataset, column: str, index: int) -> list[Any]:
    """A row's picture cells as stored, whether the column holds one picture or a list."""
    value = data[index].column(column)[0].as_py()
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _called(folder: Path | None, place: str) -> str:
    """A picture file's name, the same wherever the data set lies: seen from its folder, else the last part."""
    path = Path(place)
    if not path.is_absolute():
        return pictures.shown(place)
    inside = folder and path.is_relative_to(folder.absolute())
    return pictures.shown(str(path.relative_to(folder.absolute())) if inside else path.name)


def _picture(
    at: int,
    cell: Any,
    fetch: Callable[[], list[Any]],
    id: str,
    file: Callable[[str], Path],
    called: Callable[[str], str],
) -> Picture:
    """Picture number `at` of a row. Only how to fetch it is kept, not its bytes."""
    place = cell.get("path") if isinstance(cell, dict) else cell if isinstance(cell, str) else None
    if isinstance(cell, dict) and cell.get("bytes"):
        name = f"{id} {called(place)}" if place else id
        return pictures.from_bytes(lambda: fetch()[at]["bytes"], name)
    if isinstance(cell, bytes):
        return pictures.from_bytes(lambda: fetch()[at], id)
    if not place:
        raise Refusal("no picture: the cell is empty or of an unknown kind")
    if place.startswith("data:"):
        return pictures.from_data_uri(place)
    return pictures.from_file(file(place), called(place))
