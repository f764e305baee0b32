"""Prints what vgs-mlx requires when MLX's CUDA build takes the CPU build's place, for `pip install -r`.

    python scripts/requirements.py cuda13 > requirements.txt
    pip install -r requirements.txt && pip install --no-deps .

pip can't do it by itself: an extra only adds, and no option replaces one requirement of a package.
"""

import argparse
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"


def requirements(build: str, extras: list[str]) -> list[str]:
    """The package's requirements and those of some extras, with `mlx[build]` for `mlx[cpu]`."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(each for extra in extras for each in extra_of(project, extra))]
    return [each.replace("mlx[cpu]", f"mlx[{build}]") for each in wanted]


def extra_of(project: dict, extra: str) -> list[str]:
    known = project["optional-dependencies"]
    if extra not in known:
        raise SystemExit(f"there is no extra {extra!r}; there are {', '.join(known)}")
    return known[extra]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("build", choices=["cuda12", "cuda13"])
    parser.add_argument("extras", nargs="*", help="such as: test")
    options = parser.parse_args()
    print(*requirements(options.build, options.extras), sep="\n")
