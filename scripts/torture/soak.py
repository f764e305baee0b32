"""Many steps of changing shapes: memory, open files and threads don't grow.

One real run, in this process, of as many steps as asked for: prompts, pictures and completions are of another length
or size at each step (how long completions may be is drawn for each), with evaluations, looks at the loss terms and
checkpoints on the way. After each step it is noted what MLX's arrays take, what is resident, and how many files and
threads there are, in figures.jsonl beside the run. The rule: the most in the last quarter of the steps is at most the
most in the second quarter, when everything has been loaded and compiled, and what `SLACK` allows.
"""

import json
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import mlx.core as mx

from torture import made
from torture.outcome import Outcome, outcome

# isort: split
import toy_runs
from vgs_mlx.runs import folder as run_folder
from vgs_mlx.runs.screen import Screen
from vgs_mlx.train import loop

STEPS = 1_000
SIDES = (32, 128)  # of a picture, pixels
LENGTHS = (2, 16)  # of a completion at most, tokens
SETTINGS = (
    *made.SMALL, *made.LORA, "data.held_out=0.25", "train.checkpoint_every=20", "train.evaluate_every=40",
    "train.watch_every=40", "train.evaluate_rows=2", "objective.norm_scale_every=3", "rollout.max_completion_length=16",
)  # fmt: skip
SLACK = {"active memory": 0.001, "resident memory": 0.02, "open files": 0.0, "threads": 0.0}
"""By how much of itself a figure may be larger in the last quarter."""


def run(count: int | None, seed: int, folder: Path) -> Outcome:
    """Train `count` steps (1,000)."""
    rng, count, begin = random.Random(seed), count or STEPS, time.perf_counter()
    rows = made.write_rows(folder / "data", 64, rng, SIDES, words=30)
    ready = toy_runs.ready(*SETTINGS, f"data.source={rows}", f"train.steps={count}")
    watching, shapes = _Watching(), set()
    run_folder.create(folder / "run", ready.recipe)
    with patch.object(loop, "run_step", _varied(loop.run_step, rng, shapes)):
        loop.run(ready, folder / "run", watching)
    lines = [json.dumps(each) + "\n" for each in watching.figures]
    (folder / "figures.jsonl").write_text("".join(lines), encoding="utf-8")
    failures = [grown for name in SLACK if (grown := _grown(name, [each[name] for each in watching.figures]))]
    most = {name: max(each[name] for each in watching.figures[count // 4 :]) for name in SLACK}
    return outcome(
        f"{count} steps of {len(shapes)} shapes ({_ranges(shapes)}): "
        f"at most {most['active memory'] / 1e6:.1f} MB active, {most['resident memory'] / 1e6:.0f} MB resident, "
        f"{most['open files']} open files, {most['threads']} threads after the first quarter; "
        f"{time.perf_counter() - begin:.0f} s",
        failures,
    )


def _ranges(shapes: set[tuple[int, int, int]]) -> str:
    prompts, patches, completions = (f"{min(each)} to {max(each)}" for each in zip(*shapes, strict=True))
    return f"prompts of {prompts} tokens, pictures of {patches} patches, completions of {completions} tokens"


def _grown(name: str, values: list[int]) -> str | None:
    """What is wrong with a figure, by step; None where it has not grown."""
    quarter = len(values) // 4
    second, last = max(values[quarter : 2 * quarter]), max(values[-quarter:])
    if last <= second * (1 + SLACK[name]):
        return None
    return f"{name}: at most {second:,} in the second quarter of the steps and {last:,} in the last"


def _varied(step: Callable, rng: random.Random, shapes: set) -> Callable:
    """Training steps whose completions are of another length each; notes the shapes that they see."""

    def varied(student, teacher, prompts, recipe, optimizer, progress):
        rollout = replace(recipe.rollout, max_completion_length=rng.randint(*LENGTHS))
        found = step(student, teacher, prompts, replace(recipe, rollout=rollout), optimizer, progress)
        for each in found.rollouts:
            view = each.prompt.student["with_image"]
            shapes.add((len(view.ids), len(view.media["pixel_values"]), len(each.completion)))
        return found

    return varied


class _Watching(Screen):
    """A screen that notes figures after each step and shows nothing."""

    def __init__(self) -> None:
        super().__init__(toy_runs.QUIET.console)
        self.figures: list[dict[str, int]] = []

    @contextmanager
    def training(self, steps: int, done: int) -> Iterator[Callable[[Mapping[str, Any]], None]]:
        yield lambda _: self.figures.append(_figures())


def _figures() -> dict[str, int]:
    linux = sys.platform == "linux"
    resident = (
        int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if linux else 0
    )
    return {
        "active memory": mx.get_active_memory(),
        "resident memory": resident,
        "open files": len(os.listdir("/dev/fd")),
        "threads": len(os.listdir("/proc/self/task")) if linux else threading.active_count(),
    }
