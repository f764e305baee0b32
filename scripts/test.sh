#!/usr/bin/env bash
# Runs the tests in the environment that quickstart.sh uses, made where it is missing.
#
#   scripts/test.sh                          all tests
#   scripts/test.sh tests/test_doctor.py     options go to pytest
#   VGS_MLX_TORCH=1 scripts/test.sh          with PyTorch, so that the comparison with it is not skipped
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
make_environment "test${VGS_MLX_TORCH:+,torch}"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec python -m pytest -q "$@"
