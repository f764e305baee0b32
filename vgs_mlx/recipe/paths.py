"""Which part of a recipe's text names a file or folder, and how it is made absolute."""

import os
import re
from collections.abc import Callable
from pathlib import Path

from vgs_mlx.errors import Refusal
from vgs_mlx.formats import texts

SHAPES = re.compile(r"shapes(?::(\d+))?")
"""The built-in data, with or without a number of rows. A folder of that name is ./shapes."""


def reward_file(reward: str) -> Path | None:
    """The file of `path/to/file.py:function`; None for a built-in reward."""
    file, separator, _ = reward.rpartition(":")
    return Path(file) if separator else None


def is_word(text: str) -> bool:
    """Whether the text is a bare word and not a path: no separator, no suffix, no leading dot or ~."""
    return not (os.sep in text or ":" in text or text.startswith((".", "~")) or Path(text).suffix)


def resolve_path(text: str, folder: Path) -> str:
    """`text` as an absolute path if it is written as a path and names something in `folder`; else unchanged.

    A bare word is never a path, whatever `folder` holds. Raises `Refusal` for a path that can't be looked up.
    """
    return text if is_word(text) else resolve_name(text, folder)


def resolve_name(text: str, folder: Path) -> str:
    """As `resolve_path`, for names of models and data sets: a bare word may name a folder as well.

    A local folder `owner/name` wins over the Hub's `owner/name`.
    """
    if not text or SHAPES.fullmatch(text):
        return text
    try:
        candidate = (folder / text).expanduser()
        if not candidate.exists():
            return text
        path = str(candidate.resolve())
        if candidate.is_dir():
            os.listdir(candidate)
    except (OSError, RuntimeError) as error:  # too long, no permission, ~ of an unknown user
        why = error.strerror if isinstance(error, OSError) else error
        raise Refusal(f"{text[:200]}: can't be looked up ({why}): give another path") from error
    if fault := texts.fault(path):
        raise Refusal(f"{texts.printable(path)}: its name {fault}: rename the file or folder")
    return path


def resolve_data(text: str, folder: Path, resolve: Callable[[str, Path], str]) -> str:
    """A data set's name with its path made absolute by `resolve`; `:split` or `:config:split` may follow a folder."""
    for colons in (0, 1, 2):
        name, *rest = text.rsplit(":", colons)
        if (path := resolve(name, folder)) != name and (not rest or Path(path).is_dir()):
            return ":".join([path, *rest])
    return text


def resolve_student(text: str, folder: Path) -> str:
    """As `resolve_name`; a run's folder may be followed by `@` and which of its weights are meant."""
    whole, (run, mark, which) = resolve_name(text, folder), text.rpartition("@")
    if whole != text or not mark or (path := resolve_name(run, folder)) == run:
        return whole
    return f"{path}@{which}"


def path_of(text: str) -> str:
    """The file or folder in `path`, `path:split` or `path:config:split`; `text` where there is none."""
    tries = [text.rsplit(":", colons)[0] for colons in (0, 1, 2)]
    return next((each for each in tries if each and os.path.exists(os.path.expanduser(each))), text)
