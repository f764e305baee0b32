"""Loads the fast BLAS before anything imports MLX; checks the objective's types and shapes at run time."""

import vgs_mlx  # isort: skip  # before mlx: see vgs_mlx/machine/blas.py
from jaxtyping import install_import_hook

# Every call of a function in this package is checked against its annotations, shapes included.
install_import_hook("vgs_mlx.objective", "beartype.beartype")

__all__ = ["vgs_mlx"]
