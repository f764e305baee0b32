"""The device that MLX computes on: which kind, and how much memory it may keep."""


def backend() -> str:
    """What MLX's default device is: "metal", "cuda" or "cpu"."""
    import mlx.core as mx

    if mx.default_device() == mx.cpu:
        return "cpu"
    return "metal" if mx.metal.is_available() else "cuda"


def wire() -> None:
    """Let MLX keep weights wired up to a Mac's recommended working set: they are read at full speed then."""
    import mlx.core as mx

    if mx.metal.is_available():
        mx.set_wired_limit(mx.device_info()["max_recommended_working_set_size"])
