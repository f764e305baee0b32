"""The torture passes, in short; and it fails where something is broken."""

import importlib.util
import json
import sys
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import mlx.core as mx
import pytest
from click.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
from torture import disk, kills, nan, processes, soak
from torture.outcome import Outcome
from vgs_mlx.runs import folder as run_folder
from vgs_mlx.train import loop, step

ROOT = Path(__file__).parents[2]
SETTINGS = {"lora": kills.SETTINGS["lora"]}


def command() -> SimpleNamespace:
    """scripts/torture.py, which a package of the same name hides."""
    spec = importlib.util.spec_from_file_location("torture_command", ROOT / "scripts" / "torture.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("passed", "code"), [(True, 0), (False, 1)])
def test_a_part_says_one_line_and_a_failure_is_the_exit_code_and_keeps_the_folder(
    passed, code, tmp_path, monkeypatch
):
    def run(count, seed, folder):
        (folder / "left").touch()
        return Outcome(passed, f"{count} of seed {seed}", () if passed else ("one failed",))

    monkeypatch.setattr(nan, "run", run)
    monkeypatch.setattr(command().tempfile, "mkdtemp", lambda prefix: str(tmp_path / "work"))
    said = CliRunner().invoke(command().main, ["nan", "7", "--seed", "3"])
    assert said.exit_code == code
    assert said.stdout.splitlines()[0] == f"nan: {'passed' if passed else 'FAILED'}: 7 of seed 3"
    assert ("one failed" in said.stdout) is (tmp_path / "work" / "nan" / "left").exists() is not passed


# --- kills


def test_killed_runs_become_the_undisturbed_run(tmp_path, monkeypatch):
    monkeypatch.setattr(kills, "SETTINGS", SETTINGS)
    found = kills.run(2, 0, tmp_path)
    assert found.passed, found.failures
    assert found.line.startswith("2 runs killed") and "0 did not become the undisturbed run" in found.line


def test_a_resume_that_loses_a_row_is_found(tmp_path, monkeypatch):
    def forked(arguments, log):
        running = processes.forked(arguments, log)
        if "--resume" in arguments:
            assert running.code(120) == 0
            file = Path(arguments[-1]) / run_folder.METRICS
            file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:-1]))
        return running

    def after_the_first_evaluation(running, whole, run, *_, **__):
        kills._until(running, (run / run_folder.EVALUATIONS).exists)
        return "killed"

    monkeypatch.setattr(kills, "SETTINGS", SETTINGS)
    monkeypatch.setattr(kills, "forked", forked)
    monkeypatch.setattr(kills, "_wait", after_the_first_evaluation)
    found = kills.run(1, 0, tmp_path)
    assert not found.passed and "metrics.jsonl differs" in found.failures[0]


# --- disk


@pytest.mark.parametrize("real", [True, False])
def test_a_run_loses_nothing_on_a_disk_that_is_full_or_read_only(real, tmp_path):
    found = disk.run(4, 0, tmp_path, real=real)
    assert found.passed, found.failures
    assert found.line.startswith("4 of ")


def moments(monkeypatch, *chosen: disk.Moment) -> None:
    every = disk._moments
    monkeypatch.setattr(disk, "_moments", lambda *given: every(*given) and list(chosen))


def test_half_a_checkpoint_that_is_left_is_found(tmp_path, monkeypatch):
    @contextmanager
    def careless(folder):
        beside = folder.with_name(f".{folder.name}.writing")
        yield beside
        run_folder.replace_folder(beside, folder)

    monkeypatch.setattr(loop.checkpoint, "whole_folder", careless)
    moments(monkeypatch, *(disk.Moment("full", number) for number in range(21, 24)))
    found = disk.run(None, 0, tmp_path, real=False)
    assert any("half-written" in failure for failure in found.failures), found.failures


def test_a_full_disk_that_nobody_explains_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(disk.distillation.disk, "refusing", lambda *_: nullcontext())
    moments(monkeypatch, disk.Moment("full", 30))
    found = disk.run(None, 0, tmp_path, real=False)
    assert "it isn't said how to go on" in found.failures[0]


# --- nan


def test_what_is_not_finite_is_skipped(tmp_path):
    found = nan.run(3, 0, tmp_path)
    assert found.passed, found.failures


def test_an_update_that_is_made_of_it_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(step, "math", SimpleNamespace(isfinite=lambda _: True))
    found = nan.run(1, 0, tmp_path)
    assert not found.passed and "was to be skipped and changed" in found.failures[0]


# --- soak


def test_steps_of_changing_shapes_leave_nothing_behind(tmp_path):
    found = soak.run(30, 0, tmp_path)
    assert found.passed, found.failures
    assert len((tmp_path / "figures.jsonl").read_text().splitlines()) == 30
    assert int(found.line.split(" of ")[1].split()[0]) > 15, "shapes"


def test_a_leak_is_found(tmp_path, monkeypatch):
    run_step, kept = loop.run_step, []

    def leaking(*given):
        kept.append((mx.ones(100_000), (tmp_path / "data" / "rows.jsonl").open()))
        mx.eval(kept[-1][0])
        return run_step(*given)

    monkeypatch.setattr(loop, "run_step", leaking)
    found = soak.run(12, 0, tmp_path)
    for _, file in kept:
        file.close()
    assert {failure.partition(":")[0] for failure in found.failures} >= {"active memory", "open files"}
    assert json.loads((tmp_path / "figures.jsonl").read_text().splitlines()[-1])["open files"] > 12
