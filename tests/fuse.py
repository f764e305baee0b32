"""Something happens just before the n-th operation that changes a file in a folder: a kill, or a disk that is full."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

OPERATIONS = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree")
Act = Callable[[str], None]


class Fuse:
    """Calls `act` with the name of the n-th operation, just before it; counts them all.

    Sees what Python does itself. MLX writes weights without it.
    """

    def __init__(self) -> None:
        self.folder, self.count, self._left, self._act, self._lasts = None, 0, -1, None, False
        sys.addaudithook(self._hear)  # for good: Python has no way to take one out again

    @contextmanager
    def lit(
        self, folder: Path, left: int = -1, act: Act = lambda _: None, *, lasts: bool = False
    ) -> Iterator[None]:
        """During the body. `lasts`: `act` is called before every later operation as well."""
        self.folder, self.count, self._left, self._act, self._lasts = folder, 0, left, act, lasts
        try:
            yield
        finally:
            self.folder = None

    @property
    def burnt(self) -> bool:
        """Whether the n-th operation came."""
        return 0 < self._left <= self.count

    def _hear(self, event: str, arguments: tuple) -> None:
        if self.folder is None or event not in OPERATIONS or not self._changes(event, arguments):
            return
        self.count += 1
        if self.count == self._left or (self._lasts and self.burnt):
            folder, self.folder = self.folder, None  # what `act` does itself counts for nothing
            try:
                self._act(event)
            finally:
                self.folder = folder if self._lasts else None

    def _changes(self, event: str, arguments: tuple) -> bool:
        if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
            return False
        path = arguments[0]
        below = isinstance(path, str | Path) and str(path).startswith(str(self.folder))
        in_a_removal = isinstance(path, str) and not os.path.isabs(path) and arguments[-1] not in (-1, None)
        return below or (in_a_removal and len(arguments) == 2)


FUSE = Fuse()
