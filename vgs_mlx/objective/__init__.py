"""The paper's mathematics, pure: arrays in, arrays out, `mlx` and nothing of the package above it."""
