"""The page about a run, and that about an ablation: what they show, rendered into one HTML file."""

import base64
import hashlib
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

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
from vgs_mlx.runs import forms
from vgs_mlx.runs.screen import Screen

HERE = Path(__file__).parent
EXAMPLE = '<article class="example"'  # how an example begins in a page: parts.html


def of_run(folder: Path, count: int, screen: Screen, checkpoint: str | None, force: bool) -> str:
    """The page about the run in a folder, with `count` rows answered. Raises `Refusal`."""
    record = read(folder)
    return render_run(record, _answered([(AFTER, folder)], record, count, screen, checkpoint, force))


def of_ablation(folder: Path, count: int, screen: Screen, force: bool) -> str:
    """The page about the ablation in a folder, with `count` rows answered. Raises `Refusal`."""
    summary, record, note = ablation.read(folder), None, "the folders of the runs are missing."
    runs, others = [], []
    try:
        runs, others = ablation.runs(folder)
        record = read(runs[0][1]) if runs else None  # the baseline's, where its folder still exists
    except Refusal as problem:  # such as a run of another version: the summary can be shown without it
        note = str(problem)
    named = [(f"Student after {name} ({run.name.replace('-', ' ')})", run) for name, run in runs]
    if record is None:
        return render_ablation(
            folder.resolve().name, summary, None, Examples((), (f"Answers omitted: {note}",))
        )
    examples = _answered(named, record, count, screen, None, force)
    if examples.shown and others:
        why = "Not asked, since their models, data, seed or longest answer differ from the baseline's"
        examples = replace(examples, notes=(*examples.notes, f"{why}: {'; '.join(others)}."))
    return render_ablation(folder.resolve().name, summary, record, examples)


def _answered(
    runs: list[tuple[str, Path]],
    record: Record,
    count: int,
    screen: Screen,
    checkpoint: str | None,
    force: bool,
) -> Examples:
    if not count:
        return Examples((), ("Answers omitted, as requested.",))
    examples = collect(runs, record.recipe, count, screen, checkpoint, force)
    for note in examples.notes:
        screen.say(f"examples {note}")
    return examples


def render_ablation(name: str, summary: Ablation, record: Record | None, examples: Examples) -> str:
    """The page about an ablation; `record` is that of a baseline run."""
    missing = {"Not finished, and omitted": summary.unfinished, "Unreadable, and omitted": summary.damaged}
    return rendered(
        "ablation.html",
        title=name,
        ablation=summary,
        remarks=[f"{what}: {'; '.join(names)}." for what, names in missing.items() if names],
        essentials=setting.essentials(record.recipe, seed=False) if record else [],
        examples=examples,
        legend=tokens.legend(),
    )


def render_run(record: Record, examples: Examples) -> str:
    """The page about a run."""
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
        training=curves.training(record),
        watched=curves.watched(record),
        window=smoothing(len(record.metrics)),
        geometry=geometry.geometry(record.geometry),
        costs=costs(record),
        examples=examples,
        recorded=_recorded(record),
        legend=tokens.legend(),
    )


def remarks(record: Record) -> list[str]:
    """What a reader must know before trusting the page."""
    warnings = []
    steps = record.recipe.train.steps
    if not record.finished:
        warnings.append(
            f"This run has not finished: it is at step {record.step:,} of {steps:,} (still running, or stopped)."
        )
    if record.skipped:
        which = ", ".join(map(str, record.skipped[:10])) + (" …" if len(record.skipped) > 10 else "")
        warnings.append(
            f"{wording.plural(len(record.skipped), 'update')} of {len(record.metrics):,} skipped, since the loss or "
            f"its gradient was not finite (step {which})."
        )
    if not record.metrics:
        warnings.append("No step has been recorded: there are no curves.")
    if record.damaged:
        warnings.append(f"Part of {' and '.join(record.damaged)} could not be read and is missing here.")
    return warnings


def rendered(template: str, **values: Any) -> str:
    """A template with style and script inline, and a policy that lets the page load nothing else."""
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
    """The first and the last evaluation; one where they are the same, none where there is none."""
    return list({row["step"]: row for row in (*record.evaluations[:1], *record.evaluations[-1:])}.values())


def _kinds(record: Record) -> list[tuple[str, list[dict]]]:
    """Accuracy by kind of question, in each compared evaluation; empty where there is only one kind."""
    by_kind = [row.get("by_kind", {}) for row in _compared(record)]
    shared = [kind for kind in by_kind[-1] if all(kind in each for each in by_kind)] if by_kind else []
    return [(kind, [each[kind] for each in by_kind]) for kind in shared] if len(shared) > 1 else []


def _recorded(record: Record) -> list[dict]:
    """The answers that the run recorded at its first and at its last evaluation."""
    steps = {row["step"] for row in record.completions}
    return [row for row in record.completions if row["step"] in (min(steps), max(steps))]
