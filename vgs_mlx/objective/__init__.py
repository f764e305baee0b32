"""The paper's mathematics as pure functions: arrays in, arrays out. Imports `mlx` and nothing else of this package."""
