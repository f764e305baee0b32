"""Checks of every command's arguments: one value each, in UTF-8, no path that can't be looked up."""

import os
from pathlib import Path
from typing import Any

import click

from vgs_mlx.formats import texts
from vgs_mlx.resources import shipped_recipe

PLACES = ("model", "student", "teacher", "data")
"""Arguments that name a path or something on the Hub."""
PATH = click.Path(path_type=Path)


class Refused(click.ClickException):
    """A `Refusal` while click reads arguments: click prints it as one, with the same exit code."""

    exit_code = 2

    def show(self, file: Any = None) -> None:
        """Prints the message."""
        click.echo(f"vgs-mlx: {self.message}", file=file, err=file is None)


class Recipe(click.Path):
    """A recipe file. Where `recipes/NAME.yaml` doesn't exist, the package's own of that name."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value, param, ctx):
        """The path of the recipe. Prints it where it is the package's own."""
        path = super().convert(value, param, ctx)
        shipped = None if os.path.exists(path) else shipped_recipe(path)
        if shipped:
            click.echo(f"recipe   {path} is not in this folder: using the package's own, {shipped}")
        return shipped or path


class Command(click.Command):
    """A command that refuses an option given twice, where one value would be lost, and text that is not UTF-8."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click's own. Raises `Refused`."""
        _, _, given = self.make_parser(ctx).parse_args(args=list(args))
        for option in dict.fromkeys(given):
            single = isinstance(option, click.Option) and not (option.multiple or option.is_flag)
            if single and given.count(option) > 1:
                times = f"given {given.count(option)} times, where one value is allowed"
                raise Refused(f"{name_of(option)}: {times}: give it once")
        left = super().parse_args(ctx, args)
        for param in self.params:
            refuse_unwritable(param, ctx.params.get(param.name))
            refuse_unreachable(param, ctx.params.get(param.name))
        return left


class Group(click.Group):
    """Commands of this kind."""

    command_class = Command


def refuse_unwritable(param: click.Parameter, value: Any) -> None:
    """Refuse text that can't be written as UTF-8: no file or screen could show it. Raises `Refused`."""
    for each in value if isinstance(value, tuple) else (value,):
        if not isinstance(each, str | Path) or not (fault := texts.fault(str(each))):
            continue
        try:
            os.fsencode(each).decode("utf-8")
            fix = "the locale is not UTF-8: run it with LC_ALL=C.UTF-8"
        except UnicodeError:
            fix = "rename it, or write it in UTF-8"
        raise Refused(f"{name_of(param)} {texts.printable(str(each))} {fault}: {fix}")


def refuse_unreachable(param: click.Parameter, value: Any) -> None:
    """Refuse a path that can't be looked up, or a folder that can't be read. Raises `Refused`.

    A path that leads to nothing is left to the command.
    """
    if not isinstance(value, Path) and (value is None or param.name not in PLACES):
        return
    path = os.path.expanduser(value)
    if isinstance(value, str) and path.startswith("~"):
        raise Refused(f"{name_of(param)} {value[:200]}: there is no user of that name: give another path")
    try:
        os.listdir(path) if os.path.isdir(path) else os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:  # too long, no permission, a circle of links
        why = f"can't be looked up ({error.strerror}): give another path"
        raise Refused(f"{name_of(param)} {str(value)[:200]}: {why}") from error


def name_of(param: click.Parameter) -> str:
    """The parameter as the user writes it: --output, or RUN."""
    return param.opts[0] if isinstance(param, click.Option) else param.human_readable_name
