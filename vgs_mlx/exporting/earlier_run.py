"""A student that an earlier run trained: its model is written into the new run, which then doesn't need that run."""

import json
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx

from vgs_mlx.exporting.model import write_model
from vgs_mlx.planning.plan import changed
from vgs_mlx.recipe.options import Recipe
from vgs_mlx.runs import folder as run_folder
from vgs_mlx.runs import trained
from vgs_mlx.runs.identity import fingerprint
from vgs_mlx.runs.named import named


def taken_over(recipe: Recipe, folder: Path, say: Callable[[str], None]) -> Recipe:
    """The recipe, its student replaced by the earlier run's model in `folder` where it names a run. Raises `Refusal`.

    The earlier training is fused into the model that it began with. Layers that it changed are float32 from then on:
    in fewer bits a small update would be rounded off before the new training adds to it.
    """
    if (earlier := named(recipe.student.path)) is None:
        return recipe
    run, which = earlier
    source = trained.find(run, which)
    place = folder.absolute() / run_folder.STUDENT
    origin = {
        "base": trained.base_of(source.recipe.student.path),
        "run": run.resolve().name,
        "weights": source.origin,
        "fingerprint": fingerprint(source.weights),
    }
    with run_folder.whole_folder(place) as unfinished:
        unfinished.mkdir()
        write_model(lambda: trained.load(run, source, say), mx.float32, None, unfinished)
        run_folder.write_text(unfinished / run_folder.ORIGIN, json.dumps(origin, indent=2) + "\n")
    size = sum(file.stat().st_size for file in place.iterdir()) / 1e9
    say(f"student  from {source.origin}: written to {place} ({size:.2f} GB), its trained layers as float32")
    return changed(recipe, "student.path", str(place))


def planned_as_base(recipe: Recipe, say: Callable[[str], None]) -> Recipe:
    """The recipe to plan with: an earlier run's student is as large as the model it began with. Raises `Refusal`."""
    if (earlier := named(recipe.student.path)) is None:
        return recipe
    base = trained.find(*earlier).recipe.student.path
    say(
        f"{recipe.student.path}: planned as {base}; layers trained before are float32, which takes more on a GPU"
    )
    return changed(recipe, "student.path", base)
