"""The shell scripts refuse in one line what they can't use, and pass arguments through as they are.

Each case runs in a copy of scripts/ with a stand-in for Python, so nothing is installed.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ("bash", "dirname", "uname", "cksum", "cat", "rm", "mkdir")


@pytest.fixture
def checkout(tmp_path) -> Path:
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool))
    return tmp_path


def program(path: Path, body: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def quickstart(checkout: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["bash", checkout / "scripts" / "quickstart.sh", *arguments],
        cwd=checkout / "bin",
        env={"PATH": str(checkout / "bin"), **environment},
        capture_output=True,
        text=True,
    )


def refusal(done: subprocess.CompletedProcess) -> str:
    """The one line of a refusal."""
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_no_python_at_all_is_refused_with_where_to_get_one(checkout):
    assert "No usable Python: none was found. Install one" in refusal(quickstart(checkout))


def test_an_old_python_is_refused_with_its_version(checkout):
    pretend = "import sys; sys.version_info = (3, 9, 6); exec(sys.argv.pop(1))"
    program(checkout / "bin" / "python3", f"shift; exec {sys.executable} -c '{pretend}' \"$@\"")
    assert "python3 is Python 3.9, and 3.11 or newer is needed" in refusal(quickstart(checkout))


def test_a_python_without_ensurepip_is_refused_with_the_mend(checkout):
    hide = 'import sys; sys.modules["ensurepip"] = None; exec(sys.argv.pop(1))'
    program(checkout / "bin" / "python3.12", f"shift; exec {sys.executable} -c '{hide}' \"$@\"")
    assert "python3.12 has no venv or ensurepip" in refusal(quickstart(checkout))


# Passes the check, which is a -c, and fails at making a virtual environment.
WITHOUT_VENV = """
[ "$1" = -c ] && exit 0
[ "$1" = --version ] && echo Python 3.12.1 && exit 0
mkdir -p .venv && exit 1
"""


def test_a_python_that_was_named_is_the_only_one_tried(checkout):
    program(checkout / "bin" / "python3", WITHOUT_VENV)
    assert "/no/python does not run" in refusal(quickstart(checkout, PYTHON="/no/python"))


def test_a_virtual_environment_that_fails_is_not_left_half_made(checkout):
    program(checkout / "bin" / "python3", WITHOUT_VENV)
    done = quickstart(checkout)
    assert done.returncode == 1
    assert done.stderr.startswith("python3 can't make a virtual environment")
    assert not (checkout / ".venv").exists()


def test_a_broken_environment_is_refused_with_the_mend_and_left_alone(checkout):
    program(checkout / ".venv" / "bin" / "python", "exit 1")
    assert "Remove it and run" in refusal(quickstart(checkout))
    assert (checkout / ".venv").exists()


@pytest.fixture
def installed(checkout) -> Path:
    """A checkout whose .venv is complete for this pyproject.toml; its `vgs-mlx` prints its arguments."""
    answer = 'case "$*" in *distributions*) echo cpu ;; esac'
    program(checkout / ".venv" / "bin" / "python", answer)
    program(checkout / ".venv" / "bin" / "vgs-mlx", 'pwd; printf "<%s>" "$@"')
    sums = subprocess.check_output(["cksum"], input=(checkout / "pyproject.toml").read_bytes())
    (checkout / ".venv" / "vgs-mlx-installed").write_text(f"{checkout} {sums.decode().strip()} test\n")
    return checkout


def test_an_environment_that_is_complete_is_used_as_it_is(installed):
    done = quickstart(installed, "--data", "my rows.jsonl", "")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{installed / 'bin'}\n<distill><--data><my rows.jsonl><>")
    assert f"source {installed}/.venv/bin/activate" in done.stdout


def test_another_build_of_mlx_than_the_environment_has_is_refused(installed):
    if sys.platform == "darwin":
        pytest.skip("a Mac has one build")
    assert "two builds overwrite each other" in refusal(quickstart(installed, VGS_MLX_BUILD="cuda13"))


def test_a_failed_installation_stops_the_script(installed):
    (installed / ".venv" / "vgs-mlx-installed").unlink()
    program(installed / ".venv" / "bin" / "python", 'case "$*" in *--editable*) exit 1 ;; esac')
    done = quickstart(installed)
    assert done.returncode == 1
    assert "The installation failed" in done.stderr
    assert "<distill>" not in done.stdout
    assert not (installed / ".venv" / "vgs-mlx-installed").exists()
