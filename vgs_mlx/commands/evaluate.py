"""What `vgs-mlx evaluate` does: find the model and the rows, let it answer, print a table and write JSON."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vgs_mlx.data import datasets
from vgs_mlx.data.datasets import DataSet
from vgs_mlx.device import backend
from vgs_mlx.errors import Refusal
from vgs_mlx.evaluation import evaluate, wrong_answers
from vgs_mlx.machine import disk
from vgs_mlx.models.base import LoadedModel
from vgs_mlx.models.loading import EMBEDDED, find_folder, load_model, load_processor, read_config
from vgs_mlx.planning import report as planning
from vgs_mlx.planning.commands import Answering
from vgs_mlx.planning.plan import Lengths, lengths
from vgs_mlx.planning.sizes import read_size
from vgs_mlx.recipe import file as recipe_file
from vgs_mlx.recipe.options import Recipe
from vgs_mlx.resources import quickstart
from vgs_mlx.rollout.sample import Sampling
from vgs_mlx.runs import folder as run_folder
from vgs_mlx.runs import ledger, sources, trained
from vgs_mlx.runs.identity import fingerprint
from vgs_mlx.runs.rows import first_held_out, load_data, longest, reading
from vgs_mlx.runs.screen import LIBRARIES, Screen
from vgs_mlx.runs.trained import Trained
from vgs_mlx.types import Example


def run(
    model: str,
    data: str | None,
    *,
    samples: int,
    temperature: float,
    with_image: bool,
    limit: int | None,
    recipe_given: Path | None,
    sets: Sequence[str],
    json_file: Path | None,
    checkpoint: str | None,
    force: bool = False,
    grading: bool = False,
) -> None:
    """See the command's help. Raises `Refusal`."""
    refuse_options(samples, temperature, json_file)
    screen = Screen()
    recipe = resolve(model, recipe_given, sets)
    run = Path(model) if is_run(model) else None
    if run and data is None:
        trained.refuse_missing(run, recipe, "data.source", "data.held_out", here=True)
    asked = locate(model, checkpoint, screen)
    with screen.working(LIBRARIES):
        processor = load_processor(asked.folder, "MODEL")
    own = sources.own_held_out(run, recipe, data, screen) if data and run else None
    examples = own[:limit] if own else _examples(processor, recipe, data, run, limit, screen)
    seen = longest(processor, DataSet((), tuple(examples)), recipe)
    check_memory(asked, recipe, seen, screen, samples=samples, temperature=temperature, force=force)
    loaded, _ = load(asked, screen)
    sampling = Sampling(recipe.rollout.max_completion_length, temperature)
    with screen.counting("evaluating") as count:
        count(0, len(examples))
        answers = evaluate.answer(
            loaded, examples, recipe.data, sampling, batch_size=recipe.rollout.batch_size, samples=samples,
            with_image=with_image, seed=recipe.seed, progress=lambda done: count(done, len(examples)),
        )  # fmt: skip
    found = {
        "model": model,
        **({"checkpoint": checkpoint} if checkpoint else {}),
        "data": data or recipe.data.source,
        "with_image": with_image,
        "temperature": temperature,
        **evaluate.summary(answers),
        **({"wrong": wrong_answers.wrong(answers)} if grading else {}),
    }
    _print(found, screen.console)
    if grading:
        wrong_answers.show(found["wrong"], screen.console)
    if json_file:
        run_folder.write_text(json_file, json.dumps(found, indent=2) + "\n")


def refuse_options(samples: int, temperature: float, json_file: Path | None) -> None:
    """Raises `Refusal` for options that can't work, before anything is loaded."""
    if not math.isfinite(temperature):
        raise Refusal(f"--temperature {temperature}: give a finite number, 0 or more")
    if samples > 1 and temperature == 0:
        raise Refusal("--samples needs a --temperature above 0: greedy answers are all the same")
    if json_file:
        disk.refuse_file("--json", json_file)


def refuse_checkpoint(model: str, checkpoint: str | None) -> None:
    """Only a run has several weights. Raises `Refusal`."""
    if checkpoint:
        raise Refusal(f"--checkpoint {checkpoint}: {model} is not a run folder: omit --checkpoint")


def is_run(model: str) -> bool:
    """Whether MODEL is a run folder."""
    return (Path(model) / run_folder.RECIPE).is_file()


def resolve(model: str, file: Path | None, sets: Sequence[str]) -> Recipe:
    """How the model is asked: as its run was, as `file` says, or (the embedded ones) as in the quickstart."""
    if is_run(model):
        if file:
            raise Refusal(
                f"--recipe {file}: {model} is a run and is asked as its own recipe says: leave it away"
            )
        file = Path(model) / run_folder.RECIPE
    return recipe_file.load_recipe(recipe_for(model, file), sets)


def recipe_for(model: str, file: Path | None) -> Path | None:
    """`file`, and where there is none what the embedded models are made for; None for the defaults."""
    return quickstart() if file is None and model.startswith(EMBEDDED) else file


@dataclass(frozen=True)
class Asked:
    """A model that is asked, its weights not yet read."""

    name: str  # as the user wrote it
    folder: Path  # of the model, or of the one that the run trained
    found: Trained | None  # the run's weights


def locate(model: str, checkpoint: str | None, screen: Screen) -> Asked:
    """The model that is asked, `checkpoint` of it if it is a run. Raises `Refusal`."""
    if not is_run(model):
        refuse_checkpoint(model, checkpoint)
        run, _, which = model.rpartition("@")
        if run and is_run(run):
            raise Refusal(f"{model}: write it as {run} --checkpoint {which}")
        folder = find_folder(model, "MODEL")
        read_config(folder, "MODEL")
        return Asked(model, folder, None)
    found = trained.find(Path(model), checkpoint)
    screen.say(f"model    {found.origin}")
    trained.refuse_missing(Path(model), found.recipe, "student.path")
    return Asked(model, find_folder(found.recipe.student.path, "student.path"), found)


def load(asked: Asked, screen: Screen) -> tuple[LoadedModel, str]:
    """The model itself, and what identifies its weights."""
    with screen.working("loading the model"):
        if asked.found is None:
            loaded = load_model(asked.name, "MODEL", say=screen.say)
            return loaded, fingerprint(loaded.folder)
        loaded = trained.load(Path(asked.name), asked.found, screen.say)
    return loaded, f"{fingerprint(loaded.folder)} {fingerprint(asked.found.weights)}"


def check_memory(
    asked: Asked,
    recipe: Recipe,
    seen: Lengths | None,
    screen: Screen,
    *,
    samples: int,
    temperature: float,
    force: bool,
) -> None:
    """Say what answering takes, before weights are read; `seen` None: prompts as long as the recipe allows.

    Raises `Refusal` where it doesn't fit, unless forced.
    """
    size = read_size(str(asked.folder), "MODEL")
    planned = planning.of_evaluation(
        recipe, size, seen or lengths(recipe, size), backend(), trained=asked.found is not None,
        answering=Answering(samples, temperature),
    )  # fmt: skip
    planning.check(planned, "the evaluation", force, screen.say)


def _examples(
    processor: Any, recipe: Recipe, data: str | None, run: Path | None, limit: int | None, screen: Screen
) -> Sequence[Example]:
    """The rows to ask, the first `limit` of them: a run's own held-out rows, or all of a source."""
    if data is None and run is not None:
        own = [run] if ledger.own_rows(run, recipe) else []
        if limit is None:
            return load_data(recipe, processor, screen, *own).held_out
        return first_held_out(recipe, processor, limit, screen, own)
    return all_rows(processor, recipe, data or recipe.data.source, limit, screen)


def all_rows(
    processor: Any, recipe: Recipe, source: str, limit: int | None, screen: Screen
) -> Sequence[Example]:
    """The usable rows of a source, the first `limit` of them, read as the recipe says."""
    with screen.counting("checking rows") as progress:
        how = reading(processor, recipe.data, progress)
        return datasets.load_held_out(source, how, limit).held_out


def _print(found: dict[str, Any], console: Console) -> None:
    drawn = f"mean of {found['samples']} samples at temperature {found['temperature']:g}"
    how = drawn if found["temperature"] else "greedy (Acc@1)"
    view = "with the picture" if found["with_image"] else "without the picture"
    console.print(f"{found['model']} on {found['data']}, {how}, {view}", markup=False, soft_wrap=True)
    table = Table(box=None)
    for heading in ("kind", "prompts", "accuracy", "95 % interval"):
        table.add_column(heading, justify="left" if heading == "kind" else "right")
    for kind, each in [*found["by_kind"].items(), ("all", found)]:
        interval = f"{each['low']:.3f}-{each['high']:.3f}"
        table.add_row(Text(kind or "-"), f"{each['prompts']:,}", f"{each['accuracy']:.3f}", interval)
    console.print(table)
    scene = f"; scene F1 {found['scene_f1']:.3f}" if "scene_f1" in found else ""
    console.print(
        f"mean length {found['completion_length']:.1f} tokens; {found['cut_off_share']:.1%} cut off{scene}",
        markup=False,
    )
