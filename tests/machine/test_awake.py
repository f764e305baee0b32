"""On a Mac a run keeps the machine from idle sleep, as long as it trains and no longer; elsewhere nothing happens.

Not run on a Mac: a stand-in on PATH takes the place of its `caffeinate`.
"""

import os
import time
from pathlib import Path

import pytest

import toy_runs
from toy_runs import command, options
from vgs_mlx.commands import distill
from vgs_mlx.machine import awake

STAND_IN = """#!/bin/sh
echo "$@" > {folder}/asked
echo $$ > {folder}/pid
exec sleep 600
"""


@pytest.fixture
def mac(tmp_path, monkeypatch) -> Path:
    """A folder where the stand-in leaves what it was asked for, and its process's number."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "caffeinate"
    program.write_text(STAND_IN.format(folder=folder))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(awake.sys, "platform", "darwin")
    return folder


def pid(folder: Path) -> int:
    end = time.monotonic() + 30
    while not (folder / "pid").exists() or not (folder / "pid").read_text().strip():
        assert time.monotonic() < end, "never started"
        time.sleep(0.01)
    return int((folder / "pid").read_text())


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_during_the_body_and_no_longer(mac):
    said = []
    with awake.kept_awake(True, said.append):
        process = pid(mac)
        assert alive(process)
        assert (mac / "asked").read_text() == f"-i -w {os.getpid()}\n"
        assert os.getsid(process) != os.getsid(0), "the terminal's Ctrl-C must not reach it"
    assert not alive(process)
    assert len(said) == 1 and "train.keep_awake" in said[0]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_it_ends_however_the_body_ends(error, mac):
    with pytest.raises(error), awake.kept_awake(True, print):
        process = pid(mac)
        raise error
    assert not alive(process)


def test_not_where_it_is_not_wanted(mac):
    with awake.kept_awake(False, pytest.fail):
        pass
    assert not (mac / "pid").exists()


def test_not_on_another_system(mac, monkeypatch):
    monkeypatch.setattr(awake.sys, "platform", "linux")
    with awake.kept_awake(True, pytest.fail):
        pass
    assert not (mac / "pid").exists()


def test_a_mac_without_the_program_or_with_a_broken_one_trains_all_the_same(mac, monkeypatch):
    (mac / "caffeinate").write_text("not a program")
    with awake.kept_awake(True, pytest.fail):
        pass
    monkeypatch.setenv("PATH", "/nonexistent")
    with awake.kept_awake(True, pytest.fail):
        pass


def test_a_run_says_so_while_it_trains_and_its_recipe_may_switch_it_off_on_resume(mac, tmp_path, monkeypatch):
    monkeypatch.setattr(distill.setup, "load", lambda recipe, *_: toy_runs.ready(*SHORT, *switched(recipe)))
    done = command("distill", "--output", tmp_path / "run", *options(*SHORT))
    assert done.exit_code == 0, done.output
    assert "awake    this Mac is kept from idle sleep" in done.stdout and not alive(pid(mac))
    off = ("--set", "train.keep_awake=false", "--set", "train.steps=2")
    again = command("distill", "--resume", "--output", tmp_path / "run", *off)
    assert again.exit_code == 0, again.output
    assert "awake" not in again.stdout


SHORT = ("train.steps=1", "rollout.max_completion_length=2")


def switched(recipe) -> list[str]:
    return [f"train.keep_awake={str(recipe.train.keep_awake).lower()}", f"train.steps={recipe.train.steps}"]
