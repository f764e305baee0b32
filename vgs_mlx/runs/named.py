"""Runs by their names: RUN, and RUN@WHICH for one of its checkpoints."""

import os
from pathlib import Path

from vgs_mlx.runs.folder import RECIPE


def named(path: str) -> tuple[Path, str | None] | None:
    """The run folder that RUN or RUN@WHICH names, and which of its weights (`trained.find`); None for all else."""
    for text, which in ((path, None), path.rpartition("@")[::2]):
        folder = Path(os.path.expanduser(text))
        if text and os.path.isfile(folder / RECIPE):  # False for what can't be looked up
            return folder, which
    return None
