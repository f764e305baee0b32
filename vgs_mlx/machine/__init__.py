"""What the tool needs from the machine and from Python: BLAS, late imports, signals, full disks, sleep."""
