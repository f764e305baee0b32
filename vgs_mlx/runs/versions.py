"""The versions that a result depends on."""

import importlib.metadata
import platform

PACKAGES = ("vgs-mlx", "mlx", "mlx-lm", "mlx-vlm", "transformers", "numpy")


def versions() -> dict[str, str]:
    """The versions of Python, of the system and of the packages that compute."""
    by_name = {"python": platform.python_version(), "platform": platform.platform()}
    for name in PACKAGES:
        try:
            by_name[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # run from a checkout that isn't installed
            by_name[name] = "not installed"
    return by_name
