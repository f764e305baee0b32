"""What `vgs-mlx distill` does: prepare a run, train it, print the results.

Modules that import MLX are imported when first used: the first line, and most refusals, are printed before that.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vgs_mlx.device import backend
from vgs_mlx.errors import Interrupted, Refusal
from vgs_mlx.machine import disk
from vgs_mlx.machine.awake import kept_awake
from vgs_mlx.machine.lazy import Lazy
from vgs_mlx.recipe import file as recipe_file
from vgs_mlx.recipe.options import Recipe
from vgs_mlx.runs import folder as run_folder
from vgs_mlx.runs import recipes
from vgs_mlx.runs.named import named
from vgs_mlx.runs.screen import Screen

if TYPE_CHECKING:
    from vgs_mlx.planning.plan import Lengths

earlier_run, last_lines = Lazy("vgs_mlx.exporting.earlier_run"), Lazy("vgs_mlx.commands.last_lines")
pictures, recipe_objective = Lazy("vgs_mlx.data.pictures"), Lazy("vgs_mlx.recipe.objective")
plan_report, sizes = Lazy("vgs_mlx.planning.report"), Lazy("vgs_mlx.planning.sizes")
checkpoint, identity = Lazy("vgs_mlx.runs.checkpoint"), Lazy("vgs_mlx.runs.identity")
ledger, records = Lazy("vgs_mlx.runs.ledger"), Lazy("vgs_mlx.runs.records")
sources, trained = Lazy("vgs_mlx.runs.sources"), Lazy("vgs_mlx.runs.trained")
loop, watch = Lazy("vgs_mlx.train.loop"), Lazy("vgs_mlx.train.watch")
setup, stepping = Lazy("vgs_mlx.train.setup"), Lazy("vgs_mlx.train.step")


def start(recipe: Recipe, name: str, output: Path | None, *, force: bool = False) -> None:
    """Start a run and train it to its end. Raises `Refusal` and `Interrupted`."""
    screen = Screen()
    folder = output or run_folder.default_folder(name)
    made = run_folder.create(folder, recipe)
    with run_folder.held(folder):
        full = disk.refusing(folder, "make room, or give another folder to --output")
        with full, run_folder.gone_on_failure(folder, made):
            screen.say(f"run      {folder}")
            _say_whose_settings(recipe, screen)
            setup.refuse_contradictions(recipe)  # before anything is downloaded
            ready = _first_ready(folder, recipe, screen, force)
        _train(ready, folder, screen)


def _first_ready(folder: Path, recipe: Recipe, screen: Screen, force: bool) -> setup.Ready:
    """A run ready for step 0, and in its folder all that is written before that step, unless it is there already."""
    run_folder.describe(folder)
    recipe = _pinned(recipe, screen)
    if earlier_run.named(recipe.student.path):
        recipe = earlier_run.taken_over(recipe, folder, screen.say)
    run_folder.keep_recipe(folder, recipe)
    ready = setup.load(recipe, screen, _memory_check(recipe, force, screen), folder)
    ledger.write_skipped(folder, ready.data)
    ledger.write(folder, ready.data)
    return ready


def _say_whose_settings(recipe: Recipe, screen: Screen) -> None:
    """Print which settings differ from those of the earlier run that this one continues."""
    if earlier := named(recipe.student.path):
        own = recipe_file.flat(run_folder.opened(earlier[0]))
        other = [
            key
            for key, value in recipe_file.flat(recipe).items()
            if value != own[key] and key != "student.path"
        ]
        screen.say(f"recipe   as in {earlier[0]}" + (f", except {', '.join(other)}" if other else ""))


def resume(
    folder: Path, sets: Sequence[str], shorthands: Mapping[str, str] | None = None, *, force: bool = False
) -> None:
    """Resume a run. A finished one trains further only where `train.steps` has grown. Raises as `start`.

    `shorthands` give the new places of data and models that moved: see `identity.PLACES`. Once these are recognised,
    the folder's recipe names the new places.
    """
    screen = Screen()
    before = run_folder.opened(folder)
    recipe = recipe_file.load_recipe(folder / run_folder.RECIPE, sets, recipes.settings(shorthands or {}))
    screen.say(f"run      {folder}")
    identity.refuse_changes(before, recipe)
    if moved := identity.moved(before, recipe):
        recipe = _pinned(recipe, screen)
    with run_folder.held(folder):
        finished = loop.finished_steps(folder)
        if finished is not None and recipe.train.steps <= finished:
            _stay_finished(folder, finished, replace(recipe, train=before.train), moved, screen)
            return
        run_folder.refuse_read_only(folder)
        _refuse_unready(folder, recipe, moved, screen)
        if recipe.train.steps != before.train.steps and recipe.train.schedule == "cosine":
            screen.say(
                f"WARNING  the earlier steps followed a cosine of {before.train.steps:,} steps, not of the new length"
            )
        if checkpoint.newest(folder) is None:  # killed, maybe before all of it was written
            with _writable(folder):
                ready = _first_ready(folder, recipe, screen, force)
        else:
            ready = setup.load(recipe, screen, _memory_check(recipe, force, screen), folder)
        _train(ready, folder, screen)


def _stay_finished(folder: Path, steps: int, recipe: Recipe, moved: Sequence[str], screen: Screen) -> None:
    """Train nothing. Check what moved, and write its new place to the folder's recipe."""
    if moved:
        sources.refuse_others(folder, recipe, moved, screen)
        run_folder.keep_recipe(folder, recipe)
    what = f"nothing changed except {', '.join(moved)}" if moved else "nothing changed"
    screen.say(
        f"{folder}: finished at step {steps}, {what}. "
        f"To train longer: {run_folder.resume_command(folder)} --set train.steps={2 * steps}"
    )


def _pinned(recipe: Recipe, screen: Screen) -> Recipe:
    with screen.working("looking up models and data on the Hub"):
        return sources.pinned(recipe, screen.say)


def _refuse_unready(folder: Path, recipe: Recipe, moved: Sequence[str], screen: Screen) -> None:
    """Refuse, before anything loads, missing or damaged files, and moved data with no checkpoint to compare with."""
    needed = [
        key for key in identity.PLACES if key != "teacher.path" or recipe_objective.needs_teacher(recipe)
    ]
    trained.refuse_missing(folder, recipe, *needed, here=True)
    records.refuse_damaged(folder)
    if (newest := checkpoint.newest(folder)) is not None:
        if recipe.train.watch_every:
            watch.kept_completions(folder)
        with screen.working("checking the last checkpoint"):
            checkpoint.verified_state(newest)
    elif moved:
        raise Refusal(
            f"{folder}: it stopped before its first checkpoint, so nothing can show that the moved files are the "
            "same: start a new run"
        )


def dry_run(recipe: Recipe, output: Path | None, *, force: bool = False) -> None:
    """Do everything up to the first update, and print what the whole run would take. Writes nothing."""
    if output:
        run_folder.refuse_used(output)
    screen = Screen()
    _say_whose_settings(recipe, screen)
    screen.say(f"recipe   the differences from the defaults, which are in {recipe_file.DEFAULTS}:")
    screen.say(recipe_file.dump_differences(recipe))
    setup.refuse_contradictions(recipe)  # before anything is downloaded
    recipe = _pinned(recipe, screen)
    with tempfile.TemporaryDirectory() as place:
        _dry_run(earlier_run.taken_over(recipe, Path(place), screen.say), screen, force)
    screen.say("dry run  nothing was trained or written")


def _dry_run(recipe: Recipe, screen: Screen, force: bool) -> None:
    ready = setup.load(recipe, screen, _memory_check(recipe, force, screen))
    count = math.ceil(recipe.train.microbatch_size / recipe.rollout.completions_per_prompt)
    count = min(count, recipe.rollout.prompts_per_step, len(ready.data.train))
    prompts = [ready.prompt(row) for row in range(count)]
    progress = stepping.between_measurements()
    for _ in range(2):  # the first warms up
        with screen.working("timing a micro-step"):
            begin = time.perf_counter()
            collected = stepping.collect_answers(ready.student, ready.teacher, prompts, recipe, progress)
            sampled = time.perf_counter() - begin
            parts = stepping.compute_gradients(
                ready.student, ready.teacher, collected, slice(None), recipe, progress
            )
            seconds = time.perf_counter() - begin
    rollouts = collected.rollouts
    share = recipe.rollout.prompts_per_step / len(prompts)
    tokens = sum(len(each.completion) for each in rollouts) * share
    hours = seconds * share * recipe.train.steps / 3600
    phases = {"rollouts": sampled, **parts.seconds}
    screen.say("phases   " + ", ".join(f"{name} {taken:.1f} s" for name, taken in phases.items()))
    screen.say(
        f"expect   {seconds:.1f} s for a micro-step of {len(rollouts)} rollouts; about {seconds * share:.1f} s and "
        f"{tokens:,.0f} sampled tokens a step; {hours:.2f} hours and {tokens * recipe.train.steps:,.0f} tokens for "
        f"{recipe.train.steps:,} steps, evaluation not counted"
    )


def _memory_check(recipe: Recipe, force: bool, screen: Screen) -> Callable[[Lengths, dict[str, Path]], None]:
    """The check that `setup.load` makes before it loads weights: does the run fit in memory?"""

    def check(seen: Lengths, folders: dict[str, Path]) -> None:
        student, teacher = (
            sizes.read_size(str(folders[role]), f"--{role}") if role in folders else None
            for role in ("student", "teacher")
        )
        planned = plan_report.of_training(recipe, student, teacher, seen, backend())
        plan_report.check(planned, "the run", force, screen.say)

    return check


def _train(ready: setup.Ready, folder: Path, screen: Screen) -> None:
    again = run_folder.resume_command(folder)
    try:
        with _writable(folder), kept_awake(ready.recipe.train.keep_awake, screen.say):
            outcome = loop.run(ready, folder, screen)
    except pictures.Changed as refusal:
        raise Refusal(f"{refusal}, then go on with: {again}") from refusal
    except KeyboardInterrupt:
        lost = (
            "Steps after the last checkpoint are lost"
            if checkpoint.newest(folder)
            else "No step is saved yet"
        )
        raise Interrupted(f"{lost}; go on with: {again}") from None
    last_lines.say(outcome, folder, ready, screen)


def _writable(folder: Path) -> AbstractContextManager[None]:
    """Turns a failure to write to a run into a `Refusal` that says how to resume it."""
    return disk.refusing(
        folder, f"make room, or make it writable, then go on with: {run_folder.resume_command(folder)}"
    )
