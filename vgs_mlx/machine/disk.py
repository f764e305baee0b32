"""A disk that is full or can't be written: recognised whichever library reports it, and reported in one line."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vgs_mlx.errors import Refusal

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)
BROKEN = (errno.EIO, errno.ENXIO, errno.ENODEV, errno.ESTALE)  # such as a drive that was pulled out
WRONG_KIND = (errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY)  # a folder in place of a file, or the reverse
# MLX opens and writes files without the system's reason: "[write] Unable to write 13664 bytes to file."
OF_MLX = re.compile(r"\[(write|save\w*)\]|Failed to open.*(writ|output)", re.IGNORECASE)


def reason(error: BaseException) -> str | None:
    """Why a file could not be written, in a few words; None for an error of another kind."""
    if isinstance(error, OSError) and error.errno in (*FULL, *FORBIDDEN, *BROKEN, *WRONG_KIND):
        return error.strerror
    if isinstance(error, RuntimeError) and OF_MLX.search(str(error)):
        return f"is the disk full? MLX says: {' '.join(str(error).split())}"
    return None


def advice(error: BaseException) -> str:
    """What to do about an error that has a `reason`."""
    if isinstance(error, OSError) and error.errno in WRONG_KIND:
        return "move away what is there, and then give the same command again"
    if isinstance(error, OSError) and error.errno in (*FORBIDDEN, *BROKEN):
        return "make it accessible, or give another place, and then the same command again"
    return "make room, and then give the same command again"


def refuse_file(option: str, file: Path) -> None:
    """Refuse a file that a command could not write at its end. Raises `Refusal`."""
    if file.is_dir() or not file.absolute().parent.is_dir():
        raise Refusal(f"{option} {file}: give a file in a folder that exists")
    if not os.access(file if file.exists() else file.absolute().parent, os.W_OK):
        raise Refusal(f"{option} {file}: can't be written there: give a file in another folder")


@contextmanager
def refusing(folder: Path, advice: str) -> Iterator[None]:
    """A failure of the body to write to `folder` becomes a `Refusal` that names the folder and gives the advice.

    Errors of files outside pass through: a picture that can't be read is refused elsewhere, by name.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        why = reason(error)
        if why is None or not _concerns(error, folder):
            raise
        raise Refusal(f"{folder}: can't be written ({why}): {advice}") from error


def _concerns(error: BaseException, folder: Path) -> bool:
    """Whether the file of an error is in the folder. Errors of writing, unlike those of opening, name no file."""
    named = error.filename if isinstance(error, OSError) else None
    return not isinstance(named, str | Path) or Path(named).absolute().is_relative_to(folder.absolute())
