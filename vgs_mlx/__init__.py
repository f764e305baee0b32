"""Distils a big vision-language teacher into a small student with Visual Gradient Steering, on MLX."""

from vgs_mlx.machine import blas

blas.load_openblas()  # before anything imports mlx.core: it decides which BLAS mlx binds to
