"""What `vgs-mlx doctor` prints: the machine, the versions, the BLAS and the speed of a matrix product.

MLX is imported inside the functions: where that fails (a CUDA build without a driver) the rest is still printed.
"""

import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vgs_mlx.device import backend, why_mlx_fails
from vgs_mlx.errors import Refusal
from vgs_mlx.machine import blas, disk
from vgs_mlx.machine.lazy import Lazy
from vgs_mlx.runs.screen import Screen

self_check = Lazy("vgs_mlx.commands.self_check")

Row = tuple[str, str]  # a name, and its value or why there is none

PACKAGES = ("vgs-mlx", "mlx", "mlx-lm", "mlx-vlm", "transformers")
GIB = 2**30
SLOW_GFLOPS = 20  # on two cores the reference BLAS was measured at 6, OpenBLAS at 130-230


def report(seconds: float = 1.0) -> list[Row]:
    """All rows, in reading order. Measures a matrix product for about `seconds`; never raises.

    A figure that this machine can't give is replaced by the reason.
    """
    broken = why_mlx_fails()
    rows = [
        ("device", broken or _or_reason(device)),
        ("platform", platform.platform()),
        ("Python", platform.python_version()),
        *((name, blas.installed_version(name) or "not installed") for name in PACKAGES),
        *conflicts(),
        ("memory", _or_reason(memory)),
    ]
    if broken:
        return rows
    return [
        *rows,
        ("GPU memory", _or_reason(gpu_memory)),
        ("MLX's buffers", _or_reason(buffers)),
        ("BLAS", _or_reason(blas_in_use)),
        ("matrix product", _or_reason(lambda: matrix_product(seconds))),
    ]


def run(check: bool, json_file: Path | None = None) -> None:
    """See the command's help. Exits with 1 where a check doesn't agree. Raises `Refusal`."""
    if json_file and not check:
        raise Refusal("--json belongs to --check: give both")
    if json_file:
        disk.refuse_file("--json", json_file)
    screen = Screen()
    machine = print_report(screen.console)
    if check:
        sys.exit(self_check.run(screen, machine, json_file))


def print_report(console: Console, seconds: float = 1.0) -> list[Row]:
    """Print `report` as a table. Returns its rows."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    with console.status("measuring ..."):
        rows = report(seconds)
    for what, value in rows:
        table.add_row(what, Text(value))  # Text: "mlx[cpu]" is no markup
    console.print(table)
    return rows


def device() -> str:
    """The device that MLX computes on, and why it is the CPU where a CUDA build is installed."""
    import mlx.core as mx

    kind = backend()
    name = mx.device_info().get("device_name", "")
    text = {"cpu": "CPU", "metal": "Metal", "cuda": "CUDA"}[kind] + (f", {name}" if name else "")
    wheel = next((wheel for wheel in blas.CUDA_WHEELS if blas.installed_version(wheel)), None)
    return (
        f"{text}; {wheel} is installed but finds no GPU: see nvidia-smi" if kind == "cpu" and wheel else text
    )


def conflicts() -> Iterator[Row]:
    """A row where two Linux builds of MLX are installed: both write mlx/lib/libmlx.so, so the later one is used."""
    builds = {wheel: blas.installed_version(wheel) for wheel in ("mlx-cpu", *blas.CUDA_WHEELS)}
    found = [wheel for wheel, version in builds.items() if version]
    if len(found) > 1:
        keep = found[-1]
        fix = f"pip uninstall -y {' '.join(found)} && pip install {keep}=={builds[keep]}"
        yield "CONFLICT", f"{' and '.join(found)} overwrite each other. To keep {keep}: {fix}"


def blas_in_use() -> str:
    """Which library multiplies matrices."""
    if platform.system() == "Darwin":
        return "Metal on the GPU, Accelerate on the CPU"
    if backend() == "cuda":
        return "cuBLAS"
    return blas.loaded or "the reference BLAS inside MLX (slow)"


def memory() -> str:
    """The machine's memory."""
    return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / GIB:.1f} GiB"


def gpu_memory() -> str:
    """The most of a Mac's memory that Metal recommends to use, or a CUDA device's own memory."""
    import mlx.core as mx

    info = mx.device_info()
    if recommended := info.get("max_recommended_working_set_size"):
        return f"{recommended / GIB:.1f} GiB of it at most, as Metal recommends"
    if total := info.get("total_memory"):
        return f"{total / GIB:.1f} GiB"
    return "none"


def buffers() -> str:
    """The memory that MLX uses in this process, and what it keeps of freed buffers, which a run limits."""
    import mlx.core as mx

    used, kept = (each() / GIB for each in (mx.get_active_memory, mx.get_cache_memory))
    return f"{used:.2f} GiB in use, {kept:.2f} GiB freed and kept; commands limit the latter (train.cache_limit_gb)"


def matrix_product(seconds: float = 1.0) -> str:
    """The measured float32 speed and what it means."""
    kind = backend()
    size = 1024 if kind == "cpu" else 4096
    gflops = measure_gflops(size, seconds)
    return f"{gflops:,.0f} GFLOP/s (float32, {size} x {size}): {verdict(gflops, kind, blas.loaded)}"


def measure_gflops(size: int, seconds: float) -> float:
    """Float32 GFLOP/s of (size, size) products, repeated for about `seconds` after one that warms up.

    A multiplication and an addition count as two operations, so a product has 2 size^3.
    """
    import mlx.core as mx

    matrix = mx.random.normal((size, size), key=mx.random.key(0))
    mx.eval(matrix @ matrix)
    products, start = 0, time.perf_counter()
    while products == 0 or time.perf_counter() - start < seconds:
        mx.eval(matrix @ matrix)
        products += 1
    return products * 2 * size**3 / (time.perf_counter() - start) / 1e9


def verdict(gflops: float, kind: str, openblas: str | None) -> str:
    """What a measured speed on a "metal", "cuda" or "cpu" backend means, with the fix where it is bad."""
    if kind != "cpu":
        return "measured on the GPU"
    if gflops >= SLOW_GFLOPS:
        return "as it should be on a CPU"
    if openblas:
        return "slow although OpenBLAS is loaded: is the machine busy, or OPENBLAS_NUM_THREADS small?"
    return f"reference BLAS, about 35 times slower than with OpenBLAS. Fix: {blas.FIX}"


def _or_reason(figure: Callable[[], str]) -> str:
    """The figure, or in one line why this machine can't give it."""
    try:
        return figure()
    except Exception as error:
        return f"not available ({type(error).__name__}: {' '.join(str(error).split())})"
