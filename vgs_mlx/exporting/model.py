"""Writes a trained student as a complete model folder, its training fused in."""

import shutil
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx

from vgs_mlx.device import release
from vgs_mlx.exporting import fusing
from vgs_mlx.machine.lazy import Lazy
from vgs_mlx.models import precision
from vgs_mlx.models.base import LoadedModel
from vgs_mlx.models.loading import load_model, read_config
from vgs_mlx.runs.folder import ORIGIN

mlx_vlm = Lazy("mlx_vlm")

COPIED = (
    ".json",
    ".jinja",
    ".txt",
    ".model",
    ".tiktoken",
    "LICENSE",
    "LICENCE",
    "NOTICE",
)  # endings of file names
# not true of the new weights
NOT_COPIED = ("config.json", "hf_quant_config.json", "model.safetensors.index.json", ORIGIN)


def stored(path: str) -> LoadedModel:
    """The model at `path` as it is stored; lazy."""
    return load_model(path, "student.path", native=True, lazy=True, say=silent)


def write_model(load: Callable[[], LoadedModel], dtype: mx.Dtype, bits: int | None, folder: Path) -> None:
    """Write the model of the student that `load` gives, its training fused in, to an empty folder; all but its card.

    Layers that training didn't change stay as they are stored.
    """
    student = load()
    plain = stored(student.name)
    fusing.put(plain.module, fusing.changed_weights(student.module), dtype)
    del student
    if bits:
        precision.quantise_language(plain.module, bits)
    config = fusing.fused_config(read_config(plain.folder, "student.path"), plain.module)
    mlx_vlm.utils.save_config(config, folder / "config.json")
    fusing.save(plain.module, folder)
    release()
    for file in sorted(plain.folder.iterdir()):
        if file.is_file() and file.name.endswith(COPIED) and file.name not in NOT_COPIED:
            shutil.copyfile(file, folder / file.name)


def silent(_: str) -> None:
    """Prints nothing: lines about the student are printed once, elsewhere."""
