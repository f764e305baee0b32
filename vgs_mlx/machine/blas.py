"""Gives MLX's CPU build on Linux a fast BLAS: must run before `mlx.core` is first imported.

`mlx[cpu]` carries the reference BLAS (about 6 GFLOP/s on two cores). Its symbols are bound when
`mlx.core` loads, so an OpenBLAS made global first takes their place (165-230 GFLOP/s). Macs use
Accelerate and Metal, and CUDA builds use cuBLAS: neither needs this.
"""

import ctypes
import ctypes.util
import importlib.metadata
import importlib.util
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

CUDA_WHEELS = ("mlx-cuda-12", "mlx-cuda-13")
FIX = "pip install --upgrade opencv-python, or apt install libopenblas0"

loaded: str | None = None  # the library in use, for `vgs-mlx doctor`

# Where no handler is configured, Python prints a logger's warning as one bare line on stderr.
_log = logging.getLogger(__name__)


def needs_openblas() -> bool:
    """True for MLX's CPU build on Linux."""
    return sys.platform.startswith("linux") and not any(installed_version(wheel) for wheel in CUDA_WHEELS)


def load_openblas() -> str | None:
    """Load an OpenBLAS for MLX and return its path; None where none is needed or found.

    Warns in one line when it is too late (mlx was imported first) or when there is none to load.
    """
    global loaded
    if loaded or not needs_openblas():
        return loaded
    if _is_global():  # by LD_PRELOAD, or by a program that did the same earlier
        loaded = "an OpenBLAS that this process had loaded already"
    elif "mlx.core" in sys.modules:
        _log.warning(
            "vgs-mlx: mlx was imported first, with its slow BLAS (about 35x slower): import vgs_mlx before it"
        )
    else:
        loaded = next((path for path in candidates() if _load_globally(path)), None)
        if loaded is None:
            _log.warning("vgs-mlx: found no OpenBLAS, so matrix products are about 35x slower: %s", FIX)
    return loaded


def candidates() -> Iterator[str]:
    """Paths that may hold an OpenBLAS: the one inside opencv-python (mlx-vlm needs it), then the system's."""
    spec = importlib.util.find_spec("cv2")  # finds, does not import
    if spec and spec.origin:
        site_packages = Path(spec.origin).parent.parent
        yield from sorted(str(path) for path in site_packages.glob("opencv_python*.libs/libopenblas*"))
    if system := ctypes.util.find_library("openblas"):
        yield system


def installed_version(distribution: str) -> str | None:
    """The version of an installed distribution ("mlx-cpu"), None where it isn't installed."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _load_globally(path: str) -> bool:
    """Make a library's symbols global, where it can be loaded and really offers the plain CBLAS names.

    SciPy's and NumPy's own OpenBLAS prefix theirs, so those don't help. A library is loaded locally
    first to look for the names: once global, it can't be taken back.
    """
    try:
        if not hasattr(ctypes.CDLL(path), "cblas_sgemm"):
            return False
        ctypes.CDLL(path, ctypes.RTLD_GLOBAL)
    except OSError:
        return False
    return True


def _is_global() -> bool:
    """True where an OpenBLAS with plain names is visible to libraries loaded from now on."""
    process = ctypes.CDLL(None)
    return hasattr(process, "openblas_get_config") and hasattr(process, "cblas_sgemm")
