"""What `vgs-mlx distill` does: resolve the recipe, make ready, run the loop, say what came out.

What imports MLX is imported when it is used: the first line is on the screen before, and what can be refused without it is.
"""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vgs_mlx import disk, recipe_file
from vgs_mlx.device import backend
from vgs_mlx.errors import Interrupted
from vgs_mlx.lazy import Lazy
from vgs_mlx.recipe import SHORTHANDS, Recipe
from vgs_mlx.recipe_file import Setting
from vgs_mlx.resources import quickstart
from vgs_mlx.train import run_folder
from vgs_mlx.train.awake import kept_awake
from vgs_mlx.train.screen import Screen, accuracy_line

if TYPE_CHECKING:
    from vgs_mlx.planning.plan import Lengths
    from vgs_mlx.types import Prompt

loading, sizes = Lazy("vgs_mlx.models.loading"), Lazy("vgs_mlx.models.sizes")
plan_report = Lazy("vgs_mlx.planning.report")
checkpoint, identity, loop = (Lazy(f"vgs_mlx.train.{name}") for name in ("checkpoint", "identity", "loop"))
setup, stepping = Lazy("vgs_mlx.train.setup"), Lazy("vgs_mlx.train.step")


def resolve(file: Path | None, shorthands: Mapping[str, str], sets: Sequence[str]) -> tuple[Recipe, str]:
    """The recipe of a command line and a name for its run. Raises `Refusal`.

    With neither a recipe nor a model named, the embedded default is what `shorthands` and `sets` apply to.
    """
    if file is None and not {"student", "teacher"} & shorthands.keys():
        file = quickstart()
    short = [Setting(SHORTHANDS[name], value, f"--{name} {value}") for name, value in shorthands.items()]
    return recipe_file.load_recipe(file, sets, short), file.stem if file else "run"


def start(recipe: Recipe, name: str, output: Path | None, *, force: bool = False) -> None:
    """A new run, from the first line on the screen to the last."""
    screen = Screen()
    folder = output or run_folder.default_folder(name)
    made = run_folder.create(folder, recipe)
    with run_folder.held(folder):
        full = disk.refusing(folder, "make room, or give another folder to --output")
        with full, run_folder.gone_on_failure(folder, made):
            screen.say(f"run      {folder}")
            ready = setup.load(recipe, screen, _memory_check(recipe, force, screen))
            _write_skipped(ready, folder)
        _train(ready, folder, screen)


def resume(folder: Path, sets: Sequence[str], *, force: bool = False) -> None:
    """Go on with a run; nothing to do where it has finished, unless `train.steps` grew."""
    screen = Screen()
    before = run_folder.opened(folder)
    recipe = recipe_file.load_recipe(folder / run_folder.RECIPE, sets)
    identity.refuse_changes(before, recipe)
    with run_folder.held(folder):
        finished = loop.finished_steps(folder)
        if finished is not None and recipe.train.steps <= finished:
            screen.say(
                f"{folder}: finished at step {finished}, nothing changed. "
                f"To train longer: {run_folder.resume_command(folder)} --set train.steps={2 * finished}"
            )
            return
        run_folder.refuse_read_only(folder)
        if (newest := checkpoint.newest(folder)) is not None:
            with screen.working("checking the last checkpoint"):
                checkpoint.verified_state(newest)  # before the models load
        if recipe.train.steps != before.train.steps and recipe.train.schedule == "cosine":
            screen.say(
                f"WARNING  the steps before were taken on a cosine of {before.train.steps:,} steps, not of this length"
            )
        _train(setup.load(recipe, screen, _memory_check(recipe, force, screen)), folder, screen)


def dry_run(recipe: Recipe, output: Path | None, *, force: bool = False) -> None:
    """Everything up to the first update, and what the whole run would take. Writes nothing."""
    if output:
        run_folder.refuse_used(output)
    screen = Screen()
    screen.say(f"recipe   what differs from the defaults, which are in {recipe_file.DEFAULTS}:")
    screen.say(recipe_file.dump_differences(recipe))
    ready = setup.load(recipe, screen, _memory_check(recipe, force, screen))
    per_step = recipe.rollout.prompts_per_step * recipe.rollout.completions_per_prompt
    count = math.ceil(recipe.train.microbatch_size / recipe.rollout.completions_per_prompt)
    count = min(count, recipe.rollout.prompts_per_step, len(ready.data.train))
    prompts = [ready.prompt(row) for row in range(count)]
    progress = stepping.between_measurements()
    for _ in range(2):  # the first warms up
        with screen.working("timing a micro-step"):
            begin = time.perf_counter()
            collected = stepping.collect_answers(ready.student, ready.teacher, prompts, recipe, progress)
            sampled = time.perf_counter() - begin
            found = stepping.compute_gradients(
                ready.student, ready.teacher, collected, slice(None), recipe, progress
            )
            seconds = time.perf_counter() - begin
    rollouts = collected.rollouts
    share = per_step / len(rollouts)
    tokens = sum(len(each.completion) for each in rollouts) * share
    hours = seconds * share * recipe.train.steps / 3600
    phases = {"rollouts": sampled, **found.seconds}
    screen.say("phases   " + ", ".join(f"{name} {taken:.1f} s" for name, taken in phases.items()))
    screen.say(
        f"expect   {seconds:.1f} s for a micro-step of {len(rollouts)} rollouts; about {seconds * share:.1f} s and "
        f"{tokens:,.0f} sampled tokens a step; {hours:.2f} hours and {tokens * recipe.train.steps:,.0f} tokens for "
        f"{recipe.train.steps:,} steps, evaluation not counted"
    )
    screen.say("dry run  nothing was trained or written")


def _memory_check(recipe: Recipe, force: bool, screen: Screen) -> Callable[[Lengths, dict[str, Path]], None]:
    """What `setup.load` asks before it loads weights: does the run fit?"""

    def check(seen: Lengths, folders: dict[str, Path]) -> None:
        student, teacher = (
            sizes.read_size(str(folders[role]), f"--{role}") if role in folders else None
            for role in ("student", "teacher")
        )
        planned = plan_report.of_training(recipe, student, teacher, seen, backend())
        plan_report.check(planned, "the run", force, screen.say)

    return check


def held_out_prompts(recipe: Recipe, count: int) -> list[Prompt]:
    """The first held-out rows of a run's recipe, as prompts."""
    screen = Screen()
    with screen.working(setup.LIBRARIES):
        processor = loading.load_processor(loading.find_folder(recipe.student.path, "--student"), "--student")
    data = setup.load_data(recipe, processor, screen)
    return [setup.render_prompt(processor, example, recipe) for example in data.held_out[:count]]


def _train(ready: setup.Ready, folder: Path, screen: Screen) -> None:
    again = run_folder.resume_command(folder)
    try:
        with disk.refusing(folder, f"make room, or make it writable, then go on with: {again}"):
            with kept_awake(ready.recipe.train.keep_awake, screen.say):
                outcome = loop.run(ready, folder, screen)
    except KeyboardInterrupt:
        lost = (
            "What came after the last checkpoint is lost"
            if checkpoint.newest(folder)
            else "No step is saved yet"
        )
        raise Interrupted(f"{lost}; go on with: {again}") from None
    _tell(outcome, folder, ready, screen)


def _write_skipped(ready: setup.Ready, folder: Path) -> None:
    for bad in ready.data.skipped:
        run_folder.append(folder / run_folder.SKIPPED, {"where": bad.where, "reason": bad.reason})


def _tell(outcome: loop.Outcome, folder: Path, ready: setup.Ready, screen: Screen) -> None:
    screen.say("")
    screen.say(f"before   {accuracy_line(outcome.before)}")
    screen.say(f"after    {accuracy_line(outcome.after)}")
    own = outcome.seconds_of_last_process
    resumed = f" ({own:.0f} s since it was resumed)" if outcome.seconds - own > 0.5 else ""
    screen.say(f"took     {outcome.seconds:.0f} s{resumed}; everything is in {folder}")
    name, fused, final = (
        shlex.quote(str(each)) for each in (folder, f"{folder}-fused", folder / run_folder.FINAL)
    )
    screen.say(f"next     vgs-mlx report {name}   (all of this on one page, with coloured answers)")
    screen.say(f"         vgs-mlx evaluate {name} --no-image   (what a guess without the picture scores)")
    screen.say(f"         vgs-mlx export {name} --output {fused}   (a model that stock mlx-vlm runs)")
    settings = ready.recipe.student
    if settings.train != "full" and not settings.train_vision:
        base = shlex.quote(str(ready.student.folder) if settings.path.startswith(loading.EMBEDDED) else settings.path)
        screen.say(
            f"         python -m mlx_vlm.generate --model {base} --adapter-path {final} "
            "--image PICTURE --prompt QUESTION"
        )
