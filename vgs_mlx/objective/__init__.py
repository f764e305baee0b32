"""The paper's mathematics as pure functions: arrays in, arrays out. Imports `mlx`, but no other part of this package."""
