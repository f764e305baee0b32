#!/usr/bin/env bash
# Installs vgs-mlx into .venv with MLX's CUDA build, for Linux with an NVIDIA driver; then says what it found.
# `pip install .` takes the CPU build, and an extra can't take that back: both builds own mlx/lib/libmlx.so.
#
#   scripts/install_cuda.sh        CUDA 13: driver 580 and glibc 2.35 (Ubuntu 22.04) or newer
#   scripts/install_cuda.sh 12     CUDA 12
set -euo pipefail

VGS_MLX_BUILD=cuda${1:-13}
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
make_environment
exec vgs-mlx doctor
