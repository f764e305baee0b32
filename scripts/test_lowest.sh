#!/usr/bin/env bash
# Runs the tests with the lowest version that pyproject.toml allows of each direct dependency, in a throw-away
# environment (1.3 GB): the floors are true only as long as this passes. uv, from PyPI, picks the versions.
#
#   scripts/test_lowest.sh                          all tests
#   scripts/test_lowest.sh tests/test_doctor.py     options go to pytest
#
# PYTHON=/path/to/python   the Python to take: python3.11, unless said, which the lowest versions have wheels for
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
PYTHON=${PYTHON:-python3.11}
find_python
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

cd "$(dirname "${BASH_SOURCE[0]}")/.."
"$python" -m venv "$folder/uv"
"$folder/uv/bin/pip" --disable-pip-version-check install --quiet uv
"$python" -m venv "$folder/lowest"
"$folder/uv/bin/uv" pip install --quiet --resolution lowest-direct --python "$folder/lowest/bin/python" --editable ".[test]"
"$folder/uv/bin/uv" pip list --python "$folder/lowest/bin/python" # what a failure is reported with
PATH="$folder/lowest/bin:$PATH" python -m pytest -q "$@"
