"""What `vgs-mlx doctor --check` does: run the checks, print each figure beside its limit, and what doesn't agree."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from vgs_mlx.machine import blas
from vgs_mlx.runs import folder as run_folder
from vgs_mlx.runs.screen import Screen
from vgs_mlx.self_check import checks, reference, sides
from vgs_mlx.self_check.comparing import Line, worst_by_group

AGREES = "this machine computes what the tests computed"
ROUNDS = (
    "note  this GPU keeps 10 bits of the factors of float32 products, as MLX allows: limits are wider. "
    "MLX_ENABLE_TF32=0 in the environment keeps all bits"
)


def run(screen: Screen, machine: Sequence[tuple[str, str]], json_file: Path | None = None) -> int:
    """Run all checks on this machine. Returns the exit code: 1 where something does not agree. Raises `Refusal`.

    `machine` holds the rows of `doctor.report`, for a bug report.
    """
    machine = [
        *machine,
        *((name, version) for name, version in _versions().items() if name not in dict(machine)),
    ]
    stored, devices = reference.read(), sides.devices()
    screen.say("")
    screen.say(
        "check takes about a minute; each line is the figure of its group that is nearest to its limit: a relative "
        "distance, unless it says otherwise"
    )
    if checks.any_rounds(devices):
        screen.say(ROUNDS)
    lines: list[Line] = []
    for check in checks.checks(devices, stored):
        with screen.working(check.title):
            group_lines = checks.attempt(check)
        lines += group_lines
        for line in worst_by_group(group_lines):
            _show(screen, line)
    failing = [line for line in lines if not line.agrees]
    screen.say("")
    if failing:
        _say_failing(screen, failing, machine, stored.made_with)
    else:
        screen.say(f"{len(lines)} figures agree: {AGREES}")
    if json_file:
        run_folder.write_text(json_file, _as_json(lines, machine, stored.made_with))
    return 1 if failing else 0


def _show(screen: Screen, line: Line) -> None:
    """Print one figure beside its limit."""
    mark, style = ("ok", "green") if line.agrees else ("NO", "bold red")
    figures = f"{_short(line.value):>8}  at most {line.limit:<7.2g}" if not line.problem else f"{'':26}"
    text = f"  {figures}  {line.part}: {line.name}" + (f" {line.problem}" if line.problem else "")
    screen.console.print(Text.assemble((mark, style), text), soft_wrap=True)


def _short(value: float) -> str:
    return f"{value:.2g}" if math.isfinite(value) else str(value)


def _say_failing(
    screen: Screen, failing: Sequence[Line], machine: Sequence[tuple[str, str]], made_with: Mapping[str, str]
) -> None:
    """Print what to paste into a bug report."""
    screen.say("this machine does not compute what the tests computed. Please paste this into a bug report:")
    screen.say("")
    tests = ", ".join(f"{name} {version}" for name, version in made_with.items())
    for line in (
        "vgs-mlx doctor --check",
        *(f"{what}: {value}" for what, value in machine),
        f"the tests had {tests}",
        *(line.text for line in failing),
    ):
        screen.say(f"    {line}")


def _versions() -> dict[str, str]:
    return {name: blas.installed_version(name) or "not installed" for name in checks.MADE_WITH}


def _as_json(lines: Sequence[Line], machine: Sequence[tuple[str, str]], made_with: Mapping[str, str]) -> str:
    """All lines, not only the worst; a figure that is not a finite number is null."""

    def row(line: Line) -> dict[str, Any]:
        return {
            **vars(line),
            "value": line.value if math.isfinite(line.value) else None,
            "agrees": line.agrees,
        }

    results = {
        "agrees": all(line.agrees for line in lines),
        "machine": dict(machine),
        "tests_made_with": dict(made_with),
        "lines": [row(line) for line in lines],
    }
    return json.dumps(results, indent=2, ensure_ascii=False) + "\n"
