"""What a command prints: live tables and bars in a terminal, plain lines elsewhere."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.status import Status
from rich.table import Table
from rich.text import Text

from vgs_mlx.formats.texts import printable

HEADINGS = ("step", "loss", "visual", "η", "VDS", "right", "length", "tok/s", "peak GB")
LIVE_ROWS = 8
LIBRARIES = "loading MLX and transformers"  # the first use of a processor waits for this


class Screen:
    """Prints a run. Holds the console and, in a terminal, the live table; nothing of the run itself."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, emoji=False)
        self._spinner: Status | None = None
        self._training = False

    def say(self, text: str) -> None:
        """Print one line or several. Control characters are written out."""
        lines = "\n".join(printable(line) for line in text.split("\n"))
        self.console.print(lines, markup=False, emoji=False, soft_wrap=True)

    @contextmanager
    def working(self, what: str) -> Iterator[None]:
        """Show a spinner with what takes long, in a terminal; nothing elsewhere or beside the table of steps."""
        if self._training or not self.console.is_terminal:
            yield
            return
        with self._alone():
            self._spinner = self.console.status(Text(f"{what} ..."))
            try:
                with self._spinner:
                    yield
            finally:
                self._spinner = None

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Stop the spinner during the body: rich before 14.1 shows one live display at a time."""
        spinner, self._spinner = self._spinner, None
        if spinner:
            spinner.stop()
        try:
            yield
        finally:
            if spinner:
                spinner.start()
            self._spinner = spinner

    @contextmanager
    def counting(self, title: str) -> Iterator[Callable[[int, int], None]]:
        """A progress bar in a terminal, nothing elsewhere; the body reports (done, of how many)."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        quiet = not self.console.is_terminal
        with self._alone(), Progress(*columns, console=self.console, transient=True, disable=quiet) as bar:
            task = bar.add_task(title, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)

    @contextmanager
    def training(self, steps: int, done: int) -> Iterator[Callable[[Mapping[str, Any]], None]]:
        """The live table of the last steps; the body reports each step's metrics."""
        if not self.console.is_terminal:
            self.say("  ".join(f"{heading:>7}" for heading in HEADINGS))
            yield lambda row: self.say("  ".join(f"{cell:>7}" for cell in cells(row)))
            return
        bar = Progress(
            TextColumn("distilling"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"),
            TimeRemainingColumn(),
        )  # fmt: skip
        task = bar.add_task("", total=steps, completed=done)
        rows: list[Mapping[str, Any]] = []
        self._training = True
        try:
            with Live(_drawn(rows, bar), console=self.console, refresh_per_second=4) as live:

                def show(row: Mapping[str, Any]) -> None:
                    rows.append(row)
                    bar.update(task, completed=row["step"])
                    live.update(_drawn(rows, bar))

                yield show
        finally:
            self._training = False


def _drawn(rows: Sequence[Mapping[str, Any]], bar: Progress) -> Table:
    """The last steps and, from the first second on, the bar below them."""
    table = Table(*HEADINGS, box=None, header_style="bold")
    for column in table.columns:
        column.justify = "right"
    for each in rows[-LIVE_ROWS:]:
        table.add_row(*cells(each))
    grid = Table.grid()
    grid.add_row(table)
    grid.add_row(bar)
    return grid


def cells(row: Mapping[str, Any]) -> list[str]:
    """A step's metrics as the cells under HEADINGS."""
    return [
        str(row["step"]) + ("" if row["finite"] else " skipped"),
        _number(row["loss"], 4),
        _number(row["loss_visual"], 4),
        _number(row["norm_scale"], 2),
        _number(row["visual_dependency_score"], 3),
        f"{row['right_share']:.0%}",
        _number(row["completion_length"], 1),
        f"{row['tokens_per_second']:,.0f}",
        _number(row["peak_memory_gb"], 2),
    ]


def accuracy_line(found: Mapping[str, Any]) -> str:
    """An evaluation in one line."""
    scene = f", scene F1 {found['scene_f1']:.3f}" if "scene_f1" in found else ""
    share = f"accuracy {found['accuracy']:.3f} ({found['low']:.3f}-{found['high']:.3f})"
    return f"{share} on {found['prompts']:,} held-out prompts{scene}"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
