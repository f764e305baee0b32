"""Options that several commands have, or that belong together."""

import functools
from collections.abc import Callable
from pathlib import Path

import click

PATH = click.Path(path_type=Path)

CHECKPOINT = click.option(
    "--checkpoint",
    metavar="final|newest|best|STEP",
    help="Which of a run's weights. Default: the final ones, the newest while it has not finished.",
)


def asked_how(command: Callable) -> Callable:
    """Adds the options that say how a model is asked."""

    @click.option("--samples", type=click.IntRange(1), default=1, show_default=True, help="Answers a prompt.")
    @click.option(
        "--temperature", type=click.FloatRange(0), default=0.0, show_default=True, help="0: greedy."
    )
    @click.option(
        "--no-image", is_flag=True, help="Ask without the picture: what can be guessed (the blind score)."
    )
    @click.option(
        "--limit",
        type=click.IntRange(1),
        help="Only the first rows; of a suite's, so many of each, always the same.",
    )
    @click.option(
        "--recipe",
        type=PATH,
        help="How to ask; a run has its own.",
    )
    @click.option(
        "--set",
        "sets",
        multiple=True,
        metavar="KEY=VALUE",
        help="Any key of the recipe that it is asked with.",
    )
    @click.option("--json", "json_file", type=PATH, help="Write the figures here too.")
    @functools.wraps(command)
    def wrapped(**options):
        return command(**options)

    return wrapped
