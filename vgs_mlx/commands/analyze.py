"""What `vgs-mlx analyze` does: load a run or a model with its teacher, measure the geometry, write it to files."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from vgs_mlx.analysis import figures as geometry_figures
from vgs_mlx.analysis import geometry
from vgs_mlx.device import backend
from vgs_mlx.errors import Refusal
from vgs_mlx.planning import report as planning
from vgs_mlx.planning.plan import Lengths
from vgs_mlx.planning.sizes import read_size
from vgs_mlx.recipe.options import Recipe
from vgs_mlx.recipe.paths import resolve_name
from vgs_mlx.runs import folder as run_folder
from vgs_mlx.runs import recipes, trained
from vgs_mlx.runs.identity import PLACES
from vgs_mlx.runs.named_model import recipe_for, refuse_checkpoint
from vgs_mlx.runs.screen import Screen
from vgs_mlx.train.setup import Ready, load
from vgs_mlx.types import Example

Check = Callable[[Recipe, Lengths, dict[str, Path]], None]  # refuses what does not fit, before weights load


@dataclass(frozen=True)
class Asked:
    """The command's arguments and options: see its help."""

    model: str
    teacher: str | None
    recipe: Path | None
    sets: Sequence[str]
    checkpoint: str | None
    prompts: int  # of a batch
    batches: int
    bins: int
    output: Path | None
    force: bool = False

    @property
    def is_run(self) -> bool:
        """Whether the model is a run folder."""
        return (Path(self.model) / run_folder.RECIPE).is_file()


def run(asked: Asked) -> None:
    """Measure, write geometry.json and the figures, print the angles. Raises `Refusal`."""
    screen = Screen()
    folder = _folder(asked)
    check = partial(_check_memory, asked, screen)
    ready = _run(asked, screen, check) if asked.is_run else _model(asked, screen, check)
    rows = ready.data.held_out[: asked.prompts * asked.batches]
    geometry_found = {"model": asked.model, "prompts": len(rows), **_measured(asked, ready, rows, screen)}
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(geometry_found, indent=2, ensure_ascii=False)
    run_folder.write_text(folder / geometry.FILE, text + "\n")
    with screen.working("drawing"):
        figures = geometry_figures.draw(geometry_found, folder)
    _print(geometry_found, screen.console)
    screen.say(f"written  {folder / geometry.FILE} and {', '.join(path.name for path in figures)}")


def _folder(asked: Asked) -> Path:
    """Where the result goes."""
    if asked.output is None and not asked.is_run:
        raise Refusal(
            f"{asked.model}: is not a run folder; if it is a model, say where the result goes: --output DIR"
        )
    folder = asked.output or Path(asked.model)
    if folder.exists() and not folder.is_dir():
        raise Refusal(f"--output {folder}: is a file: give a folder")
    return folder


def _measured(asked: Asked, ready: Ready, rows: Sequence[Example], screen: Screen) -> dict[str, Any]:
    batches = asked.batches
    if len(rows) < batches:
        raise Refusal(f"--batches {batches}: the data set has {len(rows)} held-out rows: give fewer batches")
    with screen.working("preparing the prompts"):
        prompts = [ready.render(example) for example in rows]
    split = [prompts[number::batches] for number in range(batches)]
    with screen.counting("measuring") as count:
        count(0, batches)
        return geometry.measure(
            ready.student, ready.teacher, split, ready.recipe, asked.bins, lambda done: count(done, batches)
        )


def _run(asked: Asked, screen: Screen, check: Check) -> Ready:
    """The run's student as it was trained, its own teacher and held-out rows."""
    run = Path(asked.model)
    weights = trained.find(run, asked.checkpoint)
    own = weights.recipe.teacher.path
    if asked.recipe or asked.sets or (asked.teacher and own):
        raise Refusal(f"{run}: a run brings its own recipe and teacher: omit --recipe, --teacher and --set")
    if not (asked.teacher or own):
        raise Refusal(f"{run}: this run had no teacher: say which one to compare with: --teacher")
    trained.refuse_missing(run, weights.recipe, *PLACES)
    screen.say(f"model    {weights.origin}")
    teacher = replace(weights.recipe.teacher, path=own or resolve_name(asked.teacher, Path()))
    recipe = _comparable(replace(weights.recipe, teacher=teacher))
    ready = load(recipe, screen, partial(check, recipe), run)
    with screen.working("loading the trained weights"):
        trained.put(run, weights, ready.student)
    return ready


def _model(asked: Asked, screen: Screen, check: Check) -> Ready:
    """A model as it is, with the teacher and the recipe that the options name."""
    refuse_checkpoint(asked.model, asked.checkpoint)
    shorthands = {"student": asked.model, **({"teacher": asked.teacher} if asked.teacher else {})}
    resolved, _ = recipes.resolve(recipe_for(asked.model, asked.recipe), shorthands, asked.sets)
    recipe = _comparable(resolved)
    return load(recipe, screen, partial(check, recipe))


def _check_memory(
    asked: Asked, screen: Screen, recipe: Recipe, seen: Lengths, folders: Mapping[str, Path]
) -> None:
    """Before any weight is read. Needed: both models, and the gradients of one bin of a batch's tokens."""
    student, teacher = (read_size(str(folders[role]), f"--{role}") for role in ("student", "teacher"))
    planned = planning.of_analysis(recipe, student, teacher, seen, backend(), prompts=asked.prompts)
    otherwise = "give fewer --prompts, or --force to try anyway"
    planning.check(planned, "the analysis", asked.force, screen.say, otherwise)


def _comparable(recipe: Recipe) -> Recipe:
    """The recipe with an objective that needs both views of both models, and untruncated sampling at temperature 1."""
    objective = replace(recipe.objective, name="vgs", mix=0.0)
    rollout = replace(recipe.rollout, temperature=1.0, top_p=1.0)
    return replace(recipe, objective=objective, rollout=rollout)


def _print(measured: Mapping[str, Any], console: Console) -> None:
    table = Table(
        box=None,
        title=f"angles in degrees, mean ± sd over {measured['batches']} batches",
        title_justify="left",
    )
    for heading in ("bin", "VDS, nats", "tokens", "lang^vis", "std^vis", "std^lang", "frequent"):
        table.add_column(heading, justify="left" if heading == "frequent" else "right")
    for each in measured["bins"]:
        scores = "-" if each["vds_low"] is None else f"{each['vds_low']:z.3f}-{each['vds_high']:z.3f}"
        words = " ".join(text.strip() for text, _ in each["frequent"][:6])
        angles = [_angle(each[name]) for name in geometry.PAIRS]
        table.add_row(str(each["bin"]), scores, f"{each['tokens']:,}", *angles, words)
    console.print(table, markup=False)


def _angle(value: Mapping[str, float | None]) -> str:
    if value["mean"] is None:
        return "-"
    return f"{value['mean']:.0f}" + (f" ± {value['sd']:.0f}" if value["sd"] is not None else "")
