"""Processes of `vgs-mlx` that may be killed: forked from one that has imported everything, or fresh interpreters.

Importing MLX and transformers takes longer than a tiny run. So a server (multiprocessing's) imports them once,
computes nothing, since MLX's threads would not survive a fork, and forks a child for each command. From there on a
child does what the command does: it has its own process id, reads its command line, loads its models.
"""

import multiprocessing
import os
import pkgutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import vgs_mlx

NOT_TO_IMPORT = ("__main__", "worker")  # what runs when it is imported


@dataclass(frozen=True)
class Running:
    """A command that runs; all that it says goes to the file `log`."""

    process: multiprocessing.process.BaseProcess | subprocess.Popen
    log: Path

    def code(self, seconds: float) -> int | None:
        """Its exit code, -9 after SIGKILL; None if it still runs after `seconds`."""
        if isinstance(self.process, subprocess.Popen):
            try:
                return self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                return None
        self.process.join(seconds)
        return self.process.exitcode

    def kill(self) -> int:
        """SIGKILL; the exit code, which is another one where it had just ended by itself."""
        if self.code(0) is None:
            os.kill(self.process.pid, signal.SIGKILL)
        return self.code(60)


def forked(arguments: list[str], log: Path) -> Running:
    """`vgs-mlx` with these arguments, in a child of the server."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_modules())
    process = context.Process(target=_command, args=(arguments, str(log)), daemon=True)
    process.start()
    return Running(process, log)


def fresh(arguments: list[str], log: Path) -> Running:
    """The same in an interpreter of its own."""
    code = "import sys; from vgs_mlx.cli import main; main(sys.argv[1:])"
    with log.open("ab") as stream:
        process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    return Running(process, log)


def _modules() -> list[str]:
    """The package's modules, the package first: it loads a fast BLAS before MLX."""
    found = [each.name for each in pkgutil.walk_packages(vgs_mlx.__path__, "vgs_mlx.")]
    return ["vgs_mlx", *(name for name in found if not name.endswith(NOT_TO_IMPORT))]


def _command(arguments: list[str], log: str) -> None:
    from vgs_mlx.cli import main

    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(output, stream)
    main(arguments)
