"""Torture with figures: what a run must survive, at random and often, one line of result a part.

    python scripts/torture.py kills 60      kill -9 at random moments; the resumed run is the undisturbed one
    python scripts/torture.py disk          a full and a read-only disk at each write of a run
    python scripts/torture.py nan 60        a value that isn't finite, anywhere in a step
    python scripts/torture.py soak 1000     steps of changing shapes: memory, files and threads don't grow
    python scripts/torture.py rows 1000     random rows of data, bad and good
    python scripts/torture.py files 1000    damaged files of runs and models
    python scripts/torture.py all           each of them, short

The same seed gives the same torture, but for the moments of `kills`. The exit code is 1 where something failed; the
folder is then kept. Each file of scripts/torture/ says what is real in it and what is simulated.
"""

import importlib
import shutil
import tempfile
from pathlib import Path

import vgs_mlx  # noqa: F401  (before mlx: it loads a fast BLAS)

# isort: split
import click

from torture.outcome import Outcome

SHORT = {"kills": 6, "disk": 8, "nan": 9, "soak": 80, "rows": 60, "files": 60}
"""Every part, and the count that `all` gives it."""


@click.command(help=__doc__.replace("\n\n    python", "\n\n\b\n    python"))
@click.argument("part", type=click.Choice([*SHORT, "all"]))
@click.argument("count", type=click.IntRange(1), required=False)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where to work; kept. A temporary one otherwise.",
)
def main(part: str, count: int | None, seed: int, folder: Path | None) -> None:
    if part == "all" and count:
        raise click.UsageError("all: each part has its own count: omit it")
    base = folder or Path(tempfile.mkdtemp(prefix="torture-"))
    counts = SHORT if part == "all" else {part: count}
    failed = [name for name, number in counts.items() if not _passed(name, number, seed, base / name)]
    if not failed and folder is None:
        shutil.rmtree(base, ignore_errors=True)
    if failed:
        click.echo(f"failed: {', '.join(failed)}; look into {base}")
        raise SystemExit(1)


def _passed(name: str, count: int | None, seed: int, folder: Path) -> bool:
    """Run one part in a folder of its own and print its line."""
    if folder.exists() and any(folder.iterdir()):
        raise click.UsageError(f"--folder: {folder} is not empty: give another")
    folder.mkdir(parents=True, exist_ok=True)
    found: Outcome = importlib.import_module(f"torture.{name}").run(count, seed, folder)
    click.echo(f"{name}: {'passed' if found.passed else 'FAILED'}: {found.line}")
    for failure in found.failures:
        click.echo(f"  {failure}")
    return found.passed


if __name__ == "__main__":
    main()
