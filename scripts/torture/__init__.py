"""The parts of scripts/torture.py, one file each: `run(count, seed, folder) -> Outcome`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "tests"))  # toy_runs, fuse
