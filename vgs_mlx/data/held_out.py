"""Which rows a run is measured on: a source of their own, or a share of the training rows."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from vgs_mlx.errors import Refusal
from vgs_mlx.recipe.paths import SHAPES, is_word
from vgs_mlx.types import Example


def apart(source: str, held_out: str | float) -> str | None:
    """The source of the held-out rows; None where they are a share of the rows of `source`.

    A bare word is a split of the Hub data set or folder `source`. Raises `Refusal` for anything else.
    """
    built_in, amount = SHAPES.fullmatch(source), _number(held_out)
    if amount is None:
        other = _split_of(source, str(held_out)) or str(held_out)
        if not built_in and _same(source, other):
            raise Refusal(
                f"data.held_out {held_out}: these are the rows to train on: give a fraction, or other rows"
            )
        return other
    if 0 < amount < 1:
        return "shapes" if built_in else None
    if built_in and amount >= 1 and amount.is_integer():
        return f"shapes:{int(amount)}"
    wanted = "a fraction between 0 and 1" + (", a whole number" if built_in else "")
    fix = "" if built_in else " (a number of rows is for the built-in shapes alone): give 0.3, for example"
    given = str(held_out).removesuffix(".0")
    raise Refusal(f"data.held_out={given}: must be {wanted}, a split or a file{fix}")


def cut(
    examples: list[Example], fraction: str | float, seed: int, source: str
) -> tuple[list[Example], list[Example]]:
    """The rows to train on and the held-out rows, that fraction (at least one row, not all); both keep their order."""
    places = chosen(len(examples), fraction, seed, source)
    taken = set(places)
    kept = [example for index, example in enumerate(examples) if index not in taken]
    return kept, [examples[index] for index in places]


def chosen(count: int, fraction: str | float, seed: int, source: str) -> list[int]:
    """The numbers of the held-out rows among `count`, ascending. Raises `Refusal` for fewer than two rows."""
    if count < 2:
        raise Refusal(
            f"data set {source}: one row can't be divided: add rows, or set data.held_out to a file"
        )
    size = min(max(round(float(fraction) * count), 1), count - 1)
    stream = np.random.default_rng((seed, 0, 1))  # not one of order.py's streams (seed, epoch)
    return sorted(stream.permutation(count)[:size].tolist())


def trained_on(train: Sequence[Example], held_out: Sequence[Example]) -> int:
    """How many held-out rows ask a training row's question about the same pictures, byte for byte.

    No picture is opened: digests are compared, or names where a picture is drawn and has no digest.
    """

    def asked(example: Example) -> tuple[str, ...]:
        return example.question, *(picture.digest or picture.name for picture in example.pictures)

    known = {asked(example) for example in train}
    return sum(asked(example) in known for example in held_out)


def _split_of(source: str, split: str) -> str | None:
    """`name:split` if `split` is a bare word; None if it is a data set of its own."""
    if SHAPES.fullmatch(split) or not is_word(split):
        return None
    from vgs_mlx.data import hub

    name = None if SHAPES.fullmatch(source) or source.endswith(".jsonl") else hub.parse_name(source)
    if name is None:
        fix = f"write ./{split} for a folder of that name"
        raise Refusal(f"data.held_out {split}: a bare word is a split, and {source} has none: {fix}")
    return str(replace(name, split=split))


def _same(source: str, other: str) -> bool:
    """Whether two sources name the same rows; without a split, a Hub data set's is `train`."""
    files = [Path(name).expanduser() for name in (source, other)]
    if all(file.is_file() for file in files):
        return files[0].samefile(files[1])
    return other in (source, f"{source}:train") or source == f"{other}:train"


def _number(held_out: str | float) -> float | None:
    try:
        return float(held_out)
    except ValueError:
        return None
