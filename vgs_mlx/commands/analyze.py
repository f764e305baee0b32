"""What `vgs-mlx analyze` does: load a run or a model with its teacher, measure the geometry, write it down."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
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
from vgs_mlx.recipe.options import Recipe, resolve_name
from vgs_mlx.runs import folder as run_folder
from vgs_mlx.runs import recipes, trained
from vgs_mlx.runs.identity import PLACES
from vgs_mlx.runs.named_model import recipe_for, refuse_checkpoint
from vgs_mlx.runs.screen import Screen
from vgs_mlx.train.setup import Ready, load

Check = Callable[[Recipe, Lengths, dict[str, Path]], None]  # does it fit? Asked before weights load


def run(
    model: str,
    *,
    teacher: str | None,
    recipe: Path | None,
    sets: Sequence[str],
    checkpoint: str | None,
    prompts: int,
    batches: int,
    bins: int,
    output: Path | None,
    force: bool = False,
) -> None:
    """See the command's help. Raises `Refusal`."""
    screen = Screen()
    is_run = (Path(model) / run_folder.RECIPE).is_file()
    folder = _folder(model, is_run, output)
    if not is_run:
        refuse_checkpoint(model, checkpoint)
    check = partial(_check_memory, prompts, force, screen)
    ready = (
        _run(Path(model), checkpoint, recipe, teacher, sets, screen, check)
        if is_run
        else _model(model, recipe, teacher, sets, screen, check)
    )
    rows = ready.data.held_out[: prompts * batches]
    if len(rows) < batches:
        raise Refusal(f"--batches {batches}: the data set has {len(rows)} held-out rows: give fewer batches")
    with screen.working("preparing the prompts"):
        asked = [ready.render(example) for example in rows]
    split = [asked[number::batches] for number in range(batches)]
    with screen.counting("measuring") as count:
        count(0, batches)
        found = geometry.measure(
            ready.student, ready.teacher, split, ready.recipe, bins, lambda done: count(done, batches)
        )
    found = {"model": model, "prompts": len(rows), **found}
    folder.mkdir(parents=True, exist_ok=True)
    run_folder.write_text(folder / geometry.FILE, json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    with screen.working("drawing"):
        figures = geometry_figures.draw(found, folder)
    _print(found, screen.console)
    screen.say(f"written  {folder / geometry.FILE} and {', '.join(path.name for path in figures)}")


def _folder(model: str, is_run: bool, output: Path | None) -> Path:
    if output is None and not is_run:
        raise Refusal(f"{model}: is no run folder; if it is a model, say where the result goes: --output DIR")
    folder = output or Path(model)
    if folder.exists() and not folder.is_dir():
        raise Refusal(f"--output {folder}: a file: give a folder")
    return folder


def _run(
    run: Path,
    checkpoint: str | None,
    recipe: Path | None,
    teacher: str | None,
    sets: Sequence[str],
    screen: Screen,
    check: Check,
) -> Ready:
    """The run's student as it was trained, its own teacher and held-out rows."""
    found = trained.find(run, checkpoint)
    own = found.recipe.teacher.path
    if recipe or sets or (teacher and own):
        raise Refusal(
            f"{run}: a run brings its own recipe and teacher: leave --recipe, --teacher and --set away"
        )
    if not (teacher or own):
        raise Refusal(f"{run}: this run had no teacher: say which one to compare with: --teacher")
    trained.refuse_missing(run, found.recipe, *PLACES)
    screen.say(f"model    {found.origin}")
    asked = replace(
        found.recipe, teacher=replace(found.recipe.teacher, path=own or resolve_name(teacher, Path()))
    )
    ready = load(_comparable(asked), screen, partial(check, _comparable(asked)), run)
    with screen.working("loading what was trained"):
        trained.put(run, found, ready.student)
    return ready


def _model(
    model: str,
    recipe: Path | None,
    teacher: str | None,
    sets: Sequence[str],
    screen: Screen,
    check: Check,
) -> Ready:
    shorthands = {"student": model, **({"teacher": teacher} if teacher else {})}
    resolved, _ = recipes.resolve(recipe_for(model, recipe), shorthands, sets)
    return load(_comparable(resolved), screen, partial(check, _comparable(resolved)))


def _check_memory(
    prompts: int, force: bool, screen: Screen, recipe: Recipe, seen: Lengths, folders: Mapping[str, Path]
) -> None:
    """Before any weight is read: both models, and the gradients of one bin of a batch's tokens."""
    student, teacher = (read_size(str(folders[role]), f"--{role}") for role in ("student", "teacher"))
    planned = planning.of_analysis(recipe, student, teacher, seen, backend(), prompts=prompts)
    otherwise = "give fewer --prompts, or --force to try anyway"
    planning.check(planned, "the analysis", force, screen.say, otherwise)


def _comparable(recipe: Recipe) -> Recipe:
    """The recipe with an objective that needs both views of both models; all else stays."""
    objective = replace(recipe.objective, name="vgs", mix=0.0)
    rollout = replace(recipe.rollout, temperature=1.0, top_p=1.0)
    return replace(recipe, objective=objective, rollout=rollout)


def _print(found: Mapping[str, Any], console: Console) -> None:
    table = Table(
        box=None, title=f"angles in degrees, mean ± sd over {found['batches']} batches", title_justify="left"
    )
    for heading in ("bin", "VDS, nats", "tokens", "lang^vis", "std^vis", "std^lang", "frequent"):
        table.add_column(heading, justify="left" if heading == "frequent" else "right")
    for each in found["bins"]:
        scores = "-" if each["vds_low"] is None else f"{each['vds_low']:z.3f}-{each['vds_high']:z.3f}"
        words = " ".join(text.strip() for text, _ in each["frequent"][:6])
        angles = [_angle(each[name]) for name in geometry.PAIRS]
        table.add_row(str(each["bin"]), scores, f"{each['tokens']:,}", *angles, words)
    console.print(table, markup=False)


def _angle(value: Mapping[str, float | None]) -> str:
    if value["mean"] is None:
        return "-"
    return f"{value['mean']:.0f}" + (f" ± {value['sd']:.0f}" if value["sd"] is not None else "")
