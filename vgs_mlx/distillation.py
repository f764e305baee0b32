"""What `vgs-mlx distill` does: resolve the recipe, make ready, run the loop, say what came out."""

import math
import shlex
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from vgs_mlx import earlier_run, evaluation_report, hub_names, recipe_file, sources, trained
from vgs_mlx.data.pictures import Changed
from vgs_mlx.device import backend
from vgs_mlx.errors import Refusal
from vgs_mlx.models.loading import EMBEDDED, find_folder, load_processor
from vgs_mlx.models.sizes import read_size
from vgs_mlx.planning import report as plan_report
from vgs_mlx.planning.plan import Lengths
from vgs_mlx.recipe import SHORTHANDS, Recipe
from vgs_mlx.recipe_file import Setting
from vgs_mlx.recipe_objective import needs_teacher
from vgs_mlx.resources import quickstart
from vgs_mlx.train import checkpoint, identity, ledger, loop, run_folder, setup
from vgs_mlx.train.data import first_held_out
from vgs_mlx.train.screen import Screen, accuracy_line
from vgs_mlx.train.step import between_measurements, collect_answers, compute_gradients
from vgs_mlx.types import Prompt


def resolve(file: Path | None, shorthands: Mapping[str, str], sets: Sequence[str]) -> tuple[Recipe, str]:
    """The recipe of a command line and a name for its run. Raises `Refusal`.

    With neither a recipe nor a model named, the embedded default is what `shorthands` and `sets` apply to.
    """
    if file is None and not {"student", "teacher"} & shorthands.keys():
        file = quickstart()
    return recipe_file.load_recipe(file, sets, _settings(shorthands)), file.stem if file else "run"


def _settings(shorthands: Mapping[str, str]) -> list[Setting]:
    return [Setting(SHORTHANDS[name], value, f"--{name} {value}") for name, value in shorthands.items()]


def start(recipe: Recipe, name: str, output: Path | None, *, force: bool = False) -> None:
    """A new run, from the first line on the screen to the last."""
    screen = Screen()
    folder = output or run_folder.default_folder(name)
    run_folder.refuse_used(folder)
    setup.refuse_contradictions(recipe)  # before anything is downloaded
    recipe = sources.pinned(recipe, screen.say)
    made = run_folder.create(folder, recipe)
    with run_folder.held(folder):
        with run_folder.gone_on_failure(folder, made):
            screen.say(f"run      {folder}")
            if earlier_run.named(recipe.student.path):
                recipe = earlier_run.taken_over(recipe, folder, screen.say)
                run_folder.keep_recipe(folder, recipe)
            ready = setup.load(recipe, screen, _memory_check(recipe, force, screen))
            _write_skipped(ready, folder)
            ledger.write(folder, ready.data)
        _train(ready, folder, screen)


def resume(
    folder: Path, sets: Sequence[str], shorthands: Mapping[str, str] | None = None, *, force: bool = False
) -> None:
    """Go on with a run; nothing to do where it has finished, unless `train.steps` grew.

    `shorthands` say where its data and models are now, where they moved: see `identity.PLACES`. The folder's recipe
    then says so too, once they are recognised.
    """
    screen = Screen()
    before = run_folder.opened(folder)
    recipe = recipe_file.load_recipe(folder / run_folder.RECIPE, sets, _settings(shorthands or {}))
    identity.refuse_changes(before, recipe)
    if moved := identity.moved(before, recipe):
        recipe = sources.pinned(recipe, screen.say)
    with run_folder.held(folder):
        finished = loop.finished_steps(folder)
        if finished is not None and recipe.train.steps <= finished:
            _stay_finished(folder, finished, replace(recipe, train=before.train), moved, screen)
            return
        _refuse_unready(folder, recipe, moved)
        if recipe.train.steps != before.train.steps and recipe.train.schedule == "cosine":
            screen.say(
                f"WARNING  the steps before were taken on a cosine of {before.train.steps:,} steps, not of this length"
            )
        ready = setup.load(recipe, screen, _memory_check(recipe, force, screen), folder)
        if (
            checkpoint.newest(folder) is None
        ):  # it starts from step 0, maybe after a kill before its pictures were noted
            ledger.write(folder, ready.data)
        _train(ready, folder, screen)


def _stay_finished(folder: Path, steps: int, recipe: Recipe, moved: Sequence[str], screen: Screen) -> None:
    """Nothing to train; what moved is recognised, and the folder's recipe says where it is."""
    if moved:
        sources.refuse_others(folder, recipe, moved, screen)
        run_folder.keep_recipe(folder, recipe)
    what = f"nothing changed but {', '.join(moved)}" if moved else "nothing changed"
    screen.say(
        f"{folder}: finished at step {steps}, {what}. "
        f"To train longer: {run_folder.resume_command(folder)} --set train.steps={2 * steps}"
    )


def _refuse_unready(folder: Path, recipe: Recipe, moved: Sequence[str]) -> None:
    """What is seen before anything loads: files that are gone, a damaged checkpoint, none to compare with."""
    needed = [key for key in identity.PLACES if key != "teacher.path" or needs_teacher(recipe)]
    trained.refuse_missing(folder, recipe, *needed, here=True)
    if (newest := checkpoint.newest(folder)) is not None:
        checkpoint.verified_state(newest)
    elif moved:
        raise Refusal(
            f"{folder}: stopped before its first checkpoint, so nothing says whether what is at the new place is "
            "what it began with: start a new run"
        )


def dry_run(recipe: Recipe, output: Path | None, *, force: bool = False) -> None:
    """Everything up to the first update, and what the whole run would take. Writes nothing."""
    if output:
        run_folder.refuse_used(output)
    screen = Screen()
    setup.refuse_contradictions(recipe)  # before anything is downloaded
    recipe = sources.pinned(recipe, screen.say)
    screen.say(recipe_file.dump(recipe))
    with tempfile.TemporaryDirectory() as place:
        _dry_run(earlier_run.taken_over(recipe, Path(place), screen.say), screen, force)
    screen.say("dry run  nothing was trained or written")


def _dry_run(recipe: Recipe, screen: Screen, force: bool) -> None:
    ready = setup.load(recipe, screen, _memory_check(recipe, force, screen))
    per_step = recipe.rollout.prompts_per_step * recipe.rollout.completions_per_prompt
    count = math.ceil(recipe.train.microbatch_size / recipe.rollout.completions_per_prompt)
    count = min(count, recipe.rollout.prompts_per_step, len(ready.data.train))
    prompts = [ready.prompt(row) for row in range(count)]
    for _ in range(2):  # the first warms up
        begin = time.perf_counter()
        collected = collect_answers(ready.student, ready.teacher, prompts, recipe, between_measurements())
        sampled = time.perf_counter() - begin
        found = compute_gradients(
            ready.student, ready.teacher, collected, slice(None), recipe, between_measurements()
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


def _memory_check(recipe: Recipe, force: bool, screen: Screen) -> Callable[[Lengths, dict[str, Path]], None]:
    """What `setup.load` asks before it loads weights: does the run fit?"""

    def check(seen: Lengths, folders: dict[str, Path]) -> None:
        student, teacher = (
            read_size(str(folders[role]), f"--{role}") if role in folders else None
            for role in ("student", "teacher")
        )
        planned = plan_report.of_training(recipe, student, teacher, seen, backend())
        plan_report.check(planned, "the run", force, screen.say)

    return check


def held_out_prompts(run: Path, recipe: Recipe, count: int) -> list[Prompt]:
    """The first held-out rows of a run, whose recipe this is, as prompts. Raises `Refusal`."""
    processor = load_processor(find_folder(recipe.student.path, "--student"), "--student")
    examples = first_held_out(recipe, processor, count, Screen(), [run])
    return [setup.render_prompt(processor, example, recipe) for example in examples]


def prompts_to_prove_on(run: Path, recipe: Recipe, data: str | None, count: int) -> tuple[list[Prompt], str]:
    """Held-out rows of a run as prompts, and what they are; the first rows of `data` where it is not a copy of the
    run's own data. Raises `Refusal`."""
    trained.refuse_missing(run, recipe, "student.path")
    if data is None:
        trained.refuse_missing(run, recipe, "data.source", "data.held_out", here=True)
        return held_out_prompts(run, recipe, count), "held-out prompts"
    own = sources.own_held_out(run, recipe, data, Screen())
    processor = load_processor(find_folder(recipe.student.path, "student.path"), "student.path")
    examples = own or evaluation_report.all_rows(processor, recipe, data, count, Screen())
    prompts = [setup.render_prompt(processor, example, recipe) for example in examples[:count]]
    return prompts, "held-out prompts" if own else f"prompts of {Path(data).name}"


def _train(ready: setup.Ready, folder: Path, screen: Screen) -> None:
    try:
        outcome = loop.run(ready, folder, screen)
    except Changed as refusal:
        raise Refusal(f"{refusal}, then go on with: {run_folder.resume_command(folder)}") from refusal
    except KeyboardInterrupt:
        lost = (
            "What came after the last checkpoint is lost"
            if checkpoint.newest(folder)
            else "No step is saved yet"
        )
        advice = f"{lost}; go on with: {run_folder.resume_command(folder)}"
        raise loop.Interrupted(advice) from None
    _tell(outcome, folder, ready, screen)


def _write_skipped(ready: setup.Ready, folder: Path) -> None:
    for bad in ready.data.skipped:
        run_folder.append(folder / run_folder.SKIPPED, {"where": bad.where, "reason": bad.reason})


def _tell(outcome: loop.Outcome, folder: Path, ready: setup.Ready, screen: Screen) -> None:
    screen.say("")
    screen.say(f"before   {accuracy_line(outcome.before)}")
    screen.say(f"after    {accuracy_line(outcome.after)}")
    best = trained.read_json(folder / run_folder.RESULT)["best"]
    if best["step"] not in (0, ready.recipe.train.steps):
        screen.say(f"best     accuracy {best['accuracy']:.3f} at step {best['step']}: --checkpoint best")
    screen.say(f"took     {outcome.seconds:.0f} s; everything is in {folder}")
    name, fused, final = (
        shlex.quote(str(each)) for each in (folder, f"{folder}-fused", folder / run_folder.FINAL)
    )
    screen.say(f"next     vgs-mlx report {name}   (all of this on one page, with coloured answers)")
    screen.say(f"         vgs-mlx evaluate {name} --no-image   (what a guess without the picture scores)")
    screen.say(f"         vgs-mlx export {name} --output {fused}   (a model that stock mlx-vlm runs)")
    settings = ready.recipe.student
    if settings.train != "full" and not settings.train_vision:
        base = shlex.quote(str(ready.student.folder) if settings.path.startswith(EMBEDDED) else settings.path)
        base = base.replace("@", " --revision ") if hub_names.parse(settings.path) else base
        screen.say(
            f"         python -m mlx_vlm.generate --model {base} --adapter-path {final} "
            "--image PICTURE --prompt QUESTION"
        )
