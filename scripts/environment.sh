# shellcheck shell=bash
# Sourced by the other scripts, under `set -euo pipefail`. `make_environment` makes .venv in the repository's root,
# or takes the one that is there, installs the package into it, editable, and puts its programs first in PATH;
# `make_environment test` adds what the tests need, `make_environment test,torch` PyTorch too. It keeps to bash 3.2, the one that macOS has.
#
# PYTHON=/path/to/python   the Python to make .venv with
# VGS_MLX_BUILD=cuda13     MLX's build on Linux: cpu (the default), cuda12 or cuda13; a .venv keeps the one it has

fail() {
  printf '%s\n' "$*" >&2
  exit 1
}

# Prints why a Python can't be used, nothing where it can. Old Pythons run this too, hence its plain style.
complaint_about() {
  "$1" -c '
import platform, sys
if sys.version_info < (3, 11):
    print("is Python %d.%d, and 3.11 or newer is needed" % sys.version_info[:2])
elif sys.platform == "darwin" and platform.machine() != "arm64":
    print("is an Intel program, and MLX needs Apple silicon with an arm64 Python")
else:
    try:
        import ensurepip, venv
    except ImportError:
        print("has no venv or ensurepip (on Debian and Ubuntu: apt install python3-venv)")
' 2>/dev/null || echo "does not run"
}

# Sets `python` to the first Python that can be used.
find_python() {
  local name complaint complaints=""
  if [ -n "${PYTHON:-}" ]; then
    set -- "$PYTHON"
  else
    set -- python3.13 python3.12 python3.11 python3
  fi
  for name in "$@"; do
    complaint="does not run"
    if command -v "$name" >/dev/null; then complaint=$(complaint_about "$name"); fi
    if [ -z "$complaint" ]; then
      python=$name
      return
    fi
    # That one of several names doesn't run is no news: version managers leave such stubs.
    if [ "$complaint" != "does not run" ] || [ $# = 1 ]; then complaints="$complaints $name $complaint."; fi
  done
  fail "No usable Python:${complaints:- none was found.} Install one (macOS: brew install python@3.12;" \
    "Debian, Ubuntu: apt install python3 python3-venv) or name one: PYTHON=/path/to/python3.12 $0"
}

make_venv() {
  find_python
  echo "Making .venv with $("$python" --version)."
  if ! "$python" -m venv .venv >/dev/null; then
    rm -rf .venv
    fail "$python can't make a virtual environment (on Debian and Ubuntu: apt install python3-venv)"
  fi
}

# Prints the build of MLX that .venv has; nothing where it has none yet, or on a Mac.
installed_build() {
  .venv/bin/python -c '
from importlib.metadata import distributions
names = {each.metadata["Name"] for each in distributions()}
print(*[build for build in ("cpu", "cuda12", "cuda13") if "mlx-" + build.replace("cuda", "cuda-") in names])'
}

pip_install() {
  .venv/bin/python -m pip --disable-pip-version-check --no-input install --quiet "$@" ||
    fail "The installation failed, for the reason that pip gives above. Run $0 again to try again."
}

# $1: "", "test" or "test,torch"; $2: the build of MLX.
install_package() {
  local list=.venv/vgs-mlx-requirements.txt
  echo "Installing vgs-mlx and what it needs ($([ "$2" = cpu ] && echo 1.3 || echo 4.1) GB on disk):" \
    "a minute or two on a fast line, longer on a slow one. pip is silent meanwhile."
  if [ "$2" = cpu ]; then
    pip_install --editable ".${1:+[$1]}"
  else
    .venv/bin/python scripts/requirements.py "$2" ${1//,/ } >"$list"
    pip_install --requirement "$list"
    pip_install --no-deps --editable .
  fi
}

make_environment() {
  local here=$PWD
  cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
  prepare "${1:-}"
  PATH="$PWD/.venv/bin:$PATH"
  cd "$here" || exit # so that a path in the arguments means what it says
}

# In the repository's root. $1: "", "test" or "test,torch".
prepare() {
  local extra=$1 build=${VGS_MLX_BUILD:-} installed stamp=.venv/vgs-mlx-installed wanted
  case "$build" in "" | cpu | cuda12 | cuda13) ;; *) fail "VGS_MLX_BUILD is $build: use cpu, cuda12 or cuda13" ;; esac
  case "$build$(uname)" in cuda*Darwin) fail "VGS_MLX_BUILD=$build: a Mac has no CUDA; unset it" ;; esac

  [ -e .venv ] || make_venv
  if [ -n "$(complaint_about .venv/bin/python)" ] || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    fail "The .venv in $PWD is broken or older than Python 3.11. Remove it and run $0 again: rm -r $PWD/.venv"
  fi
  installed=$(installed_build)
  if [ -n "$build" ] && [ -n "$installed" ] && [ "$build" != "$installed" ]; then
    fail "The .venv in $PWD has MLX's build for $installed, and two builds overwrite each other." \
      "Remove it and run $0 again: rm -r $PWD/.venv"
  fi

  # Once for every state of pyproject.toml, since pip would look at each package again (10 seconds).
  wanted="$PWD $(cksum <pyproject.toml)"
  case "$(cat "$stamp" 2>/dev/null || true)" in "$wanted $extra"*) return ;; esac
  install_package "$extra" "${build:-${installed:-cpu}}"
  printf '%s\n' "$wanted $extra" >"$stamp"
}
