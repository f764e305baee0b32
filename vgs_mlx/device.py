"""The device that MLX computes on: which kind, and how much memory it may keep."""

import os
import re
from dataclasses import dataclass

from vgs_mlx.errors import Refusal

UNITS = {"KB": 2**10, "MB": 2**20, "GB": 2**30, "TB": 2**40}
"""A machine sold with 16 GB has 16 x 2^30 bytes."""
KEEP_PRECISION = "VGS_MLX_KEEP_PRECISION"
"""The environment variable for computing in the stored precision on the CPU too: 1, or 0 (the default)."""


@dataclass(frozen=True)
class Memory:
    """How many bytes a process may take, and whose limit that is."""

    limit: int
    about: str


def memory_of(given: str | None, device: str) -> Memory:
    """The memory of a machine of the given size (`16GB`), or of this one. Raises `Refusal`.

    A Mac lets the GPU have a share of its memory: two thirds up to 32 GB, three quarters above, as Metal's
    `recommendedMaxWorkingSetSize` says on such machines.
    """
    if given is None:
        return this_machine()
    match = re.fullmatch(r"\s*([0-9.]+)\s*([KMGT])(i?B)?\s*", given, re.IGNORECASE)
    try:
        size = float(match.group(1)) * UNITS[match.group(2).upper() + "B"] if match else 0
    except ValueError:
        size = 0
    if size <= 0:
        raise Refusal(f"--memory {given}: give a size above 0, such as 16GB")
    if device != "metal":
        return Memory(int(size), f"{given} of memory")
    share = 2 / 3 if size <= 32 * 2**30 else 3 / 4
    return Memory(int(size * share), f"what Metal lets a process use on a Mac with {given}")


def this_machine() -> Memory:
    """What this machine lets a process use."""
    import mlx.core as mx

    info = mx.device_info() if backend() != "cpu" else {}
    if recommended := info.get("max_recommended_working_set_size"):
        return Memory(int(recommended), "this Mac's recommended working set")
    if total := info.get("total_memory"):
        return Memory(int(total), "this GPU's memory")
    return Memory(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "this machine's memory")


def backend() -> str:
    """The kind of MLX's default device: "metal", "cuda" or "cpu"."""
    import mlx.core as mx

    if mx.default_device() == mx.cpu:
        return "cpu"
    return "metal" if mx.metal.is_available() else "cuda"


def why_mlx_fails() -> str | None:
    """Why MLX can't be imported, with the fix; None where it can."""
    try:
        import mlx.core  # noqa: F401
    except ImportError as error:
        driver = "libcuda" in str(error)
        fix = "install the NVIDIA driver, or MLX's CPU build" if driver else "install vgs-mlx again"
        return f"MLX can't be imported ({error}). Fix: {fix}"
    return None


def widens(kind: str) -> bool:
    """Whether models become float32 on a device of this kind as they are loaded.

    They do on the CPU, where 4-bit and bfloat16 products are 30-80 times slower. With VGS_MLX_KEEP_PRECISION=1 they
    don't, so that a machine without an accelerator computes what one with an accelerator does. Raises `Refusal`.
    """
    kept = os.environ.get(KEEP_PRECISION) or "0"
    if kept not in ("0", "1"):
        raise Refusal(f"{KEEP_PRECISION}={kept}: set it to 1 or 0")
    return kind == "cpu" and kept == "0"


def default_cache_limit(peak: int, memory: int) -> int:
    """Bytes of freed buffers that MLX may keep for later use: the memory that a planned `peak` leaves.

    At least a twentieth of the memory, since without any cache every buffer is mapped anew. On Metal and CUDA MLX
    itself sets no such limit: where shapes change at every step, the cache may grow to all of a Mac's memory
    (ml-explore/mlx#3993).
    """
    return max(memory - peak, memory // 20)


def limit_cache(size: int) -> None:
    """Let MLX keep `size` bytes of freed buffers and no more."""
    import mlx.core as mx

    mx.set_cache_limit(size)


def release() -> None:
    """Return the memory of freed arrays to the system, so that it is free before the next model is loaded."""
    import mlx.core as mx

    mx.clear_cache()


def wire() -> None:
    """Let MLX keep weights resident, up to a Mac's recommended working set, so that they are read at full speed."""
    import mlx.core as mx

    if mx.metal.is_available():
        mx.set_wired_limit(mx.device_info()["max_recommended_working_set_size"])
