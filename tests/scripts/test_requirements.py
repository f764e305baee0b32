"""Which build of MLX an installation takes: exactly one, since two overwrite each other's library."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement

from scripts.requirements import PYPROJECT, requirements

PROJECT = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]


def mlx_builds(lines: list[str], platform: str) -> list[set[str]]:
    """The extras of every requirement of mlx itself that holds on a platform."""
    found = [Requirement(line) for line in lines]
    return [
        each.extras
        for each in found
        if each.name == "mlx" and each.marker.evaluate({"sys_platform": platform})
    ]


@pytest.mark.parametrize(("platform", "build"), [("darwin", set()), ("linux", {"cpu"})])
def test_pip_install_takes_one_build_of_mlx(platform, build):
    assert mlx_builds(PROJECT["dependencies"], platform) == [build]


@pytest.mark.parametrize("build", ["cuda12", "cuda13"])
def test_a_cuda_build_takes_the_cpu_build_s_place_and_nothing_else_changes(build):
    lines = requirements(build, ["test"])
    assert mlx_builds(lines, "linux") == [{build}]
    unchanged = [re.sub(rf"\[{build}\]", "[cpu]", line) for line in lines]
    assert unchanged == PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"]


def test_an_unknown_extra_is_refused():
    with pytest.raises(SystemExit, match="there is no extra 'tset'"):
        requirements("cuda13", ["tset"])
