"""The parts of scripts/torture.py, one file each: `run(count, seed, folder) -> Outcome`."""
