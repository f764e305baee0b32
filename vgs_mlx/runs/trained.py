"""The model that a run trained: which weights of its folder, and how they are loaded into the student."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vgs_mlx.errors import Refusal
from vgs_mlx.formats import texts
from vgs_mlx.models import adapters
from vgs_mlx.models.base import LoadedModel
from vgs_mlx.models.loading import load_model
from vgs_mlx.models.precision import compute, not_finite
from vgs_mlx.recipe import file as recipe_file
from vgs_mlx.recipe.options import Recipe
from vgs_mlx.recipe.paths import path_of
from vgs_mlx.runs import checkpoint
from vgs_mlx.runs import folder as run_folder
from vgs_mlx.runs.folder import FINAL, RECIPE, RESULT
from vgs_mlx.runs.identity import PLACES, Identity, differences, of_model
from vgs_mlx.runs.records import PUT_BACK, read_object


@dataclass(frozen=True)
class TrainedWeights:
    """The weights of a run."""

    recipe: Recipe
    weights: Path  # the folder of the weights
    origin: str  # for readers: which run, and which of its weights
    step: int | None  # steps of training; None where the run doesn't say


def find(run: Path, which: str | None = None) -> TrainedWeights:
    """A run's weights: `final`, `newest`, `best` (by its evaluations) or the number of a step. Raises `Refusal`.

    None means the final ones or, until the run has finished, those of its newest checkpoint.
    """
    if not (run / RECIPE).is_file():
        raise Refusal(
            f"{run}: not a run folder (no {RECIPE} in it): give the --output of a `vgs-mlx distill`"
        )
    recipe, there = recipe_file.load_recipe(run / RECIPE), checkpoints(run)
    newest, ended = max(there, default=0), read_object(run / RESULT).get("steps")
    # weights older than the newest checkpoint: the run was finished, then resumed
    finished = (run / FINAL).is_dir() and newest <= (newest if ended is None else ended)
    if which == "final" or (which is None and finished):
        if not (run / FINAL).is_dir():
            raise _not_there(run, "no final weights, it has not finished")
        return TrainedWeights(
            recipe, run / FINAL, f"{run.name}, {'a finished run' if finished else 'final'}", ended
        )
    if which is None and not there:
        raise Refusal(f"{run}: nothing trained yet, it stopped before its first checkpoint: resume it first")
    step, origin = _step(run, which, newest)
    if step not in there:
        raise _not_there(run, f"no checkpoint of step {step}")
    checkpoint.verified_state(there[step])
    if which is None:
        origin = "the newest checkpoint of a run that has not finished"
    return TrainedWeights(recipe, there[step], f"{run.name}, step {step}{origin and f': {origin}'}", step)


def checkpoints(run: Path) -> dict[int, Path]:
    """The checkpoints of a run by their step."""
    return {checkpoint.step_of(each): each for each in checkpoint.all_of(run)}


def best_step(run: Path) -> int | None:
    """The step with the highest accuracy so far, 0 being the untrained student; None where nothing says so."""
    best = run_folder.best_evaluation(run)  # a checkpoint is older than the evaluation of its step
    return None if best is None else best["step"]


def _step(run: Path, which: str | None, newest: int) -> tuple[int, str]:
    """The step that `which` names, and what it is. Raises `Refusal`."""
    if which in (None, "newest"):
        return newest, "the newest checkpoint"
    if which.isdecimal():
        return int(which), ""
    if which != "best":
        raise Refusal(
            f"{run}: no weights are called {which!r}: give final, newest, best or the number of a step"
        )
    best = best_step(run)
    if best is None:
        raise _not_there(run, "nothing has been evaluated yet, so no checkpoint is the best")
    if best == 0:
        raise _not_there(run, "no step that was evaluated is better than the untrained student")
    return best, "the best of its evaluations"


def _not_there(run: Path, what: str) -> Refusal:
    """A refusal of weights that are not there; it lists those that are."""
    there = [str(step) for step in checkpoints(run)]
    there += ["final"] if (run / FINAL).is_dir() else []
    fix = f"give one that is there: {', '.join(there)}" if there else "resume it first"
    return Refusal(f"{run}: {what}: {fix}")


def refuse_missing(run: Path, recipe: Recipe, *keys: str, here: bool = False) -> None:
    """The files and folders that these keys of a run's recipe name (see PLACES) must exist. Raises `Refusal`.

    `here`: the current command takes the option that gives their new place.
    """
    for key in keys:
        place = recipe_file.flat(recipe)[key]
        # what was there when the run began has an absolute path; a split or configuration may follow
        gone = isinstance(place, str) and place.startswith("/") and not Path(path_of(place)).exists()
        if gone or (key == "student.path" and place == run_folder.STUDENT):  # in the run's own folder
            option = PLACES[key] if here else f"{run_folder.resume_command(run)} {PLACES[key]}"
            raise Refusal(f"{place}: no longer there, and {run} needs it: give its new place with {option}")


def load(
    run: Path, source: TrainedWeights, say: Callable[[str], None] = print, *, lazy: bool = False
) -> LoadedModel:
    """The trained student: as `load_model` gives it, its adapters beside its layers. Raises `Refusal`."""
    refuse_missing(run, source.recipe, "student.path")
    student = load_model(source.recipe.student.path, "student.path", lazy=lazy, say=say)
    adapters.prepare(student, source.recipe.student, source.recipe.seed, lazy=lazy)
    put(run, source, student, lazy=lazy)
    return student


def put(run: Path, source: TrainedWeights, student: LoadedModel, *, lazy: bool = False) -> None:
    """Load the trained weights into a student that is prepared as the run's recipe says. Raises `Refusal`."""
    _refuse_another_student(run, student)
    try:
        adapters.load_weights(student.module, source.weights)
        if not lazy:
            compute(student.module)
            if name := not_finite(adapters.trainable_weights(student.module)):
                raise Refusal(f"{source.weights}: {name} holds a number that isn't finite: {adapters.RESUME}")
    except RuntimeError as error:  # MLX raises this for a file that it can't read
        raise Refusal(
            f"{source.weights}: damaged: {texts.one_line(error)}: delete it and resume the run"
        ) from error
    student.module.eval()


def kept_identity(run: Path) -> Identity:
    """The identity in a run's newest checkpoint and its result; {} where it has neither.

    Raises `Refusal`.
    """
    newest = checkpoint.newest(run)
    state = read_object(newest / checkpoint.STATE_FILE) if newest else {}
    identities = [each.get("identity") or {} for each in (state, read_object(run / RESULT))]
    if not all(isinstance(each, dict) for each in identities):
        raise Refusal(f"{run}: its fingerprints are damaged ({RESULT}, or {newest}): {PUT_BACK}")
    return identities[0] | identities[1]


def _refuse_another_student(run: Path, student: LoadedModel) -> None:
    if changed := differences(kept_identity(run), of_model("student", student.folder)):
        raise Refusal(
            f"{student.folder}: not the model that {run} trained: {changed} changed since: put it back"
        )


def base_of(path: str) -> str:
    """The model that all training of the model at `path` began with, which may be an earlier run's."""
    found = read_object(Path(path) / run_folder.ORIGIN).get("base", path)
    return found if isinstance(found, str) else path
