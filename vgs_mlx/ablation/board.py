"""The display of a running grid: a live table of cells and seeds in a terminal, plain lines elsewhere."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from vgs_mlx.ablation.jobs import Job, State
from vgs_mlx.runs import folder as run_folder
from vgs_mlx.runs.records import read_object

STYLES = {"waiting": "dim", "running": "cyan", "done": "green", "failed": "bold red", "stopped": "yellow"}

PLAIN_WIDTH = 160  # of a table in a file, characters


class Board:
    """Prints a grid. Holds the console, the runs that it shows, and, in a terminal, the live table."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        if not self.console.is_terminal:
            self.console.width = PLAIN_WIDTH
        self._live: Live | None = None
        self._states: Mapping[Job, State] = {}

    def say(self, text: str) -> None:
        """Print one line."""
        self.console.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def showing(self, jobs: Sequence[Job], states: Mapping[Job, State]) -> Iterator[None]:
        """Show the table of `states` while the body runs, which changes them."""
        self._states = states
        kept = sum(state == "done" for state in states.values())
        self.say(f"runs     {len(jobs)}" + (f", {kept} already finished" if kept else ""))
        live = Live(console=self.console, refresh_per_second=4) if self.console.is_terminal else None
        with live or nullcontext():
            self._live = live
            self.show()
            yield
            self.show()
        self._live = None

    def show(self) -> None:
        """Update the table."""
        if self._live:
            self._live.update(Group(self._table(), Text(self._count())))

    def accuracy(self, job: Job) -> float:
        """The final accuracy of a finished run; NaN where its result has none."""
        return read_object(job.folder / run_folder.RESULT).get("accuracy_after", math.nan)

    def _table(self) -> Table:
        seeds = sorted({job.recipe.seed for job in self._states})
        table = Table("cell", *[f"seed {seed}" for seed in seeds], box=None, header_style="bold")
        for column in table.columns[1:]:
            column.justify = "right"
        cells: dict[str, dict[int, Text]] = {}
        for job, state in self._states.items():
            cells.setdefault(job.cell, {})[job.recipe.seed] = Text(self._words(job, state), STYLES[state])
        for cell, words in cells.items():
            table.add_row(Text(cell, overflow="fold"), *[words.get(seed, Text("")) for seed in seeds])
        return table

    def _words(self, job: Job, state: State) -> str:
        if state == "done":
            return f"{self.accuracy(job):.3f}"
        if state == "running":
            file = job.folder / run_folder.METRICS
            steps = file.read_bytes().count(b"\n") if file.exists() else 0
            return f"{steps}/{job.recipe.train.steps}"
        return "·" if state == "waiting" else state

    def _count(self) -> str:
        states = list(self._states.values())
        counts = {state: states.count(state) for state in ("running", "failed", "stopped") if state in states}
        return ", ".join(
            [
                f"{states.count('done')} of {len(states)} done",
                *[f"{n} {state}" for state, n in counts.items()],
            ]
        )
