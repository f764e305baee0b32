"""A full disk: one line with the way to go on, nothing half-written, and once there is room the same run."""

import contextlib
import errno
import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import toy_runs
from toy_runs import command, copied, finished, go_on, options, same_run
from vgs_mlx.commands import distill, evaluate
from vgs_mlx.errors import Refusal
from vgs_mlx.machine import disk
from vgs_mlx.runs import checkpoint
from vgs_mlx.runs import folder as run_folder

SMALL = ("student.rank=2", "student.targets=[q_proj]", "train.checkpoint_every=1", "train.keep_checkpoints=9")
PAGE = 4096  # bytes, of which a small disk is made


@pytest.fixture
def quick(monkeypatch):
    """Commands take models that are loaded already."""
    monkeypatch.setattr(distill.setup, "load", lambda *_: toy_runs.ready(*SMALL))


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A disk of its own, too small for all checkpoints of a run. Only root may make one, and not everywhere."""
    place = tmp_path / "disk"
    place.mkdir()
    whole = [file.stat().st_size for file in finished(*SMALL).rglob("*") if file.is_file()]
    size = sum(-(-each // PAGE) for each in whole) * PAGE // 2
    mount = shutil.which("mount")
    made = mount and subprocess.run(
        [mount, "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], capture_output=True
    )
    if not made or made.returncode:
        pytest.skip(f"no disk can be mounted here: {made.stderr.decode() if made else 'no mount'}")
    yield place
    subprocess.run(["umount", place], check=True)


def change(place: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", place], check=True)


def refused(*arguments) -> str:
    said = command(*arguments)
    assert said.exit_code == 2, said.output
    assert "Traceback" not in said.output and len(said.stderr.splitlines()) == 1
    return said.stderr


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file grows beyond that, for root neither: the system's error is another, what it does is the same."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def advice(run: Path) -> str:
    return f"go on with: vgs-mlx distill --resume --output {run}"


def test_a_full_disk_is_one_line_and_with_room_the_run_is_the_same(quick, small_disk):
    run = small_disk / "run"
    said = refused("distill", "--output", run, *options(*SMALL))
    assert f"{run}: can't be written (" in said and advice(run) in said
    assert [name for name in toy_runs.names(run) if ".writing" in name] == []
    done = len(toy_runs.checkpoints(run))
    assert 0 < done < 4, "full too early or too late to show anything"
    assert advice(run) in refused("distill", "--resume", "--output", run)
    change(small_disk, "size=100m")
    assert command("distill", "--resume", "--output", run).exit_code == 0
    assert same_run(run, finished(*SMALL))


def test_a_disk_that_may_not_be_written_is_refused_before_anything_is_loaded(small_disk, monkeypatch):
    change(small_disk, "size=100m")
    run = copied(finished(*SMALL), small_disk / "run")
    before = toy_runs.state_of(run)
    change(small_disk, "ro")
    monkeypatch.setattr(distill.setup, "load", lambda *_: pytest.fail("loaded"))
    said = refused("distill", "--resume", "--output", run, "--set", "train.steps=6")
    assert f"{run}: can't be written" in said
    assert toy_runs.state_of(run) == before
    finished_already = command("distill", "--resume", "--output", run)
    assert finished_already.exit_code == 0 and "nothing changed" in finished_already.stdout


def test_weights_that_can_t_be_written_are_refused_and_half_of_them_go(quick, tmp_path):
    run = tmp_path / "run"
    with largest_file(8_000):
        said = refused("distill", "--output", run, *options(*SMALL))
    assert f"{run}: can't be written (is the disk full? MLX says: [write]" in said and advice(run) in said
    assert toy_runs.checkpoints(run) == []
    go_on(run, *SMALL)
    assert same_run(run, finished(*SMALL))


def test_a_row_that_can_t_be_written_leaves_nothing_of_itself(tmp_path):
    file = tmp_path / "rows.jsonl"
    run_folder.append(file, {"step": 1})
    before = file.read_bytes()
    with largest_file(100), pytest.raises(OSError, match="File too large"):
        run_folder.append(file, {"step": 2, "text": "x" * 200})
    assert file.read_bytes() == before
    with largest_file(100), pytest.raises(OSError, match=f"File too large: '{tmp_path / 'text'}'"):
        run_folder.write_text(tmp_path / "text", "x" * 200)
    assert toy_runs.names(tmp_path) == ["rows.jsonl"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "Disk quota exceeded"),
        (OSError(errno.EROFS, "Read-only file system"), "Read-only file system"),
        (PermissionError(errno.EACCES, "Permission denied"), "Permission denied"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
        (RuntimeError("[save_safetensors] Failed to open file /x"), "Failed to open file"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_every_way_of_not_being_able_to_write_is_refused_with_the_folder_and_the_way_on(
    error, said, quick, tmp_path, monkeypatch
):
    run = tmp_path / "run"

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(distill.loop.checkpoint, "save", fail)
    shown = refused("distill", "--output", run, *options(*SMALL))
    assert f"{run}: can't be written" in shown and said in shown and advice(run) in shown


@pytest.mark.parametrize("error", [FileNotFoundError(2, "No such file", "x.png"), RuntimeError("[matmul] shapes"),
                                   PermissionError(errno.EACCES, "Permission denied", "/elsewhere/x.png")])  # fmt: skip
def test_another_error_is_not_taken_for_a_full_disk(error, tmp_path):
    with pytest.raises(type(error)) as raised, disk.refusing(tmp_path, "make room"):
        raise error
    assert raised.value is error


def test_a_file_inside_that_may_not_be_opened_is_the_folder_s_matter(tmp_path):
    with pytest.raises(Refusal, match="Permission denied"), disk.refusing(tmp_path, "make room"):
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "a" / "b"))


def test_a_removal_that_fails_names_the_folder_and_not_a_file_somewhere_in_it(tmp_path, monkeypatch):
    def fail(_):
        raise OSError(errno.EROFS, "Read-only file system", "optim.safetensors")  # as shutil has it

    (tmp_path / run_folder.CHECKPOINTS / ".step-000001.old").mkdir(parents=True)
    monkeypatch.setattr(shutil, "rmtree", fail)
    with pytest.raises(Refusal, match="can't be written"), disk.refusing(tmp_path, "make it writable"):
        checkpoint.prune(tmp_path, 1, None)


def test_any_command_that_can_t_write_says_so_in_one_line(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "x.json"))

    monkeypatch.setattr(evaluate, "run", fail)
    said = refused("evaluate", "embedded:student")
    advice = "make room, and then give the same command again"
    assert said == f"vgs-mlx: {tmp_path / 'x.json'}: No space left on device: {advice}\n"


def test_an_export_that_can_t_be_written_is_one_line_and_leaves_nothing(tmp_path):
    with largest_file(300_000):
        said = refused("export", finished(*SMALL), "--output", tmp_path / "new" / "model", "--prompts", "1")
    assert f"{tmp_path / 'new'}: can't be written (" in said and "give another folder to --output" in said
    assert toy_runs.names(tmp_path) == []


def test_skipped_rows_that_can_t_be_written_leave_no_run(quick, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(distill.ledger, "write_skipped", fail)
    said = refused("distill", "--output", tmp_path / "new" / "run", *options(*SMALL))
    assert "can't be written (No space left on device): make room, or give another folder" in said
    assert os.listdir(tmp_path) == []
