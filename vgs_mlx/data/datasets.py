"""Loads data sets: rows of a file, the Hub or the built-in shapes, all checked before any model loads.

A source is `shapes` or `shapes:N` (N rows), a .jsonl file, or a data set of the Hugging Face Hub or of a
local folder as `name`, `name:split` or `name:config:split`.
"""

import functools
import os
from collections import Counter
from collections.abc import Callable, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from vgs_mlx.data import held_out as held_out_rows
from vgs_mlx.data import jsonl, pictures, shapes
from vgs_mlx.data.rows import BadRow, Columns, Row
from vgs_mlx.errors import Refusal
from vgs_mlx.recipe.paths import SHAPES
from vgs_mlx.types import Example

SHAPES_ROWS = {"train": 20_000, "held_out": 2_000}  # unless the source gives a number
BAD_ROWS_LISTED = 20
ALIKE_LISTED = 3  # bad rows with the same reason
TABLES = (".parquet", ".json", ".csv", ".arrow")  # files that `datasets` reads if they are alone in a folder
ROWS_NAMED = 64  # the first rows, whose unread columns are reported

Check = Callable[[Example], str | None]
"""Why a row can't be used ("prompt too long: ..."), or None."""
Progress = Callable[[int, int], None]
"""Called with the rows looked at so far, and all rows."""


@dataclass(frozen=True)
class DataSet:
    """Rows to train on, rows to measure on, and those omitted under `on_bad_row` = "skip"."""

    train: tuple[Example, ...]
    held_out: tuple[Example, ...]
    skipped: tuple[BadRow, ...] = ()
    unread: tuple[str, ...] = ()  # columns that nothing reads, among the first rows


@dataclass(frozen=True)
class Reading:
    """How rows are read, whatever their source. Shapes need none of it."""

    columns: Columns = field(default_factory=Columns)
    allow_outside: bool = False  # pictures outside the data set's folder
    on_bad_row: Literal["fail", "skip"] = "fail"
    check: Check | None = None
    progress: Progress | None = None


PLAIN = Reading()


@dataclass(frozen=True)
class Source:
    """The rows of a source that were looked at."""

    examples: list[Example]
    bad: list[BadRow]
    unread: tuple[str, ...] = ()


def load(source: str, held_out: str | float, how: Reading = PLAIN, seed: int = 0) -> DataSet:
    """A data set to train on. Every picture is decoded once and every row checked.

    A picture opens later only while its bytes are what they were here: see `pictures.looked_at`.

    `held_out` is a fraction of the source, cut by `seed`; or a bare word, a split of the same Hub data set or folder;
    or a source of its own. Shapes have a held-out split: a fraction means its usual size, a number from 1 on that many
    rows. Which shapes there are doesn't depend on `seed`, so runs with different seeds are measured on the same ones.

    Raises `Refusal` for a source that can't be read or has no usable row, and with `on_bad_row` = "fail" one
    that lists the bad rows.
    """
    apart = held_out_rows.apart(source, held_out)
    own = _read(source, "train", how)
    other = _read(apart, "held_out", how) if apart else Source([], [])
    bad = own.bad + other.bad
    rows = len(own.examples) + len(other.examples) + len(bad)
    _refuse_bad(bad, rows, " and ".join(filter(None, [source, apart])), how)
    _refuse_empty(own.examples, own.bad, source)
    train, measured = (
        (own.examples, other.examples) if apart else held_out_rows.cut(own.examples, held_out, seed, source)
    )
    _refuse_empty(measured, other.bad, apart or source)
    unread = tuple(dict.fromkeys(own.unread + other.unread))
    return DataSet(tuple(train), tuple(measured), tuple(bad), unread)


def load_held_out(source: str, how: Reading = PLAIN, limit: int | None = None) -> DataSet:
    """A source to measure on, read as by `load`, without training rows. Shapes: their held-out split.

    With a `limit`, its first usable rows; later ones are not looked at.
    """
    read = _read(source, "held_out", how, limit)
    _refuse_bad(read.bad, len(read.examples) + len(read.bad), source, how)
    _refuse_empty(read.examples, read.bad, source)
    return DataSet((), tuple(read.examples), tuple(read.bad), read.unread)


def first_held_out(
    source: str, count: int, held_out: str | float, how: Reading = PLAIN, seed: int = 0
) -> tuple[Example, ...]:
    """The first `count` of the rows that `load` holds out, usually without a look at any other.

    Where they are a fraction of a source whose bad rows are skipped, all rows must be looked at. Raises `Refusal`.
    """
    apart = held_out_rows.apart(source, held_out)
    if apart:
        read = _read(apart, "held_out", how, count)
    elif how.on_bad_row == "skip":
        everything = _read(source, "train", how)
        _refuse_empty(everything.examples, everything.bad, source)
        return tuple(held_out_rows.cut(everything.examples, held_out, seed, source)[1][:count])
    else:
        rows = _rows(source, how)
        chosen = [rows[place] for place in held_out_rows.chosen(len(rows), held_out, seed, source)]
        read = _first(chosen, count, how)
    _refuse_bad(read.bad, len(read.examples) + len(read.bad), apart or source, how)
    _refuse_empty(read.examples, read.bad, apart or source)
    return tuple(read.examples)


def _read(source: str, split: str, how: Reading, limit: int | None = None) -> Source:
    """The source's rows, or the first `limit` usable ones. `split` says which part of shapes is meant."""
    built_in = SHAPES.fullmatch(source)
    if built_in:
        return Source(shapes.examples(split, int(built_in[1] or SHAPES_ROWS[split]))[:limit], [])
    rows = _rows(source, how)
    return _first(rows, len(rows) if limit is None else limit, how)


def _first(rows: Sequence[Row], count: int, how: Reading) -> Source:
    """The first `count` usable rows, and the bad ones before them. Under "fail" it stops after the first bad ones."""
    examples: list[Example] = []
    bad: list[BadRow] = []
    done = 0
    while done < len(rows) and len(examples) < count and not (bad and how.on_bad_row == "fail"):
        group = rows[done : done + count - len(examples)]
        usable, refused = _look(group, how)
        examples, bad, done = examples + usable, bad + refused, done + len(group)
    unread = dict.fromkeys(name for row in rows[: min(done, ROWS_NAMED)] for name in row.unread())
    return Source(examples, bad, tuple(unread))


def _rows(source: str, how: Reading) -> list[Row]:
    path = Path(os.path.expanduser(source))
    if os.path.isfile(path) or path.suffix == ".jsonl":
        if path.suffix != ".jsonl":
            raise _another_file(path)
        return jsonl.rows(path, columns=how.columns, allow_outside=how.allow_outside)
    from vgs_mlx.data import hub  # here, since `datasets` takes seconds to import and most runs need none

    name = hub.parse_name(source)
    if name is None:
        tried = f"tried the built-in shapes, a file or folder {path.absolute()}, and owner/name on the Hub"
        raise Refusal(f"no data set {source!r}: {tried}")
    return hub.rows(name, columns=how.columns, allow_outside=how.allow_outside)


def _another_file(path: Path) -> Refusal:
    fix = "write one JSON object a line into a .jsonl file"
    if path.suffix in TABLES:
        fix = f"give a folder that holds nothing else, or {fix}"
    return Refusal(f"data file {path}: not a .jsonl file: {fix}")


def _look(rows: Sequence[Row], how: Reading) -> tuple[list[Example], list[BadRow]]:
    """The usable examples of the rows, and the bad rows. Only pictures are decoded in threads: Pillow frees the GIL."""
    examples: list[Example] = []
    bad: list[BadRow] = []
    make = functools.partial(_make, sizes={})
    # closing: an exception here, Ctrl-C too, must not wait until every other row is decoded
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool, closing(pool.map(make, rows)) as made:
        for row, result in zip(rows, made, strict=True):
            reason = result if isinstance(result, str) else how.check(result) if how.check else None
            if reason is None:
                examples.append(result)
            else:
                bad.append(BadRow(row.where, reason))
            if how.progress:
                how.progress(len(examples) + len(bad), len(rows))
    return examples, bad


def _make(row: Row, sizes: MutableMapping[str, tuple[int, int]]) -> Example | str:
    """The row's example with its pictures looked at, or why there is none. `sizes`: see `pictures.looked_at`."""
    try:
        example = row.example()
        looked_at = tuple(pictures.looked_at(picture, row.where, sizes) for picture in example.pictures)
        return replace(example, pictures=looked_at)
    except Refusal as refusal:
        return str(refusal)


def _refuse_bad(bad: Sequence[BadRow], rows: int, source: str, how: Reading) -> None:
    if not bad or how.on_bad_row == "skip":
        return
    alike, lines, reported = Counter(row.reason for row in bad), [], Counter()
    for row in bad:
        reported[row.reason] += 1
        if reported[row.reason] <= ALIKE_LISTED and len(lines) < BAD_ROWS_LISTED:
            more = alike[row.reason] - ALIKE_LISTED
            rest = (
                f" (and {more:,} more like it)" if reported[row.reason] == ALIKE_LISTED and more > 0 else ""
            )
            lines.append(f"  {row}{rest}")
    if unlisted := sum(min(count, ALIKE_LISTED) for count in alike.values()) - len(lines):
        lines.append(f"  ... and {unlisted} more")
    first = f"{len(bad)} of {rows} rows of {source} can't be used:"
    fix = "fix them, or omit them with --set data.on_bad_row=skip" if len(bad) < rows else "fix them"
    raise Refusal("\n".join([first, *lines, fix]))


def _refuse_empty(examples: Sequence[Example], bad: Sequence[BadRow], source: str) -> None:
    if not examples:
        why = f"all {len(bad)} rows were skipped, the first being {bad[0]}" if bad else "it has no rows"
        raise Refusal(f"data set {source} is empty: {why}")
