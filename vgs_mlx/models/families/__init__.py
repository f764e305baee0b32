"""The families of models that can be students and teachers. No code outside this package names an architecture."""

from vgs_mlx.machine.lazy import Lazy, loaded
from vgs_mlx.models.families.architecture import Declared
from vgs_mlx.models.families.base import Family

MODULES = {
    "qwen3_vl": Lazy("vgs_mlx.models.families.qwen3_vl"),
    "smolvlm": Lazy("vgs_mlx.models.families.smolvlm"),
}
"""model_type -> the module that defines the family as `FAMILY`. A new family needs two files and two lines here."""
FILES = {
    "qwen3_vl": Lazy("vgs_mlx.models.families.qwen3_vl_files"),
    "smolvlm": Lazy("vgs_mlx.models.families.smolvlm_files"),
}
"""model_type -> the module that defines, as `DECLARED`, what is known before mlx-vlm is imported."""


def family(model_type: str) -> Family:
    """The family of a config's `model_type`. Imports mlx-vlm's code for it, which takes seconds."""
    return loaded(MODULES[model_type]).FAMILY


def declared(model_type: str) -> Declared:
    """What the family of a config's `model_type` declares about its files. Imports no library."""
    return loaded(FILES[model_type]).DECLARED
