"""Data sets of the Hugging Face Hub, and local folders that `datasets` reads (parquet, save_to_disk, ...).

Picture cells are read raw, not decoded by `datasets`, so that pictures.py's limits hold for them too.
"""

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets
from huggingface_hub import HfApi
from huggingface_hub.errors import RevisionNotFoundError

from vgs_mlx.data import pictures
from vgs_mlx.data.rows import Columns, Row, conversation, to_example
from vgs_mlx.errors import Refusal
from vgs_mlx.formats import hub_names
from vgs_mlx.formats.hub_names import PATIENCE, HubId
from vgs_mlx.types import Example, Picture

# The paper's data, a split of Vision-SR1-47K, whose columns are problem, answer and images (one picture) in the
# training commands of its authors and others. We have not seen the split itself, only code that reads it by these
# names. If they differ, loading says so and lists the columns.
PAPER_COLUMNS = {"question": "problem", "answer": "answer", "images": "images"}
READY_COLUMNS = {"tomyoon2/OPD_train": PAPER_COLUMNS, "tomyoon2/OPD_val": PAPER_COLUMNS}

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class HubName:
    """A data set on the Hub or in a local folder, with its configuration and split where given."""

    name: str
    config: str | None = None
    split: str | None = None
    revision: str | None = None  # a branch, a tag or a commit on the Hub; None: the newest

    def __str__(self) -> str:
        name = f"{self.name}@{self.revision}" if self.revision else self.name
        return ":".join(part for part in (name, self.config, self.split) if part)

    @property
    def folder(self) -> Path | None:
        """The local folder of that name, if there is one: it wins over the Hub."""
        path = Path(self.name).expanduser()
        return path if path.is_dir() else None

    @property
    def label(self) -> str:
        """What the ids of rows begin with: the Hub id, or the folder's own name wherever it lies."""
        return self.folder.resolve().name if self.folder else self.name


def parse_name(source: str) -> HubName | None:
    """`name`, `name:split` or `name:config:split`, where name is a folder or looks like a Hub id; else None.

    A Hub id may have a revision: owner/name@revision:config:split.
    """
    for whole, *rest in (source.rsplit(":", colons) for colons in (0, 1, 2)):
        config, split = [None, None, *rest][-2:]
        folder = HubName(whole, config, split)
        id = hub_names.parse(whole)
        named = HUB_ID.fullmatch(id.name) if id else None
        if all([whole, *rest]) and (folder.folder or named):
            return folder if folder.folder else HubName(id.name, config, split, id.revision)
    return None


def pinned(name: HubName) -> HubName:
    """The same data set at the commit that its revision stands for today.

    Unchanged for a folder, and where the Hub can't say. Raises `Refusal` for a revision that doesn't exist.
    """
    if name.folder or HubId(name.name, name.revision).is_commit:
        return name
    try:
        commit = HfApi().dataset_info(name.name, revision=name.revision, timeout=PATIENCE).sha
    except RevisionNotFoundError as error:
        raise Refusal(
            f"data set {name}: the Hub has it, but no revision {name.revision!r}: give a branch, a tag or a commit"
        ) from error
    except Exception as error:  # no such data set, or offline: loading will say so, or find a copy
        if name.revision is None:
            return name
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise Refusal(
            f"data set {name}: can't ask the Hub which commit {name.revision!r} is ({pictures.shown(line)}): "
            f"go online, or give the commit itself: {name.name}@COMMIT"
        ) from error
    return replace(name, revision=commit)


def rows(name: HubName, *, columns: Columns, allow_outside: bool) -> list[Row]:
    """The data set's rows, pictures not yet decoded. Without a split: `train`, or the only one.

    Raises `Refusal` for a data set that can't be loaded, and for a missing split or column.
    """
    if not columns.names:
        columns = replace(columns, names=READY_COLUMNS.get(name.name, {}))
    split, data = open_split(name)
    asked = _text_columns(data, columns, name)
    picture_column = _picture_column(data, columns, name)
    texts = data.select_columns([*asked, *_option_columns(data, columns)])
    pictures_of = picture_reader(name, data, picture_column, allow_outside=allow_outside)
    ours = replace(  # `row` below has its pictures under "images"
        columns,
        names={**columns.names, "image": "image", "images": "images"},
        ignored=[column for column in columns.ignored if column != "images"],
    )

    def example(index: int) -> Example:
        id = f"{name.label}:{split}:{index}"
        row = {column: _named(texts.features[column], cell) for column, cell in texts[index].items()}
        return to_example({**row, "images": pictures_of(index, id)}, id, ours, lambda picture: picture)

    known = {*asked, picture_column, *columns.ignored}
    unread = tuple(column for column in data.column_names if column not in known)
    return [
        Row(f"{name.name}:{split}:{i}", functools.partial(example, i), lambda: unread)
        for i in range(len(data))
    ]


def _named(feature: Any, cell: Any) -> Any:
    """A cell with class labels by name instead of number; a missing label is None."""
    if isinstance(feature, datasets.ClassLabel):
        return feature.int2str(cell) if isinstance(cell, int) and cell >= 0 else None
    if isinstance(feature, datasets.List | datasets.LargeList) and cell is not None:
        return [_named(feature.feature, each) for each in cell]
    return cell


def open_split(name: HubName) -> tuple[str, datasets.Dataset]:
    """The name of the split that is meant, and its rows. Raises `Refusal` if it can't be loaded or doesn't exist."""
    return _pick(_load(name), name)


def picture_reader(
    name: HubName, data: datasets.Dataset, column: str, *, allow_outside: bool = False
) -> Callable[[int, str], list[Picture]]:
    """A function (row number, row id) -> the pictures in its cell of that column: none, one or several.

    The function raises `Refusal` for a cell that holds something else.
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
    """A function: row number -> the cells of its pictures in that column, as they are stored."""
    # this format returns cells undecoded
    return functools.partial(_cells, data.select_columns([column]).with_format("arrow"), column)


def _load(name: HubName) -> Mapping[str, datasets.Dataset]:
    """The data set's splits by name."""
    try:
        if name.folder and any((name.folder / mark).exists() for mark in ("state.json", "dataset_dict.json")):
            loaded = datasets.load_from_disk(str(name.folder))
        else:
            if name.revision:
                name = pinned(name)
            loaded = datasets.load_dataset(str(name.folder or name.name), name.config, revision=name.revision)
            _refuse_other_commit(loaded, name)
    except Refusal:
        raise
    except Exception as error:  # readers and network raise many kinds: each becomes one line
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        tried = "a local folder" if name.folder else "no such folder here; asked the Hugging Face Hub"
        raise Refusal(f"data set {name} can't be loaded ({tried}): {pictures.shown(line)}") from error
    return {str(loaded.split or "train"): loaded} if isinstance(loaded, datasets.Dataset) else loaded


def _refuse_other_commit(loaded: Mapping[str, datasets.Dataset], name: HubName) -> None:
    """Refuse a copy of another commit: offline, `datasets` takes whichever it made last. Raises `Refusal`."""
    files = [Path(each["filename"]) for split in loaded.values() for each in split.cache_files]
    if name.revision and files and not all(name.revision in file.parts for file in files):
        raise Refusal(
            f"data set {name}: the Hub can't be reached, and the copy here is of another commit: go online, or give "
            "a folder"
        )


def _pick(splits: Mapping[str, datasets.Dataset], name: HubName) -> tuple[str, datasets.Dataset]:
    split = name.split or (next(iter(splits)) if len(splits) == 1 else "train")
    if split not in splits:
        names = ", ".join(splits)
        raise Refusal(f"data set {name} has no split {split!r} but {names}: write {name.name}:SPLIT")
    return split, splits[split]


def _picture_column(data: datasets.Dataset, columns: Columns, name: HubName) -> str:
    mapped = [columns.names[field] for field in ("image", "images") if field in columns.names]
    there = [
        each
        for each in mapped or ["images", "image"]
        if each in data.column_names and each not in columns.ignored
    ]
    if not there:
        raise _no_column((mapped or ["image"])[0], "image", data, name)
    return there[0]


def _text_columns(data: datasets.Dataset, columns: Columns, name: HubName) -> list[str]:
    """The columns of question and answer, which must exist, and of kind and solution if they do."""
    fields = {field: columns.of(field) for field in ("question", "answer", "kind", "solution")}
    for field, column in fields.items():
        if column not in data.column_names and (field in ("question", "answer") or field in columns.names):
            raise _no_column(column, field, data, name)
    there = [column for column in data.column_names if column not in columns.ignored]
    return [column for column in dict.fromkeys(fields.values()) if column in there]


def _option_columns(data: datasets.Dataset, columns: Columns) -> list[str]:
    """The columns of options that are texts. Pictures among the options are not compared with the question."""
    return [name for name in columns.options(data.column_names) if "Image(" not in repr(data.features[name])]


def _no_column(column: str, field: str, data: datasets.Dataset, name: HubName) -> Refusal:
    names = ", ".join(data.column_names)
    nested = [name for name in data.column_names if not isinstance(data.features[name], datasets.Value)]
    fix = conversation(nested) or f"say in data.columns which is {field}"
    return Refusal(f"data set {name} has no column {column!r} but {names}: {fix}")


def _cells(data: datasets.Dataset, column: str, index: int) -> list[Any]:
    """A row's picture cells as stored; the column may hold one picture or a list."""
    value = data[index].column(column)[0].as_py()
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _called(folder: Path | None, place: str) -> str:
    """A picture file's name, the same wherever the data set lies: relative to its folder, else the file's own name."""
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
    """Picture number `at` of a row. It keeps the way to fetch its bytes, not the bytes."""
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
