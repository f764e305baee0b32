"""What the tool asks of the machine and of Python: BLAS, imports that wait, signals, full disks, sleep."""
