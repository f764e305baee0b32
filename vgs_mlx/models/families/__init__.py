"""The families of models that can be trained and taught by. Nothing outside this room names an architecture."""

from vgs_mlx.machine.lazy import Lazy, loaded
from vgs_mlx.models.families.architecture import Declared
from vgs_mlx.models.families.base import Family

MODULES = {
    "qwen3_vl": Lazy("vgs_mlx.models.families.qwen3_vl"),
    "smolvlm": Lazy("vgs_mlx.models.families.smolvlm"),
}
"""model_type -> the file that declares it as `FAMILY`. Another family is two files and two lines here."""
FILES = {
    "qwen3_vl": Lazy("vgs_mlx.models.families.qwen3_vl_files"),
    "smolvlm": Lazy("vgs_mlx.models.families.smolvlm_files"),
}
"""model_type -> the file that declares as `DECLARED` what is known before mlx-vlm is imported."""


def family(model_type: str) -> Family:
    """The family of a config's `model_type`. Importing it imports mlx-vlm's code for it, which takes a while."""
    return loaded(MODULES[model_type]).FAMILY


def declared(model_type: str) -> Declared:
    """What the family of a config's `model_type` declares of its files. Imports no library."""
    return loaded(FILES[model_type]).DECLARED
