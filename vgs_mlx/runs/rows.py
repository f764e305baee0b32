"""A recipe's rows, checked by the model's processor, and the notes on them that a run starts with."""

from collections.abc import Callable, Sequence
from functools import partial
from heapq import nlargest
from pathlib import Path
from typing import Any

from vgs_mlx.data import datasets, templates
from vgs_mlx.data.datasets import DataSet, Progress, Reading
from vgs_mlx.data.held_out import trained_on
from vgs_mlx.data.pictures import shown
from vgs_mlx.data.prompts import image_tokens, problem, refuse_system_prompt, text_tokens
from vgs_mlx.data.rows import Columns
from vgs_mlx.planning.plan import Lengths
from vgs_mlx.recipe.objective import sampler
from vgs_mlx.recipe.options import Data, Recipe
from vgs_mlx.rollout.collect import given_text
from vgs_mlx.runs import ledger
from vgs_mlx.runs.screen import Screen
from vgs_mlx.types import Example

COUNTED = 16  # texts, those with the most characters, whose tokens are counted
LOOKED_AT = 64  # rows whose pictures' sizes stand for all in the start-up lines


def load_data(recipe: Recipe, processor: Any, screen: Screen, run: Path | None = None) -> DataSet:
    """The data set of the recipe, every row checked, with the start-up lines about it.

    `run` is the run folder that these rows belong to, if any: its pictures must be those that it started with.
    """
    settings = recipe.data
    with screen.counting("checking rows") as progress:
        how = reading(processor, settings, progress)
        data = datasets.load(settings.source, settings.held_out, how, recipe.seed)
    if run is not None:
        ledger.refuse_changes(run, data)
    skipped = f", {len(data.skipped):,} bad rows skipped" if data.skipped else ""
    screen.say(
        f"data     {settings.source}: {len(data.train):,} to train on, {len(data.held_out):,} held out{skipped}"
    )
    for line in (picture_line(processor, data, settings), *data_notes(data, recipe)):
        screen.say(f"         {line}")
    return data


def first_held_out(
    recipe: Recipe, processor: Any, count: int, screen: Screen, runs: Sequence[Path] = ()
) -> tuple[Example, ...]:
    """The first `count` of the held-out rows that `load_data` gives, mostly without reading any other.

    `runs` are run folders that these rows belong to, as in `load_data`.
    """
    settings = recipe.data
    with screen.counting("checking rows") as progress:
        how = reading(processor, settings, progress)
        examples = datasets.first_held_out(settings.source, count, settings.held_out, how, recipe.seed)
    for run in runs:
        ledger.refuse_changes(run, DataSet((), examples))
    return examples


def all_rows(
    processor: Any, recipe: Recipe, source: str, limit: int | None, screen: Screen
) -> Sequence[Example]:
    """The usable rows of a source, the first `limit` of them, read as the recipe says."""
    with screen.counting("checking rows") as progress:
        how = reading(processor, recipe.data, progress)
        return datasets.load_held_out(source, how, limit).held_out


def reading(processor: Any, settings: Data, progress: Progress | None = None) -> Reading:
    """How the recipe has rows read. Raises `Refusal` for an unusable system prompt or an unknown name of a column."""
    columns = Columns(settings.columns, settings.ignore_columns)
    check = row_check(processor, settings)
    return Reading(columns, settings.allow_outside, settings.on_bad_row, check, progress)


def row_check(processor: Any, settings: Data) -> Callable[[Example], str | None]:
    """The check of a row that needs the model's processor: why it can't become a prompt, or None.

    Raises `Refusal` where no row can be asked: the system prompt is unusable, or the chat template lacks an option.
    """
    templates.refuse_unknown(processor, settings.template_options)
    refuse_system_prompt(processor, settings.system_prompt)
    return lambda example: problem(processor, example, settings)


def data_notes(data: DataSet, recipe: Recipe) -> list[str]:
    """What the user should know of the rows before training on them, a line each."""
    notes = []
    if data.unread:
        notes.append(f"columns that are not read: {shown(', '.join(data.unread))}")
    if known := trained_on(data.train, data.held_out):
        notes.append(
            f"{known:,} of {len(data.held_out):,} held-out rows have the question and the pictures of a training row: "
            "accuracy on them measures memory"
        )
    bare = sum(not example.solution for example in data.train)
    if bare and recipe.objective.name == "sft" and recipe.objective.answers == "data":
        notes.append(
            f"{bare:,} of {len(data.train):,} training rows have no solution: they teach \\boxed{{answer}} alone"
        )
    return notes


def longest(processor: Any, data: DataSet, recipe: Recipe) -> Lengths:
    """The longest text, the most image tokens and, where rows bring their answers, the longest of these.

    They may be of different rows. Only the texts with the most characters are counted in tokens.
    """
    examples, settings = (*data.train, *data.held_out), recipe.data
    count = partial(text_tokens, processor, settings=settings)
    answer = None
    if sampler(recipe) is None and data.train:
        given = nlargest(COUNTED, map(given_text, data.train), key=len)
        answer = (
            max(len(processor.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in given) + 1
        )
    of_a_size = {tuple(picture.size for picture in each.pictures): each for each in examples}
    return Lengths(
        text=max(map(count, nlargest(COUNTED, examples, key=lambda each: len(each.question)))),
        image=max(image_tokens(processor, each, settings.max_pixels) for each in of_a_size.values()),
        answer=answer,
    )


def picture_line(processor: Any, data: DataSet, settings: Data) -> str:
    """How many tokens pictures cost, and whether the processor scales them."""
    looked_at = data.train[:LOOKED_AT]
    tokens = [image_tokens(processor, example, settings.max_pixels) for example in looked_at]
    free = [image_tokens(processor, example, None) for example in looked_at]
    scaled = sum(limited < whole for limited, whole in zip(tokens, free, strict=True))
    cost = f"{min(tokens):,}" if min(tokens) == max(tokens) else f"{min(tokens):,}-{max(tokens):,}"
    note = (
        f"; data.max_pixels={settings.max_pixels:,} scales {scaled / len(tokens):.0%} of them down"
        if scaled
        else ""
    )
    return f"a prompt's pictures cost {cost} tokens (first {len(tokens)} rows){note}"
