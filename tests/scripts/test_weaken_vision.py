"""A weakened model sees worse, in the measure asked for, and is otherwise what it was."""

import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import pytest

from vgs_mlx.resources import tiny_model

ROOT = Path(__file__).parents[2]


def weaken(*arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, ROOT / "scripts" / "weaken_vision.py", *arguments]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120)


def test_noise_is_in_the_matrices_of_the_vision_tower_alone(tmp_path):
    student = tiny_model("student")
    for name in ("once", "again"):
        done = weaken(student, "--noise", 0.5, "--output", tmp_path / name)
        assert done.returncode == 0, done.stderr
    before, weak, again = (
        mx.load(str(folder / "model.safetensors"))
        for folder in (student, tmp_path / "once", tmp_path / "again")
    )
    assert before.keys() == weak.keys()
    changed = {name for name in before if not mx.array_equal(before[name], weak[name])}
    assert changed == {
        name for name, weight in before.items() if name.startswith("vision_tower.") and weight.ndim > 1
    }
    for name in changed:
        difference = weak[name].astype(mx.float32) - before[name].astype(mx.float32)
        assert mx.std(difference).item() == pytest.approx(
            0.5 * mx.std(before[name].astype(mx.float32)).item(), rel=0.1
        )
        assert mx.array_equal(weak[name], again[name])


def test_what_it_can_t_weaken_is_refused(tmp_path):
    empty = weaken(tmp_path, "--noise", 0.5, "--output", tmp_path / "weak")
    assert empty.returncode == 2 and "no weights named vision_tower" in empty.stderr
    there = weaken(tiny_model("student"), "--noise", 0.5, "--output", tmp_path)
    assert there.returncode == 2 and "is there already" in there.stderr
