"""A figure as files, for papers and slides: SVG and PNG."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from vgs_mlx.figures import style
from vgs_mlx.figures.palette import LIGHT
from vgs_mlx.runs import folder as run_folder

MARGIN = 0.07  # inches
FORMATS: dict[str, dict[str, Any]] = {"svg": {"metadata": {"Date": None}}, "png": {"dpi": 150}}


@style.applied()
def save(figure: Figure, folder: Path, name: str, formats: tuple[str, ...] = tuple(FORMATS)) -> list[Path]:
    """Write `name`.svg and `name`.png into the folder, the same bytes for the same figure. Returns their paths."""
    figure.get_layout_engine().set(w_pad=MARGIN, h_pad=MARGIN)
    paths = [folder / f"{name}.{suffix}" for suffix in formats]
    for suffix, path in zip(formats, paths, strict=True):
        with run_folder.whole(path) as beside:
            figure.savefig(beside, format=suffix, facecolor=LIGHT["paper"], **FORMATS[suffix])
    return paths
