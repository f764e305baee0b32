"""Which bytes a run's pictures had when the run started: `pictures.jsonl` in its folder.

A line for each row with stored pictures, in the order of the data set: its part and id, and the name and digest of
each picture.

    {"part": "train", "row": "rows.jsonl:12", "pictures": [["a.png", "5f0c..."]]}

Rows with built-in pictures, which are drawn, have no line, and a run with no other rows has no file. Runs made before
this file existed have none either: their pictures are trusted. Within one process `data.pictures.looked_at` notices
changes; this file is for later processes.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from vgs_mlx.data.datasets import DataSet
from vgs_mlx.errors import Refusal
from vgs_mlx.formats import strict_json
from vgs_mlx.recipe import file as recipe_file
from vgs_mlx.recipe.options import Recipe
from vgs_mlx.runs import folder as run_folder
from vgs_mlx.types import Example

LINE = TypeAdapter(TypedDict("Line", {"part": str, "row": str, "pictures": list[tuple[str, str]]}))
# keys that say which rows there are, and which pictures are theirs
ROWS = ("data.source", "data.held_out", "data.columns", "data.ignore_columns")


def write(run: Path, data: DataSet) -> None:
    """Record the pictures that the run starts with."""
    lines = [_line(part, example) for (part, _), example in _stored(data).items()]
    if lines:
        run_folder.write_text(run / run_folder.PICTURES, "".join(lines))


def write_skipped(run: Path, data: DataSet) -> None:
    """List the bad rows that the run skips, with the reasons, in `skipped.jsonl`."""
    rows = [{"where": bad.where, "reason": bad.reason} for bad in data.skipped]
    if rows:
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        run_folder.write_text(run / run_folder.SKIPPED, "".join(lines))


def refuse_changes(run: Path, data: DataSet) -> None:
    """Refuse rows whose pictures have changed since the run started. Raises `Refusal` that names picture and row.

    `data` has some or all of the run's rows. Of the rows that it lacks, only those that are bad rows now are refused
    here: the identity shows whether others are missing.
    """
    if not (run / run_folder.PICTURES).exists():
        return
    here = _stored(data)
    skipped = {Path(bad.where).name: bad for bad in data.skipped}
    for line in _lines(run):
        if (example := here.get((line["part"], line["row"]))) is not None:
            _refuse_change(run, line["pictures"], example)
        elif (bad := skipped.get(Path(line["row"]).name)) is not None:
            raise Refusal(f"{bad}; {run} started with this row: put it back, or start a new run")


def own_rows(run: Path, recipe: Recipe) -> bool:
    """Whether a recipe names the rows that the run was made from."""
    own, asked = recipe_file.flat(run_folder.opened(run)), recipe_file.flat(recipe)
    return all(own[key] == asked[key] for key in ROWS)


def fingerprint(run: Path) -> str | None:
    """A fingerprint of all pictures that a run recorded, however rows are divided; None where it recorded none."""
    if not (run / run_folder.PICTURES).exists():
        return None
    rows = sorted((line["row"], [digest for _, digest in line["pictures"]]) for line in _lines(run))
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def _stored(data: DataSet) -> dict[tuple[str, str], Example]:
    """The rows with stored pictures, by part and id."""
    parts = (("train", data.train), ("held_out", data.held_out))
    return {
        (part, example.id): example
        for part, examples in parts
        for example in examples
        if any(picture.digest for picture in example.pictures)
    }


def _line(part: str, example: Example) -> str:
    pictures = [[picture.name, picture.digest] for picture in example.pictures]
    return json.dumps({"part": part, "row": example.id, "pictures": pictures}) + "\n"


def _lines(run: Path) -> Iterator[dict[str, Any]]:
    file = run / run_folder.PICTURES
    with file.open("rb") as stream:
        for number, text in enumerate(stream, start=1):
            try:
                line = LINE.validate_python(strict_json.load(text))
            except ValueError as error:  # pydantic's too
                fix = "put it back, or delete it to continue with the pictures as they are"
                raise Refusal(f"{file}:{number}: damaged: {fix}") from error
            yield line


def _refuse_change(run: Path, noted: list[tuple[str, str]], example: Example) -> None:
    current = [(picture.name, picture.digest) for picture in example.pictures]
    if [digest for _, digest in noted] == [digest for _, digest in current]:
        return
    fix = "put it back, or start a new run"
    if len(noted) != len(current):
        raise Refusal(
            f"{example.id}: {run} started with {len(noted)} pictures in this row, which has {len(current)} now: {fix}"
        )
    for (before, digest), (name, now) in zip(noted, current, strict=True):
        if digest == now:
            continue
        if before != name:
            raise Refusal(f"{example.id}: {run} started with picture {before} in this row, not {name}: {fix}")
        raise Refusal(
            f"picture {name} ({example.id}): its bytes are not those that {run} started with: {fix}"
        )
