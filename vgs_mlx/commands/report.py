"""What `vgs-mlx report` does: read a run or an ablation, let the models answer, write one HTML page."""

from pathlib import Path

from vgs_mlx.ablation.grid_file import GRID
from vgs_mlx.errors import Refusal
from vgs_mlx.report import ablation, page
from vgs_mlx.runs import folder as run_folder
from vgs_mlx.runs import trained
from vgs_mlx.runs.screen import Screen

DEFAULT_NAME = "report.html"
SUFFIXES = (".html", ".htm")
WANTED = "give the --output of a `vgs-mlx distill` or a `vgs-mlx ablate`"


def run(
    folder: Path,
    output: Path | None,
    *,
    examples: int,
    checkpoint: str | None = None,
    force: bool = False,
    screen: Screen | None = None,
) -> Path:
    """Write the page about a folder and return its path. The models answer `examples` held-out rows; 0 loads none.

    `checkpoint` selects which of a run's weights answer: see `trained.find`.

    Raises `Refusal` where the folder holds neither a run nor an ablation, where the page can't be written there, and
    where it would replace a page with answers by one without.
    """
    screen = screen or Screen()
    if not folder.is_dir():
        raise Refusal(f"{folder}: no such folder: {WANTED}")
    output = output or folder / DEFAULT_NAME
    _refuse_output(output)
    text = _page(folder, examples, checkpoint, force, screen)
    _refuse_loss(output, text)
    try:
        run_folder.write_text(output, text)
    except OSError as error:
        raise Refusal(f"--output {output}: can't be written ({error.strerror}): give another file") from error
    screen.say(f"report   {output}")
    return output


def _page(folder: Path, examples: int, checkpoint: str | None, force: bool, screen: Screen) -> str:
    is_run = (folder / run_folder.RECIPE).is_file()
    if not is_run and not ablation.is_ablation(folder):
        missing = f"neither a run (no {run_folder.RECIPE} in it) nor an ablation (no {GRID})"
        raise Refusal(f"{folder}: is {missing}: {WANTED}")
    if checkpoint and not is_run:
        raise Refusal(f"--checkpoint {checkpoint}: {folder} is an ablation: give one of its run folders")
    if checkpoint:
        trained.find(folder, checkpoint)  # refuses a missing one; the page would only note it
    with screen.working("drawing, and letting the models answer" if examples else "drawing"):
        if is_run:
            return page.of_run(folder, examples, screen, checkpoint, force)
        return page.of_ablation(folder, examples, screen, force)


def _refuse_output(output: Path) -> None:
    """The page never replaces another kind of file."""
    if output.suffix.lower() not in SUFFIXES:
        raise Refusal(f"--output {output}: a page's name ends in {SUFFIXES[0]}")
    if output.is_dir() or not output.absolute().parent.is_dir():
        raise Refusal(f"--output {output}: give a file in a folder that exists")


def _refuse_loss(output: Path, text: str) -> None:
    """Answers take the models a long time, so a page without any never replaces one with answers."""
    marker = page.EXAMPLE
    if output.is_file() and marker not in text and marker in output.read_text("utf-8", errors="replace"):
        raise Refusal(
            f"{output}: shows answers of the models, and the new page has none: give another file with --output, "
            "or remove this one"
        )
