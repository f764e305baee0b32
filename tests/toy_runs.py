"""The main job at toy size: the embedded models, a few steps, a few short answers.

Nothing here depends on how well the embedded models do. Models are loaded once, for each precision that the
environment asks for, and put back to their first weights for every run.
"""

import atexit
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
from click.testing import CliRunner, Result
from PIL import Image
from rich.console import Console

from vgs_mlx.cli import main
from vgs_mlx.device import KEEP_PRECISION
from vgs_mlx.models import adapters
from vgs_mlx.recipe.options import Recipe
from vgs_mlx.runs import folder as run_folder
from vgs_mlx.runs import recipes
from vgs_mlx.runs.identity import identify
from vgs_mlx.runs.screen import Screen
from vgs_mlx.train import loop, setup
from vgs_mlx.train.setup import Ready

ROOT = Path(__file__).parent.parent
MODELS = {"student": "embedded:student", "teacher": "embedded:teacher"}
TOY = (
    "data.source=shapes:24", "data.held_out=8", "data.system_prompt=''", "rollout.prompts_per_step=2",
    "rollout.completions_per_prompt=2", "rollout.max_completion_length=8", "objective.norm_scale_every=2",
    "train.steps=4", "train.learning_rate=1e-4", "train.evaluate_rows=4", "train.evaluate_every=4",
    "train.checkpoint_every=2",
)  # fmt: skip
GOOD = {"image": "red.png", "question": "What colour?", "answer": "red"}
VOLATILE = (
    "seconds",
    "seconds_between",
    "tokens_per_second",
    "peak_memory_gb",
    "active_memory_gb",
    "cache_memory_gb",
)  # may differ
_load = setup.load  # tests may put another in its place
QUIET = Screen(Console(file=open(os.devnull, "w")))  # noqa: SIM115 - open for as long as the tests run


def recipe(*sets: str) -> Recipe:
    """The toy recipe, changed by `sets`: the defaults where neither says more, LoRA for one."""
    return recipes.resolve(None, MODELS, [*TOY, *sets])[0]


def ready(*sets: str) -> Ready:
    """A run that may start, its student as it was before any training."""
    made_ready, initial = _ready(_precision(), *sets)
    adapters.set_weights(made_ready.student.module, initial)
    mx.eval(made_ready.student.module.parameters())
    return made_ready


def train(folder: Path, *sets: str) -> Path:
    """A new run in `folder`, from its first step to its last."""
    made_ready = ready(*sets)
    run_folder.create(folder, made_ready.recipe)
    loop.run(made_ready, folder, QUIET)
    return folder


def go_on(folder: Path, *sets: str) -> None:
    """What `--resume` does with a run that may be resumed."""
    loop.run(ready(*sets), folder, QUIET)


def finished(*sets: str) -> Path:
    """A finished run that nobody interrupted. Shared: copy it before changing it."""
    return _finished(_precision(), *sets)


@functools.cache
def _finished(_: str, *sets: str) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="toy-run-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return train(folder / "run", *sets)


def copied(run: Path, folder: Path) -> Path:
    """A copy of a shared run that may be changed."""
    return Path(shutil.copytree(run, folder))


def final_weights(run: Path) -> dict[str, bytes]:
    """The files of the final weights, byte for byte."""
    return {file.name: file.read_bytes() for file in sorted((run / run_folder.FINAL).iterdir())}


def metrics(run: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl but for what may differ from run to run."""
    rows = run_folder.rows(run / run_folder.METRICS)
    return [{name: value for name, value in row.items() if name not in VOLATILE} for row in rows]


def same_run(left: Path, right: Path) -> bool:
    """Whether two runs trained the same weights, to the byte, by the same steps, and were measured the same."""
    measured = (run_folder.EVALUATIONS, run_folder.ANSWERS, run_folder.COMPLETIONS)
    return (
        final_weights(left) == final_weights(right)
        and metrics(left) == metrics(right)
        and all((left / name).read_bytes() == (right / name).read_bytes() for name in measured)
    )


def checkpoints(run: Path) -> list[str]:
    """The names in the folder of checkpoints, hidden ones too."""
    return sorted(os.listdir(run / run_folder.CHECKPOINTS))


def state_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below a folder: when it was last written, and what it holds."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): (file.stat().st_mtime_ns, file.read_bytes()) for file in files}


def names(folder: Path) -> list[str]:
    """Every file and folder below a folder."""
    return sorted(str(each.relative_to(folder)) for each in folder.rglob("*"))


def command(*arguments: str | Path) -> Result:
    """`vgs-mlx` with these arguments, in this process."""
    return CliRunner().invoke(main, [str(each) for each in arguments])


def options(*sets: str) -> list[str]:
    """The toy recipe as options of `vgs-mlx distill`."""
    models = [part for role, path in MODELS.items() for part in (f"--{role}", path)]
    return [*models, *[part for each in (*TOY, *sets) for part in ("--set", each)]]


def spawned(*arguments: str | Path) -> subprocess.Popen:
    """`vgs-mlx` with these arguments, in a process of its own."""
    code = "import sys; from vgs_mlx.cli import main; main(sys.argv[1:])"
    line = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(condition: Callable[[], Any], process: subprocess.Popen, seconds: float = 240) -> None:
    """Wait until `condition` holds. Fails when the process ends before, or takes too long."""
    end = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None:
            raise AssertionError(f"ended with {process.returncode}: {process.stderr.read()}")
        if time.monotonic() > end:
            process.kill()
            raise AssertionError("took too long")
        time.sleep(0.005)


def recorded_steps(run: Path) -> int:
    """How many whole rows metrics.jsonl has by now."""
    file = run / run_folder.METRICS
    return file.read_bytes().count(b"\n") if file.exists() else 0


def read_json(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def data_file(folder: Path, *rows: dict | str) -> Path:
    """A data file in a new folder, with a picture beside it. GOOD is a good row."""
    folder.mkdir()
    Image.new("RGB", (48, 48), "red").save(folder / "red.png")
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / "rows.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return folder / "rows.jsonl"


def _precision() -> str:
    return os.environ.get(KEEP_PRECISION, "")


@functools.cache
def _ready(precision: str, *sets: str) -> tuple[Ready, dict[str, mx.array]]:
    wanted = recipe(*sets)
    loading = tuple(each for each in sets if each.startswith(("student.", "seed=")))
    loaded, initial = _loaded(precision, loading)
    data = setup.load_data(wanted, loaded.student.processor, QUIET)
    identity = identify(wanted, loaded.student, loaded.teacher, data)
    return setup.with_picture_cache(replace(loaded, recipe=wanted, data=data, identity=identity)), initial


@functools.cache
def _loaded(_: str, sets: tuple[str, ...]) -> tuple[Ready, dict[str, mx.array]]:
    made_ready = _load(recipe(*sets), QUIET)
    return made_ready, adapters.trainable_weights(made_ready.student.module)
