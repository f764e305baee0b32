"""How a command ends that is refused, is interrupted, or can't write."""

import functools
import sys
import traceback
from collections.abc import Callable

import click

from vgs_mlx.device import why_mlx_fails
from vgs_mlx.errors import Interrupted, Refusal
from vgs_mlx.formats import texts
from vgs_mlx.machine import disk, stopping

REFUSED = 2


def refusing(command: Callable) -> Callable:
    """Adds --debug, and ends a refused command with the message and exit code 2.

    So do a file that can't be written and an MLX that can't be imported. Ctrl-C gives exit code 130, SIGTERM 143.
    """

    @click.option("--debug", is_flag=True, help="Show the traceback of an error.")
    @functools.wraps(command)
    def wrapped(debug: bool, **options):
        try:
            with stopping.at_once():
                return command(**options)
        except Refusal as refusal:
            _end(f"vgs-mlx: {refusal}", REFUSED, debug)
        except (Interrupted, KeyboardInterrupt) as interrupt:
            _end(f"\nvgs-mlx: stopped. {interrupt}".rstrip(), stopping.exit_code(), debug)
        except ImportError:
            if (why := why_mlx_fails()) is None:
                raise
            _end(f"vgs-mlx: {why}", REFUSED, debug)
        except (OSError, RuntimeError) as error:
            if (reason := disk.reason(error)) is None:
                raise
            file = f"{error.filename}: " if getattr(error, "filename", None) else ""
            _end(f"vgs-mlx: {file}{reason}: {disk.advice(error)}", REFUSED, debug)

    return wrapped


def _end(message: str, code: int, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    # a message may quote what a file holds, which must not move a terminal's cursor
    click.echo("\n".join(map(texts.printable, message.split("\n"))), err=True)
    sys.exit(code)
