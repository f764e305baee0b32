"""Grids of runs that differ in a few settings and share everything else: make them, run them, compare them."""
