"""The MODEL of a command: a run folder, a local model folder or a Hub id, and the recipe that it is asked with."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vgs_mlx.errors import Refusal
from vgs_mlx.models.base import LoadedModel
from vgs_mlx.models.loading import EMBEDDED, find_folder, load_model, read_config
from vgs_mlx.recipe import file as recipe_file
from vgs_mlx.recipe.options import Recipe
from vgs_mlx.resources import quickstart
from vgs_mlx.runs import trained
from vgs_mlx.runs.folder import RECIPE
from vgs_mlx.runs.identity import fingerprint
from vgs_mlx.runs.screen import Screen
from vgs_mlx.runs.trained import TrainedWeights


@dataclass(frozen=True)
class NamedModel:
    """A model that the user named; its weights are not read yet."""

    name: str  # as the user wrote it
    folder: Path  # of the model; where a run is named, of the model that the run trained
    trained: TrainedWeights | None  # the run's weights; None where no run is named


def is_run(model: str) -> bool:
    """Whether MODEL is a run folder."""
    return (Path(model) / RECIPE).is_file()


def recipe_of(model: str, file: Path | None, sets: Sequence[str]) -> Recipe:
    """The recipe that a model is asked with: a run's own, or `file`, or the default. Raises `Refusal`."""
    if is_run(model):
        if file:
            raise Refusal(
                f"--recipe {file}: {model} is a run and is asked with its own recipe: omit --recipe"
            )
        file = Path(model) / RECIPE
    return recipe_file.load_recipe(recipe_for(model, file), sets)


def recipe_for(model: str, file: Path | None) -> Path | None:
    """`file`; where it is None, the quickstart for the embedded models, and None (the defaults) for all others."""
    return quickstart() if file is None and model.startswith(EMBEDDED) else file


def refuse_checkpoint(model: str, checkpoint: str | None) -> None:
    """Only a run has several weights to choose from. Raises `Refusal`."""
    if checkpoint:
        raise Refusal(f"--checkpoint {checkpoint}: {model} is not a run folder: omit --checkpoint")


def locate(model: str, checkpoint: str | None, screen: Screen) -> NamedModel:
    """Find a model; of a run, the weights that `checkpoint` names (see `trained.find`). Raises `Refusal`."""
    if not is_run(model):
        refuse_checkpoint(model, checkpoint)
        run, _, which = model.rpartition("@")
        if run and is_run(run):
            raise Refusal(f"{model}: write it as {run} --checkpoint {which}")
        folder = find_folder(model, "MODEL")
        read_config(folder, "MODEL")
        return NamedModel(model, folder, None)
    source = trained.find(Path(model), checkpoint)
    screen.say(f"model    {source.origin}")
    trained.refuse_missing(Path(model), source.recipe, "student.path")
    return NamedModel(model, find_folder(source.recipe.student.path, "student.path"), source)


def load(model: NamedModel, screen: Screen) -> tuple[LoadedModel, str]:
    """Load the weights. Returns the model and a fingerprint of its weights. Raises `Refusal`."""
    with screen.working("loading the model"):
        if model.trained is None:
            loaded = load_model(model.name, "MODEL", say=screen.say)
            return loaded, fingerprint(loaded.folder)
        loaded = trained.load(Path(model.name), model.trained, screen.say)
    return loaded, f"{fingerprint(loaded.folder)} {fingerprint(model.trained.weights)}"
