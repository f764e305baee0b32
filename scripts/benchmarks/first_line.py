"""How soon a command says something, in fresh processes, and how long it takes in all; beside another checkout."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
CONFIGS = ROOT / "recipes" / "configs"
SMALL = "--set train.steps=1 --set data.source=shapes:24 --set data.held_out=8 --set train.evaluate_rows=4"
COMMANDS = {
    "--help": "--help",
    "doctor": "doctor",
    "plan": f"plan --recipe {ROOT}/recipes/qwen3-vl-2b-lora.yaml --student {CONFIGS}/qwen3-vl-2b.json "
    f"--teacher {CONFIGS}/qwen3-vl-8b-4bit.json --memory 128GB --device metal",
    "a refused key": "distill --set train.stepz=3",
    "distill --dry-run": f"distill --dry-run {SMALL}",
    "distill": f"distill {SMALL}",
}


def measure(checkout: Path, command: str) -> dict[str, float]:
    """Seconds to the first byte on the screen and to the end, in a folder of its own; output is not a terminal."""
    program = [sys.executable, "-c", "from vgs_mlx.cli import main; main()", *command.split()]
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        process = subprocess.Popen(
            program, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(checkout), "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        process.stdout.read(1)
        first = time.perf_counter() - begin
        process.communicate()
        return {"first_line": first, "whole": time.perf_counter() - begin}
