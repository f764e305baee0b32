"""The fast BLAS must be in place before MLX loads; each case needs a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vgs_mlx.machine import blas

ROOT = Path(__file__).parents[2]
TIME_PRODUCT = """
import time, mlx.core as mx, numpy as np
a = mx.random.normal((512, 512), key=mx.random.key(0)); mx.eval(a)
best = 9e9
for _ in range(5):
    start = time.perf_counter()
    product = a @ a; mx.eval(product)
    best = min(best, time.perf_counter() - start)
assert np.allclose(np.array(product), np.array(a) @ np.array(a), atol=1e-3)
print(best)
"""

on_cpu_build = pytest.mark.skipif(not blas.needs_openblas(), reason="only MLX's CPU build on Linux needs it")


def run(program: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )


@on_cpu_build
def test_matrix_products_are_right_and_several_times_faster_than_without():
    slow = float(run(TIME_PRODUCT).stdout)
    fast = run("import vgs_mlx" + TIME_PRODUCT)
    assert fast.stderr == ""
    assert float(fast.stdout) < slow / 4  # 25-35x where the machine is idle


@on_cpu_build
def test_importing_mlx_first_warns_in_one_line():
    done = run("import mlx.core; import vgs_mlx; print(vgs_mlx.machine.blas.loaded)")
    assert done.stdout == "None\n"
    assert done.stderr.count("\n") == 1
    assert "import vgs_mlx before it" in done.stderr


@on_cpu_build
def test_finding_no_openblas_warns_in_one_line_with_the_mend():
    hide = "import ctypes.util as c, importlib.util as i; c.find_library = i.find_spec = lambda name: None"
    done = run(hide + "; import vgs_mlx")
    assert done.stderr.count("\n") == 1
    assert "pip install --upgrade opencv-python" in done.stderr


@on_cpu_build
def test_an_openblas_that_is_there_already_is_not_loaded_again():
    done = run("import vgs_mlx; print(vgs_mlx.machine.blas.loaded)", LD_PRELOAD=next(blas.candidates()))
    assert "already" in done.stdout
    assert done.stderr == ""


@on_cpu_build
def test_candidates_that_cannot_serve_are_passed_over(tmp_path, monkeypatch):
    no_library = tmp_path / "libopenblas.so"
    no_library.write_text("not a library")
    without_blas = "libm.so.6"
    good = next(blas.candidates())
    monkeypatch.setattr(blas, "loaded", None)
    monkeypatch.setattr(blas, "_is_global", lambda: False)
    monkeypatch.delitem(sys.modules, "mlx.core", raising=False)
    monkeypatch.setattr(blas, "candidates", lambda: iter([str(no_library), without_blas, good]))
    assert blas.load_openblas() == good


@pytest.mark.parametrize(("platform", "wheels"), [("darwin", ("mlx-metal",)), ("linux", ("mlx-cuda-13",))])
def test_macs_and_cuda_builds_load_nothing(monkeypatch, platform, wheels):
    monkeypatch.setattr(blas, "loaded", None)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(blas, "installed_version", lambda wheel: "0.32.4" if wheel in wheels else None)
    monkeypatch.setattr(blas, "candidates", lambda: pytest.fail("looked for an OpenBLAS"))
    assert blas.load_openblas() is None
