"""What `files` damages: a student, a teacher, data, a finished run, one that was broken off, a recipe, a grid's folder.

Made once by the package's own commands; every case damages a copy of its own. Recipes name places in the copy.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from click.testing import CliRunner, Result
from PIL import Image

from vgs_mlx.ablation import grid_file
from vgs_mlx.ablation.grid import Cell, Grid
from vgs_mlx.cli import main
from vgs_mlx.recipe import file as recipe_file
from vgs_mlx.resources import tiny_model
from vgs_mlx.runs import folder as run_folder

STUDENT, TEACHER, DATA, RUN, OPEN, RECIPE, GRID = (
    "student",
    "teacher",
    "data",
    "run",
    "open",
    "recipe.yaml",
    "grid",
)
SETS = {
    "data.system_prompt": "''", "data.held_out": "0.5", "rollout.prompts_per_step": "2",
    "rollout.completions_per_prompt": "2",
    "rollout.max_completion_length": "6", "objective.norm_scale_every": "2", "train.steps": "2",
    "train.learning_rate": "1e-4",
    "train.evaluate_rows": "2", "train.evaluate_every": "1", "train.checkpoint_every": "1",
    "train.keep_checkpoints": "9",
    "train.watch_every": "2", "train.evaluate_blind": "true",
}  # fmt: skip
INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class Command:
    """What a user types, and which parts of a scene it reads."""

    name: str
    arguments: Callable[[Path], list[str]]
    reads: frozenset[str]
    weight: int  # cheap ones are given more often

    def run(self, scene: Path) -> Result:
        return CliRunner().invoke(main, self.arguments(scene))


def sets(**changes: str) -> list[str]:
    return [part for key, value in {**SETS, **changes}.items() for part in ("--set", f"{key}={value}")]


def _models(scene: Path) -> list[str]:
    return [
        "--student",
        str(scene / STUDENT),
        "--teacher",
        str(scene / TEACHER),
        "--data",
        str(scene / DATA / "rows.jsonl"),
    ]


def _command(name: str, weight: int, reads: str, arguments: Callable[[Path], list[object]]) -> Command:
    return Command(
        name, lambda scene: [str(each) for each in arguments(scene)], frozenset(reads.split()), weight
    )


COMMANDS = (
    _command("plan", 16, "student teacher", lambda at: ["plan", "--student", at / STUDENT, "--teacher",
    at / TEACHER]),
    _command("plan a recipe", 12, "recipe.yaml", lambda at: ["plan", "--recipe", at / RECIPE]),
    _command("plan on a run", 6, "run", lambda at: ["plan", "--student", at / RUN, "--teacher", "embedded:teacher"]),
    _command("evaluate a model", 12, "student", lambda at: [
        "evaluate", at / STUDENT, "--data", "shapes:2", "--set", "data.system_prompt=''", "--set",
        "rollout.max_completion_length=4"]),
    _command("evaluate", 10, "run student data", lambda at: ["evaluate", at / RUN, "--limit", 1]),
    _command("evaluate an unfinished run", 5, "open student data", lambda at: ["evaluate", at / OPEN, "--limit", 1]),
    _command("evaluate a step", 3, "run student data", lambda at: ["evaluate", at / RUN, "--limit", 1,
    "--checkpoint", 1]),
    _command("report", 3, "run", lambda at: ["report", at / RUN, "--no-examples"]),
    _command("report with answers", 1, "run student teacher data", lambda at: ["report", at / RUN, "--examples", 1]),
    _command("resume", 3, "open student teacher data", lambda at: ["distill", "--resume", "--output", at / OPEN]),
    _command("resume a finished run", 12, "run", lambda at: ["distill", "--resume", "--output", at / RUN]),
    _command("train on", 2, "run student teacher data", lambda at: ["distill", "--resume", "--output", at / RUN,
    "--set", "train.steps=3"]),
    _command("export", 2, "run student data", lambda at: ["export", at / RUN, "--output", at / "fused", "--prompts",
    1]),
    _command("analyze", 1, "run student teacher data", lambda at: ["analyze", at / RUN, "--prompts", 1, "--batches",
    1, "--bins", 2]),
    _command("dry run", 1, "student teacher data", lambda at: ["distill", "--dry-run", *_models(at), *sets()]),
    _command("dry run of a recipe", 1, "recipe.yaml student teacher data", lambda at: ["distill", "--dry-run",
    "--recipe", at / RECIPE]),
    _command("dry run from a run", 1, "run student teacher data", lambda at: ["distill", "--dry-run", "--student",
    at / RUN]),
    _command("summary of a grid", 3, "grid", lambda at: ["ablate", "--summary", at / GRID]),
    _command("report of a grid", 3, "grid", lambda at: ["report", at / GRID, "--no-examples"]),
)  # fmt: skip


def make(scene: Path) -> None:
    """A whole scene in a new folder. Raises `RuntimeError` where one of the commands fails."""
    for role in (STUDENT, TEACHER):
        shutil.copytree(tiny_model(role), scene / role)
    header = json.loads(_header(scene / STUDENT / "model.safetensors"))
    names = {name: "model.safetensors" for name in header if name != "__metadata__"}
    (scene / STUDENT / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": names}, indent=1))
    _write_data(scene / DATA)
    _succeed("distill", *_models(scene), *sets(), "--output", str(scene / RUN))
    _succeed("analyze", str(scene / RUN), "--prompts", "1", "--batches", "1", "--bins", "2")
    shutil.copytree(scene / RUN, scene / OPEN)
    recipe = scene / OPEN / run_folder.RECIPE
    recipe.write_text(recipe.read_text().replace("steps: 2", "steps: 3"))
    (scene / OPEN / run_folder.RESULT).unlink()
    shutil.rmtree(scene / OPEN / run_folder.FINAL)
    shutil.copyfile(scene / RUN / run_folder.RECIPE, scene / RECIPE)
    _write_grid(scene)


def copied(scene: Path, to: Path) -> Path:
    """A copy of a scene whose recipes name places in the copy."""
    shutil.copytree(scene, to)
    for file in (to / RECIPE, to / RUN / run_folder.RECIPE, to / OPEN / run_folder.RECIPE, to / GRID / "grid.json",
                 *to.glob(f"{GRID}/*/*/recipe.yaml")):  # fmt: skip
        file.write_text(file.read_text().replace(str(scene), str(to)))
    return to


def _header(file: Path) -> bytes:
    content = file.read_bytes()
    return content[8 : 8 + int.from_bytes(content[:8], "little")]


def _write_data(folder: Path) -> None:
    folder.mkdir()
    rows = []
    for number, colour in enumerate(["red", "green", "blue", "white"]):
        Image.new("RGB", (48, 48), colour).save(folder / f"{colour}.png")
        rows.append(
            {
                "image": f"{colour}.png",
                "question": f"What colour is it? {number}",
                "answer": colour,
                "kind": "colour",
            }
        )
    (folder / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def _write_grid(scene: Path) -> None:
    """A grid of one cell and one seed, which is the finished run: its summary is the command's own."""
    grid = scene / GRID
    grid.mkdir()
    cell = Cell("standard", {}, recipe_file.load_recipe(scene / RECIPE), seeds=1)
    grid_file.save(grid, Grid((cell,), cell.name))
    shutil.copytree(scene / RUN, grid / cell.name / "seed-0")
    _succeed("ablate", "--summary", str(grid))


def _succeed(*arguments: str) -> None:
    result = CliRunner().invoke(main, arguments)
    if result.exit_code:
        raise RuntimeError(
            f"the scene can't be made: vgs-mlx {' '.join(arguments)}: {result.output[-500:]}"
        ) from result.exception
