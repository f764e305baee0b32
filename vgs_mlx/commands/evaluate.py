"""What `vgs-mlx evaluate` does: find the model and the rows, sample answers, print a table and write JSON."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vgs_mlx.commands.options import AskOptions
from vgs_mlx.data.datasets import DataSet
from vgs_mlx.evaluation import evaluate, memory, wrong_answers
from vgs_mlx.evaluation.evaluate import Answer
from vgs_mlx.models.base import LoadedModel
from vgs_mlx.models.loading import load_processor
from vgs_mlx.recipe.options import Recipe
from vgs_mlx.runs import folder as run_folder
from vgs_mlx.runs import ledger, named_model, sources, trained
from vgs_mlx.runs.rows import all_rows, first_held_out, load_data, longest
from vgs_mlx.runs.screen import LIBRARIES, Screen
from vgs_mlx.types import Example


def run(model: str, data: str | None, options: AskOptions) -> None:
    """See the command's help. Raises `Refusal`."""
    options.refuse_unusable()
    screen = Screen()
    recipe = named_model.recipe_of(model, options.recipe, options.sets)
    run = Path(model) if named_model.is_run(model) else None
    if run and data is None:
        trained.refuse_missing(run, recipe, "data.source", "data.held_out", here=True)
    asked = named_model.locate(model, options.checkpoint, screen)
    with screen.working(LIBRARIES):
        processor = load_processor(asked.folder, "MODEL")
    own = sources.own_held_out(run, recipe, data, screen) if data and run else None
    examples = own[: options.limit] if own else _examples(processor, recipe, data, run, options.limit, screen)
    how = evaluate.settings_of(
        recipe, samples=options.samples, temperature=options.temperature, with_image=not options.no_image
    )
    seen = longest(processor, DataSet((), tuple(examples)), recipe)
    memory.check(asked, recipe, how, screen, seen=seen, force=options.force)
    loaded, _ = named_model.load(asked, screen)
    answers = _answers(loaded, examples, how, screen)
    results = {
        "model": model,
        **({"checkpoint": options.checkpoint} if options.checkpoint else {}),
        "data": data or recipe.data.source,
        "with_image": how.with_image,
        "temperature": options.temperature,
        **evaluate.summary(answers),
        **({"wrong": wrong_answers.wrong(answers)} if options.grading else {}),
    }
    _report(results, options.json_file, screen)


def _answers(
    model: LoadedModel, examples: Sequence[Example], how: evaluate.AnswerSettings, screen: Screen
) -> list[list[Answer]]:
    with screen.counting("evaluating") as count:
        count(0, len(examples))
        return evaluate.answer(model, examples, how, progress=lambda done: count(done, len(examples)))


def _report(results: dict[str, Any], json_file: Path | None, screen: Screen) -> None:
    _print(results, screen.console)
    if "wrong" in results:
        wrong_answers.show(results["wrong"], screen.console)
    if json_file:
        run_folder.write_text(json_file, json.dumps(results, indent=2) + "\n")


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


def _print(results: dict[str, Any], console: Console) -> None:
    drawn = f"mean of {results['samples']} samples at temperature {results['temperature']:g}"
    how = drawn if results["temperature"] else "greedy (Acc@1)"
    view = "with the picture" if results["with_image"] else "without the picture"
    console.print(f"{results['model']} on {results['data']}, {how}, {view}", markup=False, soft_wrap=True)
    table = Table(box=None)
    for heading in ("kind", "prompts", "accuracy", "95 % interval"):
        table.add_column(heading, justify="left" if heading == "kind" else "right")
    for kind, each in [*results["by_kind"].items(), ("all", results)]:
        interval = f"{each['low']:.3f}-{each['high']:.3f}"
        table.add_row(Text(kind or "-"), f"{each['prompts']:,}", f"{each['accuracy']:.3f}", interval)
    console.print(table)
    scene = f"; scene F1 {results['scene_f1']:.3f}" if "scene_f1" in results else ""
    console.print(
        f"mean length {results['completion_length']:.1f} tokens; {results['cut_off_share']:.1%} cut off{scene}",
        markup=False,
    )
