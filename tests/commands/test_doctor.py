"""The doctor prints what it can, on any machine, and names the fix where something is wrong."""

import io
import re
import sys
import time

import mlx.core as mx
import pytest
from rich.console import Console

from vgs_mlx.commands import doctor
from vgs_mlx.machine import blas


def printed(**options) -> str:
    console = Console(file=io.StringIO(), width=300)
    doctor.print_report(console, **options)
    return console.file.getvalue()


def test_the_report_names_device_versions_blas_memory_and_a_measured_speed():
    rows = dict(doctor.report(seconds=0.05))
    assert rows["device"].startswith(("CPU", "Metal", "CUDA"))
    assert rows["mlx"] == mx.__version__
    assert rows["BLAS"] == (blas.loaded or rows["BLAS"])
    assert float(re.fullmatch(r"([\d.]+) GiB", rows["memory"])[1]) > 1
    assert float(re.match(r"([\d,]+) GFLOP/s", rows["matrix product"])[1].replace(",", "")) > 1
    assert not [value for value in rows.values() if value.startswith("not available")]


def test_a_figure_that_fails_is_replaced_by_its_reason_and_the_others_stay(monkeypatch):
    def fail(*_):
        raise RuntimeError("[metal] no\nsuch device")

    monkeypatch.setattr(doctor, "device", fail)
    monkeypatch.setattr(doctor, "measure_gflops", fail)
    rows = dict(doctor.report())
    assert rows["device"] == rows["matrix product"] == "not available (RuntimeError: [metal] no such device)"
    assert rows["mlx"] == mx.__version__


def test_without_mlx_the_versions_are_still_printed(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlx.core", None)  # makes its import fail
    rows = dict(doctor.report())
    assert rows["device"].endswith("Fix: install vgs-mlx again")
    assert rows["Python"] == ".".join(map(str, sys.version_info[:3]))
    assert rows["memory"].endswith("GiB")


def test_the_speed_counts_two_operations_for_each_of_size_cubed(monkeypatch):
    ticks = iter([0.0, 0.5, 1.0, 2.0])  # start, two looks at the clock, end: 2 products in 2 seconds
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    assert doctor.measure_gflops(size=10, seconds=1.0) == pytest.approx(2 * 2 * 1000 / 2.0 / 1e9)


def test_the_measurement_lasts_about_as_long_as_asked():
    start = time.perf_counter()
    doctor.measure_gflops(size=64, seconds=0.2)
    assert 0.2 <= time.perf_counter() - start < 2


@pytest.mark.parametrize(
    ("gflops", "kind", "openblas", "words"),
    [
        (6, "cpu", None, "Fix: pip install --upgrade opencv-python"),
        (6, "cpu", "libopenblas.so", "OPENBLAS_NUM_THREADS"),
        (200, "cpu", "libopenblas.so", "as it should be"),
        (3000, "metal", None, "GPU"),
    ],
)
def test_the_verdict_fits_the_speed(gflops, kind, openblas, words):
    assert words in doctor.verdict(gflops, kind, openblas)


def test_two_builds_of_mlx_are_a_conflict_with_its_fix(monkeypatch):
    monkeypatch.setattr(blas, "installed_version", lambda name: "0.32.4" if "c" in name else None)
    monkeypatch.setattr(blas, "CUDA_WHEELS", ("mlx-cuda-13",))
    ((what, value),) = doctor.conflicts()
    assert what == "CONFLICT"
    assert value.endswith("pip uninstall -y mlx-cpu mlx-cuda-13 && pip install mlx-cuda-13==0.32.4")


def test_one_build_of_mlx_is_no_conflict():
    assert list(doctor.conflicts()) == []


def test_metal_s_recommended_limit_and_cuda_s_memory_are_printed(monkeypatch):
    monkeypatch.setattr(mx, "device_info", lambda: {"max_recommended_working_set_size": 24 * 2**30})
    assert doctor.gpu_memory().startswith("24.0 GiB of it at most")
    monkeypatch.setattr(mx, "device_info", lambda: {"total_memory": 80 * 2**30})
    assert doctor.gpu_memory() == "80.0 GiB"


def test_brackets_are_printed_as_they_stand(monkeypatch):
    monkeypatch.setattr(doctor, "report", lambda seconds: [("fix", "pip install mlx[cpu]")])
    assert "pip install mlx[cpu]" in printed()
