"""`vgs-mlx doctor --check`: does this machine compute what the tests computed?

One step of the embedded models on each device and in each precision (step.py), compared with the other device and
with the figures that the tests' machine stored (comparing.py, reference.py); then single operations at real sizes
against NumPy (operations.py) and what a run relies on (behaviour.py).
"""
