"""What MLX keeps: memory that stays wired for weights, and buffers of arrays that are gone."""

import mlx.core as mx


def wire() -> None:
    """Let MLX wire up to the device's recommended working set. Does nothing where there is no Metal.

    On a Mac, weights that stay resident are read at full speed.
    """
    if mx.metal.is_available():
        mx.set_wired_limit(mx.device_info()["max_recommended_working_set_size"])


def release() -> None:
    """Give the memory of arrays that are gone back to the system: a model's must not wait beside the next model."""
    mx.clear_cache()
