"""Options that several commands have, or that belong together."""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from vgs_mlx.commands.arguments import PATH, Recipe
from vgs_mlx.errors import Refusal
from vgs_mlx.machine import disk

RECIPE = Recipe()
CHECKPOINT = click.option(
    "--checkpoint",
    metavar="final|newest|best|STEP",
    help="Which of a run's weights. Default: the final ones; of an unfinished run, the newest.",
)

FORCE = click.option(
    "--force", is_flag=True, help="Start even where the plan says that it doesn't fit in memory."
)


def what_to_train(command: Callable) -> Callable:
    """Adds the options that say what a run is made from."""

    @click.option("--recipe", type=RECIPE, help="A YAML file of what differs from the defaults.")
    @click.option(
        "--student",
        help="The model to train: a folder, else a Hub id (owner/name[@revision]); or a run (RUN, RUN@best) to "
        "continue from. Short for --set student.path=...",
    )
    @click.option(
        "--teacher",
        help="The frozen model: a folder, else a Hub id. Short for --set teacher.path=...",
    )
    @click.option(
        "--data",
        help="A .jsonl file, a folder, else a Hub id, or shapes. Short for --set data.source=...",
    )
    @functools.wraps(command)
    def wrapped(**options):
        return command(**options)

    return wrapped


@dataclass(frozen=True)
class AskOptions:
    """The values of the options that `asked_how` adds, and of CHECKPOINT and FORCE."""

    samples: int
    temperature: float
    no_image: bool
    limit: int | None
    recipe: Path | None
    sets: Sequence[str]
    json_file: Path | None
    grading: bool
    checkpoint: str | None
    force: bool

    def refuse_unusable(self) -> None:
        """Raises `Refusal` for values that can't work, before anything is loaded."""
        if not math.isfinite(self.temperature):
            raise Refusal(f"--temperature {self.temperature}: give a finite number, 0 or more")
        if self.samples > 1 and self.temperature == 0:
            raise Refusal("--samples needs a --temperature above 0: greedy answers are all the same")
        if self.json_file:
            disk.refuse_file("--json", self.json_file)


def asked_how(command: Callable) -> Callable:
    """Adds the options that say how a model is asked."""

    @click.option(
        "--samples", type=click.IntRange(1), default=1, show_default=True, help="Answers to each prompt."
    )
    @click.option(
        "--temperature", type=click.FloatRange(0), default=0.0, show_default=True, help="0: greedy."
    )
    @click.option(
        "--no-image", is_flag=True, help="Ask without the picture: what can be guessed (the blind score)."
    )
    @click.option(
        "--limit",
        type=click.IntRange(1),
        help="Only the first rows; with --suite, the same few rows of each benchmark every time.",
    )
    @click.option(
        "--recipe",
        type=RECIPE,
        help="The recipe to ask with. A run has its own.",
    )
    @click.option(
        "--set",
        "sets",
        multiple=True,
        metavar="KEY=VALUE",
        help="Any key of that recipe.",
    )
    @click.option("--json", "json_file", type=PATH, help="Also write the figures to this file.")
    @click.option("--grading", is_flag=True, help="Also print each wrong answer, with the rule that decided.")
    @functools.wraps(command)
    def wrapped(**options):
        return command(**options)

    return wrapped
