"""The one way to a data set: rows of a file, the Hub or the built-in shapes, checked before any model loads.

A source is `shapes` or `shapes:N` (N rows), a .jsonl file, or a data set of the Hugging Face Hub or of a
local folder as `name`, `name:split` or `name:config:split`.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from vgs_mlx.data import jsonl, shapes
from vgs_mlx.data.rows import BadRow, Row, check_columns
from vgs_mlx.errors import Refusal
from vgs_mlx.recipe import SHAPES
from vgs_mlx.types import Example

SHAPES_ROWS = {"train": 20_000, "held_out": 2_000}  # where the source doesn't say
BAD_ROWS_LISTED = 20

Check = Callable[[Example], str | None]  # why a row can't be used ("prompt too long: ..."), or None
Progress = Callable[[int, int], None]  # rows looked at, rows in all


@dataclass(frozen=True)
class DataSet:
    """Rows to train on, rows to measure on, and those left out under `on_bad_row` = "skip"."""

    train: tuple[Example, ...]
    held_out: tuple[Example, ...]
    skipped: tuple[BadRow, ...] = ()


@dataclass(frozen=True)
class How:
    """How rows are read: see `load`."""

    columns: Mapping[str, str] | None
    allow_outside: bool
    on_bad_row: Literal["fail", "skip"]
    check: Check | None
    progress: Progress | None


def load(
    source: str,
    *,
    held_out: str | float,
    columns: Mapping[str, str] | None = None,
    allow_outside: bool = False,
    on_bad_row: Literal["fail", "skip"] = "fail",
    seed: int = 0,
    check: Check | None = None,
    progress: Progress | None = None,
) -> DataSet:
    """A data set to train on. Every picture is decoded once, every row checked; shapes need neither.

    `held_out` is a fraction of the source, cut by `seed`; or a split of the same Hub data set; or a source of
    its own. Shapes have a held-out split: a fraction means its usual size, a number from 1 on so many rows.
    Which shapes there are doesn't depend on `seed`, so runs with different seeds are measured on the same.

    Raises a Refusal for a source that can't be read or has no usable row, and with `on_bad_row` = "fail" one
    that lists the bad rows.
    """
    how = How(columns, allow_outside, on_bad_row, check, progress)
    amount = _number(held_out)
    apart = _held_out_source(source, held_out, amount)
    train, bad = _read(source, "train", how)
    measured, bad_too = _read(apart, "held_out", how) if apart else ([], [])
    rows = len(train) + len(measured) + len(bad + bad_too)
    _settle(bad + bad_too, rows, " and ".join(filter(None, [source, apart])), how)
    _refuse_empty(train, bad, source)
    if not apart:
        train, measured = _cut(train, amount, seed, source)
    _refuse_empty(measured, bad_too, apart or source)
    return DataSet(tuple(train), tuple(measured), tuple(bad + bad_too))


def load_held_out(
    source: str,
    *,
    columns: Mapping[str, str] | None = None,
    allow_outside: bool = False,
    on_bad_row: Literal["fail", "skip"] = "fail",
    check: Check | None = None,
    progress: Progress | None = None,
) -> DataSet:
    """A whole source to measure on, read as by `load`; no training rows. Shapes: their held-out split."""
    how = How(columns, allow_outside, on_bad_row, check, progress)
    examples, bad = _read(source, "held_out", how)
    _settle(bad, len(examples) + len(bad), source, how)
    _refuse_empty(examples, bad, source)
    return DataSet((), tuple(examples), tuple(bad))


def first_held_out(
    source: str,
    count: int,
    *,
    held_out: str | float,
    columns: Mapping[str, str] | None = None,
    allow_outside: bool = False,
    on_bad_row: Literal["fail", "skip"] = "fail",
    seed: int = 0,
    check: Check | None = None,
) -> tuple[Example, ...]:
    """The first `count` of the rows that `load` holds out, mostly without a look at any other.

    Where they are a fraction of a source whose bad rows are skipped, all must be looked at. Raises `Refusal`.
    """
    how = How(columns, allow_outside, on_bad_row, check, None)
    amount = _number(held_out)
    apart = _held_out_source(source, held_out, amount)
    if apart and SHAPES.fullmatch(apart):
        return tuple(_read(apart, "held_out", how)[0][:count])
    if not apart and on_bad_row == "skip":
        whole = load(
            source, held_out=held_out, columns=columns, allow_outside=allow_outside, on_bad_row="skip",
            seed=seed, check=check,
        )  # fmt: skip
        return whole.held_out[:count]
    rows = _rows(apart or source, how)
    places = range(len(rows)) if apart else sorted(_chosen(len(rows), amount, seed, source))
    examples: list[Example] = []
    bad: list[BadRow] = []
    for place in places:
        if len(examples) == count:
            break
        found, refused = _look([rows[place]], how)
        examples, bad = examples + found, bad + refused
        _settle(refused, 1, apart or source, how)
    _refuse_empty(examples, bad, apart or source)
    return tuple(examples)


def _read(source: str, split: str, how: How) -> tuple[list[Example], list[BadRow]]:
    """The source's usable rows and its bad ones. `split` is which part of shapes is meant."""
    built_in = SHAPES.fullmatch(source)
    if not built_in:
        return _look(_rows(source, how), how)
    count = int(built_in[1] or SHAPES_ROWS[split])
    return shapes.examples(split, count), []


def _rows(source: str, how: How) -> list[Row]:
    check_columns(how.columns or {})
    path = Path(source).expanduser()
    if path.is_file() or path.suffix == ".jsonl":
        if path.suffix != ".jsonl":
            raise Refusal(f"data file {source}: not a .jsonl file (one JSON object a line)")
        return jsonl.rows(path, columns=how.columns or {}, allow_outside=how.allow_outside)
    from vgs_mlx.data import hub  # here, since `datasets` takes seconds to import and most runs need none

    name = hub.parse_name(source)
    if name is None:
        tried = f"tried the built-in shapes, a file or folder {path.absolute()}, and owner/name on the Hub"
        raise Refusal(f"no data set {source!r}: {tried}")
    return hub.rows(name, columns=how.columns or {}, allow_outside=how.allow_outside)


def _look(rows: Sequence[Row], how: How) -> tuple[list[Example], list[BadRow]]:
    """Makes and checks every row. Only pictures are decoded in threads (Pillow lets go of the lock)."""
    examples: list[Example] = []
    bad: list[BadRow] = []
    # closing: an exception here, Ctrl-C too, must not wait until every other row is decoded
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool, closing(pool.map(_make, rows)) as made:
        for row, result in zip(rows, made, strict=True):
            reason = result if isinstance(result, str) else how.check(result) if how.check else None
            if reason is None:
                examples.append(result)
            else:
                bad.append(BadRow(row.where, reason))
            if how.progress:
                how.progress(len(examples) + len(bad), len(rows))
    return examples, bad


def _make(row: Row) -> Example | str:
    """The row's example, its pictures having been decoded once; or why there is none."""
    try:
        example = row.example()
        for picture in example.pictures:
            picture.open()
        return example
    except Refusal as refusal:
        return str(refusal)


def _settle(bad: Sequence[BadRow], rows: int, source: str, how: How) -> None:
    if not bad or how.on_bad_row == "skip":
        return
    lines = [f"  {row}" for row in bad[:BAD_ROWS_LISTED]]
    if len(bad) > BAD_ROWS_LISTED:
        lines.append(f"  ... and {len(bad) - BAD_ROWS_LISTED} more")
    first = f"{len(bad)} of {rows} rows of {source} can't be used:"
    mend = "mend them, or leave them out with --set data.on_bad_row=skip"
    raise Refusal("\n".join([first, *lines, mend]))


def _refuse_empty(examples: Sequence[Example], bad: Sequence[BadRow], source: str) -> None:
    if not examples:
        why = f"all {len(bad)} rows were left out, the first being {bad[0]}" if bad else "it has no rows"
        raise Refusal(f"data set {source} is empty: {why}")


def _held_out_source(source: str, held_out: str | float, amount: float | None) -> str | None:
    """The source that holds the held-out rows, None where they are cut from the training rows."""
    built_in = SHAPES.fullmatch(source)
    if amount is None:
        apart = _split_of(source, str(held_out)) or str(held_out)
        if not built_in and _same(source, apart):
            raise Refusal(f"data.held_out {held_out}: the rows to train on; give a fraction, or other rows")
        return apart
    if 0 < amount < 1:
        return "shapes" if built_in else None
    if built_in and amount >= 1 and amount.is_integer():
        return f"shapes:{int(amount)}"
    wanted = "a fraction between 0 and 1" + (", a whole number" if built_in else "")
    raise Refusal(f"data.held_out {held_out}: must be {wanted}, a split or a .jsonl file")


def _split_of(source: str, split: str) -> str | None:
    """`name:split` where the source is a Hub data set or folder and `split` a plain word; else None."""
    ours = SHAPES.fullmatch(source) or SHAPES.fullmatch(split) or source.endswith(".jsonl")
    if ours or not re.fullmatch(r"\w+", split):
        return None
    from vgs_mlx.data import hub

    name = hub.parse_name(source)
    return str(replace(name, split=split)) if name else None


def _same(source: str, apart: str) -> bool:
    """Whether two sources name the same rows, a Hub data set's split being `train` where none is said."""
    files = [Path(name).expanduser() for name in (source, apart)]
    if all(file.is_file() for file in files):
        return files[0].samefile(files[1])
    return apart in (source, f"{source}:train") or source == f"{apart}:train"


def _cut(
    examples: list[Example], fraction: float, seed: int, source: str
) -> tuple[list[Example], list[Example]]:
    """Splits off that share of the rows, at least one and not all, by the seed; both keep their order."""
    chosen = _chosen(len(examples), fraction, seed, source)
    kept = [example for index, example in enumerate(examples) if index not in chosen]
    return kept, [examples[index] for index in sorted(chosen)]


def _chosen(count: int, fraction: float, seed: int, source: str) -> set[int]:
    """Which of `count` rows are held out."""
    if count < 2:
        raise Refusal(f"data set {source}: one row can't be divided; add rows or give data.held_out a file")
    size = min(max(round(fraction * count), 1), count - 1)
    stream = np.random.default_rng((seed, 0, 1))  # not one of order.py's streams (seed, epoch)
    return set(stream.permutation(count)[:size].tolist())


def _number(held_out: str | float) -> float | None:
    try:
        return float(held_out)
    except ValueError:
        return None
