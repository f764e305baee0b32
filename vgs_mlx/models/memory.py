"""How much memory MLX may keep wired: on a Mac, weights that stay resident are read at full speed."""

import mlx.core as mx


def wire() -> None:
    """Let MLX wire up to the device's recommended working set. Does nothing where there is no Metal."""
    if mx.metal.is_available():
        mx.set_wired_limit(mx.device_info()["max_recommended_working_set_size"])
