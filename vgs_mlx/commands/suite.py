"""What `vgs-mlx evaluate --suite` does: ask a model the questions of a suite, keep the answers, print tables."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vgs_mlx.commands.options import AskOptions
from vgs_mlx.data.rows import BadRow
from vgs_mlx.errors import Refusal
from vgs_mlx.evaluation import evaluate, memory, wrong_answers
from vgs_mlx.evaluation.evaluate import AnswerSettings
from vgs_mlx.evaluation.suites import answers, chosen, tables
from vgs_mlx.evaluation.suites.benchmark import TEXT_SYSTEM_PROMPT, Benchmark
from vgs_mlx.evaluation.suites.rows import Item, items
from vgs_mlx.models.base import LoadedModel
from vgs_mlx.recipe.options import SYSTEM_PROMPT, Data
from vgs_mlx.rollout.batches import prompts_at_once
from vgs_mlx.runs import folder as run_folder
from vgs_mlx.runs import named_model
from vgs_mlx.runs.rows import row_check
from vgs_mlx.runs.screen import Screen
from vgs_mlx.types import Example


def run(model: str, suite: str, output: Path | None, against: Path | None, options: AskOptions) -> None:
    """See the command's help. Raises `Refusal`; answers given until then are kept."""
    benchmarks = chosen(suite)
    options.refuse_unusable()
    other = answers.settings_of(against) if against else None
    screen = Screen()
    recipe = named_model.recipe_of(model, options.recipe, options.sets)
    how = evaluate.settings_of(
        recipe, samples=options.samples, temperature=options.temperature, with_image=not options.no_image
    )
    asked = named_model.locate(model, options.checkpoint, screen)
    memory.check(asked, recipe, how, screen, seen=None, force=options.force)
    loaded, identity = named_model.load(asked, screen)
    settings = _settings(identity, how)
    folder = output or answers.default_folder(model, settings)
    answers.open_folder(folder, model, settings)
    screen.say(f"answers  {folder}: the same command continues there after an interruption")
    with run_folder.held(folder):
        lines, left_out, failed = _ask_all(loaded, benchmarks, folder, how, options.limit, screen)
    if not lines:
        raise Refusal("\n".join(f"{name}: {reason}" for name, reason in failed.items()))
    results = {
        "model": model, "suite": suite, "settings": settings, **tables.results(lines, left_out, against),
        **({"wrong": _wrong(lines)} if options.grading else {}),
    }  # fmt: skip
    tables.show(results, screen.console, against, other)
    if options.grading:
        wrong_answers.show(results["wrong"], screen.console)
    for file in filter(None, [folder / f"results-{suite}.json", options.json_file]):
        run_folder.write_text(file, json.dumps(results, indent=2) + "\n")
    if failed:
        raise Refusal(f"not asked, for the reasons above: {', '.join(failed)}")


def _wrong(lines: Mapping[str, Sequence[answers.Line]]) -> list[dict[str, Any]]:
    return wrong_answers.wrong(answers.from_line(line) for each in lines.values() for line in each)


def _settings(identity: str, how: AnswerSettings) -> dict[str, Any]:
    """All that an answer depends on, except the question: where these are equal, stored answers are used."""
    return {
        "model": identity, "seed": how.seed, "samples": how.samples, "temperature": how.sampling.temperature,
        "with_image": how.with_image, "max_completion_length": how.sampling.max_completion_length,
        "system_prompt": how.data.system_prompt, "text_system_prompt": _text_prompt(how.data),
        "max_pixels": how.data.max_pixels, "max_prompt_length": how.data.max_prompt_length,
        "template_options": how.data.template_options or None,  # None, as in answers stored before there were any
    }  # fmt: skip


def _text_prompt(data: Data) -> str:
    """The system prompt for questions without a picture. The default one mentions a picture, so it is replaced."""
    return TEXT_SYSTEM_PROMPT if data.system_prompt == SYSTEM_PROMPT else data.system_prompt


def _without_pictures(data: Data) -> Data:
    return replace(data, system_prompt=_text_prompt(data))


def _ask_all(
    model: LoadedModel,
    benchmarks: Sequence[Benchmark],
    folder: Path,
    how: AnswerSettings,
    limit: int | None,
    screen: Screen,
) -> tuple[dict[str, list[answers.Line]], dict[str, list[BadRow]], dict[str, Refusal]]:
    """Answers, unusable rows, and why a benchmark couldn't be asked: each by the benchmark's name."""
    lines, left_out, failed = {}, {}, {}
    for benchmark in benchmarks:
        try:
            with screen.counting(benchmark.name) as count:
                answered, bad = ask(model, benchmark, folder / f"{benchmark.name}.jsonl", how, limit, count)
        except Refusal as refusal:  # the other benchmarks are still asked
            if len(benchmarks) > 1:
                screen.say(f"{benchmark.name}: {refusal}")
            failed[benchmark.name] = refusal
            continue
        lines[benchmark.name], left_out[benchmark.name] = answered, bad
        for each in bad[:3]:
            screen.say(f"{benchmark.name}: left out {each}")
    return lines, left_out, failed


def ask(
    model: LoadedModel,
    benchmark: Benchmark,
    file: Path,
    how: AnswerSettings,
    limit: int | None = None,
    count: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[answers.Line], list[BadRow]]:
    """The answers to the first `limit` usable rows, stored ones where they exist, and the unusable rows before these.

    New answers are stored batch by batch. Raises `Refusal` where the data can't be loaded or no row is usable.
    """
    how = how if benchmark.pictures else replace(how, data=_without_pictures(how.data))
    stored, answered, bad = answers.read(file, benchmark.grade), {}, []
    waiting: list[tuple[Item, Example]] = []
    check, rows = row_check(model.processor, how.data), items(benchmark)
    at_once = prompts_at_once(len(rows), how.samples, how.batch_size)
    for place, item in enumerate(rows, start=1):
        try:
            seen = _look(item, stored.get(item.number), check)
        except Refusal as refusal:
            bad.append(BadRow(item.id, str(refusal)))
            seen = None
        if isinstance(seen, Example):
            waiting.append((item, seen))
        elif seen:
            answered[item.number] = seen
        enough = place == len(rows) or len(answered) + len(waiting) == limit
        if waiting and (enough or len(waiting) == at_once):
            new = _answer(model, benchmark, waiting, how)
            answers.append(file, new)
            answered.update((line["row"], line) for line in new)
            waiting.clear()
            count(*(len(answered), limit) if limit else (place, len(rows)))
        if enough:
            break
    if not answered:
        why = f"the first: {bad[0]}" if bad else "it has none"
        raise Refusal(f"{benchmark.source}: no usable row; {why}")
    return [answered[number] for number in sorted(answered)], bad


def _look(
    item: Item, known: answers.Line | None, check: Callable[[Example], str | None]
) -> answers.Line | Example | None:
    """The stored answers, if they are to this question; else the example to ask; None for another benchmark's row.

    Raises `Refusal` for a row that can't be asked, such as one whose picture can't be decoded.
    """
    example = item.example()
    if example is None:
        return None
    if known and known["asked"] == item.asked(example):
        return known
    if reason := check(example):
        raise Refusal(reason)
    return example


def _answer(
    model: LoadedModel, benchmark: Benchmark, waiting: Sequence[tuple[Item, Example]], how: AnswerSettings
) -> list[answers.Line]:
    numbers = [item.number for item, _ in waiting]
    examples = [example for _, example in waiting]
    rows = evaluate.answer(model, examples, how, numbers=numbers, grader=benchmark.grade)
    return [
        answers.to_line(item.number, item.asked(example), row)
        for (item, example), row in zip(waiting, rows, strict=True)
    ]
