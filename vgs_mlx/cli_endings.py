"""How a command ends that was refused or interrupted."""

import functools
import sys
import traceback
from collections.abc import Callable

import click

from vgs_mlx.errors import Refusal

REFUSED, INTERRUPTED = 2, 130


def refusing(command: Callable) -> Callable:
    """Adds --debug; turns a `Refusal` into its message and exit code 2, Ctrl-C into exit code 130."""

    @click.option("--debug", is_flag=True, help="Show the traceback of an error.")
    @functools.wraps(command)
    def wrapped(debug: bool, **options):
        from vgs_mlx.train.loop import Interrupted

        try:
            return command(**options)
        except Refusal as refusal:
            if debug:
                traceback.print_exc()
            click.echo(f"vgs-mlx: {refusal}", err=True)
            sys.exit(REFUSED)
        except (Interrupted, KeyboardInterrupt) as interrupt:
            click.echo(f"\nvgs-mlx: stopped. {interrupt}".rstrip(), err=True)
            sys.exit(INTERRUPTED)

    return wrapped
