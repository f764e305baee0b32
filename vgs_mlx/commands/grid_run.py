"""One run of a grid, in a process of its own. It does what `vgs-mlx distill` does.

Its standard input is a pipe that only its parent process holds. When the parent ends, for whatever reason, the run
saves its step and stops.
"""

import os
import shutil
import signal
import sys
import threading
from pathlib import Path

from vgs_mlx.commands import distill as distillation
from vgs_mlx.errors import Interrupted, Refusal
from vgs_mlx.machine import stopping
from vgs_mlx.recipe import file as recipe_file
from vgs_mlx.runs import folder as run_folder


def main() -> None:
    """Resume the run in the folder that is the second argument, or start it with the recipe that is the first."""
    recipe, folder = map(Path, sys.argv[1:])
    try:
        with stopping.at_once():
            threading.Thread(target=_stop_with_parent, daemon=True).start()
            _work(recipe, folder)
    except Refusal as refusal:
        sys.exit(str(refusal))
    except (Interrupted, KeyboardInterrupt) as interrupt:
        print(f"stopped. {interrupt}")
        sys.exit(stopping.exit_code())


def _work(recipe: Path, folder: Path) -> None:
    if (folder / run_folder.RECIPE).is_file():
        distillation.resume(folder, ())
    else:
        shutil.rmtree(
            folder, ignore_errors=True
        )  # a run that was killed before it had a recipe holds nothing
        distillation.start(recipe_file.load_recipe(recipe), folder.name, folder)


def _stop_with_parent() -> None:
    while os.read(0, 1):  # not sys.stdin: its lock must be free when Python ends
        pass
    os.kill(os.getpid(), signal.SIGINT)
