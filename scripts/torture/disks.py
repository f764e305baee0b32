"""A disk that becomes full or read-only in the middle of a run: a real one where it may be mounted, else simulated.

The real one is a tmpfs. It is full when its size is set to what it holds: what still fits into a page that is there is
written, as on any disk. The simulated one raises the system's error before an operation that the system would
refuse; of files that MLX writes it sees nothing.
"""

import ctypes
import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fuse import Act

LARGE = 2**27  # bytes
PAGE = os.sysconf("SC_PAGE_SIZE")
MS_RDONLY, MS_REMOUNT = 1, 32
NEEDS_ROOM = ("open", "os.mkdir")  # other operations succeed on a full disk


class RealDisk:
    """A tmpfs of its own at `folder`."""

    name = "a tmpfs"
    lasts = False  # what a change does is the system's matter from then on

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        _mount(folder, 0, f"size={LARGE}")

    def full(self) -> Act:
        """Takes all the room that is left, when it is called."""

        def act(_: str) -> None:
            free = os.statvfs(self.folder)
            files = free.f_files - free.f_ffree
            _mount(self.folder, MS_REMOUNT, f"size={self.used()},nr_inodes={files}")

        return act

    def read_only(self) -> Act:
        """May not be written any more, once it is called."""
        return lambda _: _mount(self.folder, MS_REMOUNT | MS_RDONLY, "")

    def small(self, pages: int) -> None:
        """As large as that from the start."""
        _mount(self.folder, MS_REMOUNT, f"size={pages * PAGE}")

    def roomy(self) -> None:
        """There is room again, and it may be written."""
        _mount(self.folder, MS_REMOUNT, f"size={LARGE},nr_inodes={LARGE // PAGE}")

    def used(self) -> int:
        """Bytes, whole pages. At least one: 0 would mean no limit."""
        now = os.statvfs(self.folder)
        return max(PAGE, (now.f_blocks - now.f_bfree) * now.f_frsize)


class SimulatedDisk:
    """A plain folder."""

    name = "simulated"
    lasts = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def full(self) -> Act:
        """As `RealDisk.full`, but nothing fits into a page that is there."""

        def act(event: str) -> None:
            if event in NEEDS_ROOM:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        return act

    def read_only(self) -> Act:
        """As `RealDisk.read_only`."""

        def act(_: str) -> None:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

        return act

    def roomy(self) -> None:
        """Nothing to do: whoever stops calling the act has room."""

    def used(self) -> int:
        """Not known, and of no use: it can't be `small`."""
        return 0


Disk = RealDisk | SimulatedDisk


@contextmanager
def disk(folder: Path, *, real: bool = True) -> Iterator[Disk]:
    """A disk at `folder`; a real one if it is asked for and possible."""
    folder.mkdir(parents=True)
    try:
        made = RealDisk(folder) if real and sys.platform == "linux" else SimulatedDisk(folder)
    except OSError:
        made = SimulatedDisk(folder)
    try:
        yield made
    finally:
        if isinstance(made, RealDisk):
            _checked(_libc().umount2(os.fsencode(folder), 2))  # MNT_DETACH


def _mount(folder: Path, flags: int, options: str) -> None:
    _checked(_libc().mount(b"tmpfs", os.fsencode(folder), b"tmpfs", ctypes.c_ulong(flags), options.encode()))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
