"""Gives MLX's CPU build on Linux a fast BLAS: must run before `mlx.core` is first imported.

`mlx[cpu]` carries the reference BLAS (about 6 GFLOP/s on two cores). Its symbols are bound when
`mlx.core` loads, so an OpenBLAS made global first takes their place (165-230 GFLOP/s). Macs use
Accelerate and Metal, and CUDA builds use cuBLAS: both need none of this.
"""

import ctypes
import ctypes.util
import importlib.metadata
import importlib.util
import sys
import warnings
from pathlib import Path

loaded: str | None = None  # the library in use, for `vgs-mlx doctor`


def needs_openblas() -> bool:
    """True for MLX's CPU build on Linux."""
    if not sys.platform.startswith("linux"):
        return False
    return not any(_installed(wheel) for wheel in ("mlx-cuda-12", "mlx-cuda-13"))


def load_openblas() -> str | None:
    """Load an OpenBLAS for MLX and return its path; None where none is needed or found.

    Warns in one line when it is too late (mlx was imported first) or when there is none to load.
    """
    global loaded
    if loaded or not needs_openblas():
        return loaded
    if "mlx.core" in sys.modules:
        _warn("mlx was imported before vgs_mlx, so its slow reference BLAS stays: import vgs_mlx first")
        return None
    for path in candidates():
        try:
            library = ctypes.CDLL(path, ctypes.RTLD_GLOBAL)
        except OSError:
            continue
        if hasattr(library, "cblas_sgemm"):
            loaded = path
            return path
    _warn("found no OpenBLAS, so matrix products are about 35x slower: pip install opencv-python, or apt install libopenblas0")
    return None


def candidates() -> list[str]:
    """Paths that may hold an OpenBLAS: the one inside opencv-python (mlx-vlm needs it), then the system's."""
    found: list[str] = []
    spec = importlib.util.find_spec("cv2")
    if spec and spec.origin:
        bundled = Path(spec.origin).parent.parent / "opencv_python.libs"
        found += sorted(str(path) for path in bundled.glob("libopenblasp*"))
    system = ctypes.util.find_library("openblas")
    return found + ([system] if system else [])


def _installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _warn(message: str) -> None:
    warnings.warn(f"vgs-mlx: {message}", RuntimeWarning, stacklevel=4)
