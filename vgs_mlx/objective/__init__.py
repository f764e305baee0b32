"""The paper's mathematics as pure functions: arrays in, arrays out. Imports nothing else of this project."""
