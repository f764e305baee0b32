"""What `vgs-mlx report` does: read a folder, draw, let the models answer, write one HTML file."""

import base64
import hashlib
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from vgs_mlx.ablation.grid_file import GRID
from vgs_mlx.errors import Refusal
from vgs_mlx.figures import palette
from vgs_mlx.recipe import file as recipe_file
from vgs_mlx.report import ablation, curves, geometry, setting, tokens, wording
from vgs_mlx.report.ablation import Ablation
from vgs_mlx.report.costs import costs
from vgs_mlx.report.examples import AFTER, Examples, collect
from vgs_mlx.report.figures import smoothing
from vgs_mlx.report.headline import headline
from vgs_mlx.report.record import Record, read
from vgs_mlx.runs import folder as run_folder
from vgs_mlx.runs import forms, trained
from vgs_mlx.runs.screen import Screen

HERE = Path(__file__).parent
DEFAULT_NAME = "report.html"
SUFFIXES = (".html", ".htm")
EXAMPLE = '<article class="example"'  # how an example begins in a page: parts.html


def write(
    folder: Path,
    output: Path | None,
    *,
    examples: int,
    checkpoint: str | None = None,
    force: bool = False,
    screen: Screen | None = None,
) -> Path:
    """The page about a run; `examples` held-out rows are answered by the models (0: none are loaded).

    `checkpoint` says which of a run's weights answer: see `trained.find`.

    Raises `Refusal` for a folder that is no run, an output that can't be one, or one whose examples would be lost.
    """
    screen = screen or Screen()
    if not folder.is_dir():
        raise Refusal(
            f"{folder}: no such folder: give the --output of a `vgs-mlx distill` or a `vgs-mlx ablate`"
        )
    output = output or folder / DEFAULT_NAME
    refuse_output(output)
    working = "drawing, and letting the models answer" if examples else "drawing"
    if (folder / run_folder.RECIPE).is_file():
        if checkpoint:
            trained.find(folder, checkpoint)  # else a note in the page would be all that is said
        with screen.working(working):
            page = _run_page(folder, checkpoint, examples, force, screen)
    elif ablation.is_ablation(folder):
        if checkpoint:
            raise Refusal(f"--checkpoint {checkpoint}: {folder} is an ablation: give one of its run folders")
        with screen.working(working):
            page = _ablation_page(folder, examples, force, screen)
    else:
        raise Refusal(
            f"{folder}: neither a run (no {run_folder.RECIPE} in it) nor an ablation (no {GRID}): "
            "give the --output of a `vgs-mlx distill` or a `vgs-mlx ablate`"
        )
    refuse_loss(output, page)
    write_page(output, page)
    screen.say(f"report   {output}")
    return output


def refuse_output(output: Path) -> None:
    """The page never takes the place of another kind of file. Raises `Refusal`."""
    if output.suffix.lower() not in SUFFIXES:
        raise Refusal(f"--output {output}: a page's name ends in {SUFFIXES[0]}")
    if output.is_dir() or not output.absolute().parent.is_dir():
        raise Refusal(f"--output {output}: give a file in a folder that exists")


def refuse_loss(output: Path, page: str) -> None:
    """Answers take the models long: a page without any never takes the place of one with them. Raises `Refusal`."""
    if output.is_file() and EXAMPLE not in page and EXAMPLE in output.read_text("utf-8", errors="replace"):
        raise Refusal(
            f"{output}: shows answers of the models, and the new page has none: give another file with --output, "
            "or remove this one"
        )


def write_page(output: Path, page: str) -> None:
    """Write it whole or not at all. Raises `Refusal`."""
    try:
        run_folder.write_text(output, page)
    except OSError as error:
        raise Refusal(f"--output {output}: can't be written ({error.strerror}): give another file") from error


def _run_page(folder: Path, checkpoint: str | None, count: int, force: bool, screen: Screen) -> str:
    record = read(folder)
    return render_run(record, _answered([(AFTER, folder)], record, count, force, screen, checkpoint))


def _ablation_page(folder: Path, count: int, force: bool, screen: Screen) -> str:
    found, record, note = ablation.read(folder), None, "the folders of the runs are not there."
    runs, others = [], []
    try:
        runs, others = ablation.runs(folder)
        record = read(runs[0][1]) if runs else None  # of the baseline, where its folder is still there
    except Refusal as problem:  # of another version, say: the summary stands without it
        note = str(problem)
    named = [(f"Student after {name} ({run.name.replace('-', ' ')})", run) for name, run in runs]
    left_out = Examples((), (f"The answers are left out: {note}",))
    answered = _answered(named, record, count, force, screen) if record else left_out
    if answered.shown and others:
        why = "Not asked, since their models, data, seed or longest answer aren't the baseline's"
        answered = replace(answered, notes=(*answered.notes, f"{why}: {'; '.join(others)}."))
    return render_ablation(folder.resolve().name, found, record, answered)


def _answered(
    runs: list[tuple[str, Path]],
    record: Record,
    count: int,
    force: bool,
    screen: Screen,
    checkpoint: str | None = None,
) -> Examples:
    if not count:
        return Examples((), ("The answers are left out, as asked.",))
    found = collect(runs, record.recipe, count, screen, checkpoint, force)
    for note in found.notes:
        screen.say(f"examples {note}")
    return found


def render_ablation(name: str, found: Ablation, record: Record | None, examples: Examples) -> str:
    """The page about an ablation; `record` is of a run of its baseline."""
    missing = {"Not finished, and left out": found.unfinished, "Can't be read, and left out": found.damaged}
    return rendered(
        "ablation.html",
        title=name,
        ablation=found,
        remarks=[f"{what}: {'; '.join(names)}." for what, names in missing.items() if names],
        essentials=setting.essentials(record.recipe, seed=False) if record else [],
        examples=examples,
        legend=tokens.legend(),
    )


def render_run(record: Record, examples: Examples) -> str:
    """The page about a run."""
    training = curves.training(record)
    return rendered(
        "run.html",
        title=record.name,
        record=record,
        headline=headline(record),
        remarks=remarks(record),
        essentials=setting.essentials(record.recipe),
        chosen=setting.chosen(record.recipe),
        recipe=recipe_file.dump(record.recipe),
        results=curves.results(record),
        compared=_compared(record),
        kinds=_kinds(record),
        training=training,
        watched=curves.watched(record),
        window=smoothing(len(record.metrics)),
        geometry=geometry.geometry(record.geometry),
        costs=costs(record),
        examples=examples,
        recorded=_recorded(record),
        legend=tokens.legend(),
    )


def remarks(record: Record) -> list[str]:
    """What a reader must know before believing the page."""
    found = []
    steps = record.recipe.train.steps
    if not record.finished:
        found.append(
            f"This run has not finished: it is at step {record.step:,} of {steps:,} (still running, or stopped)."
        )
    if record.skipped:
        which = ", ".join(map(str, record.skipped[:10])) + (" …" if len(record.skipped) > 10 else "")
        found.append(
            f"{wording.plural(len(record.skipped), 'update')} of {len(record.metrics):,} skipped, since the loss or "
            f"its gradient was not finite (step {which})."
        )
    if not record.metrics:
        found.append("No step has been recorded: there are no curves.")
    if record.damaged:
        found.append(f"A part of {' and '.join(record.damaged)} could not be read and is missing here.")
    return found


def rendered(template: str, **values: Any) -> str:
    """A template with its style and its script in it, and a policy that lets the page load nothing else."""
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )  # fmt: skip
    environment.filters |= {"percent": wording.percent, "interval_of": wording.interval_of}
    script = (HERE / "keys.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = environment.get_template(template).render(
        style=Markup(palette.css() + (HERE / "style.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=digest,
        today=date.today().isoformat(),
        **values,
    )
    return forms.drawable(page)


def _compared(record: Record) -> list[dict]:
    """The first and the last evaluation, as far as there are two."""
    return list({row["step"]: row for row in (*record.evaluations[:1], *record.evaluations[-1:])}.values())


def _kinds(record: Record) -> list[tuple[str, list[dict]]]:
    """Accuracy by kind of question, of each evaluation that is compared; none where there is one kind only."""
    found = [row.get("by_kind", {}) for row in _compared(record)]
    shared = [kind for kind in found[-1] if all(kind in each for each in found)] if found else []
    return [(kind, [each[kind] for each in found]) for kind in shared] if len(shared) > 1 else []


def _recorded(record: Record) -> list[dict]:
    """What the run wrote down of its first and of its last evaluation."""
    steps = {row["step"] for row in record.completions}
    return [row for row in record.completions if row["step"] in (min(steps), max(steps))]
