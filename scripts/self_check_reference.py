"""Writes the figures that `vgs-mlx doctor --check` compares machines with: those of this machine's CPU.

    python scripts/self_check_reference.py

To be run where the tests run, after a change of what a step computes; tests/self_check says when.
"""

import vgs_mlx  # noqa: F401  (before mlx: it loads a fast BLAS)

# isort: split
from vgs_mlx.self_check import checks, reference

if __name__ == "__main__":
    reference.write(checks.make_reference())
    print(f"wrote {reference.FILE}")
