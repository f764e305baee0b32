#!/usr/bin/env bash
# From a machine with Python 3.11 or newer and nothing else to a distilled model: makes .venv, installs vgs-mlx into
# it, and distils the built-in tiny teacher into the built-in tiny student. Needs no download of models or data.
#
#   scripts/quickstart.sh                    the default: a few minutes on two CPU cores
#   scripts/quickstart.sh --set seed=1       options go to `vgs-mlx distill`
#
# Variables that it heeds: see scripts/environment.sh.
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
make_environment
vgs-mlx distill "$@"
echo "first    source $(dirname "$(command -v vgs-mlx)")/activate   (puts vgs-mlx on this shell's path)"
