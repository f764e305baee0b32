"""Strict YAML: files and options such as `--set key=value` become a `Recipe`, or one clear line about what is wrong."""

import copy
import dataclasses
import difflib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from vgs_mlx.errors import Refusal
from vgs_mlx.formats import strict_yaml, texts
from vgs_mlx.recipe.options import Recipe
from vgs_mlx.recipe.paths import resolve_data, resolve_name, resolve_path, resolve_student
from vgs_mlx.resources import PACKAGE

DEFAULTS = PACKAGE / "recipe" / "options.py"
"""Where readers find every key, its default and its meaning."""
_RECIPE = TypeAdapter(Recipe)
LARGEST = 2**20  # bytes of a file
PATHS = (
    ("student", "path", resolve_student),
    ("teacher", "path", resolve_name),
    ("data", "source", lambda text, folder: resolve_data(text, folder, resolve_name)),
    (
        "data",
        "held_out",
        lambda text, folder: resolve_data(text, folder, resolve_path),
    ),  # a bare word is a split
)
"""The keys that may name a file or folder, and how they are made absolute."""
_WORD = re.compile(r"'([^']*)'")  # as pydantic quotes the values that it allows


@dataclass(frozen=True)
class Setting:
    """A value that overrides a file's."""

    key: str  # dotted
    value: Any
    where: str  # what a message about it names: the option, or the place in a file
    folder: Path = Path()  # that its paths are relative to; the default: the current folder


def load_recipe(file: Path | None, sets: Sequence[str] = (), shorthands: Sequence[Setting] = ()) -> Recipe:
    """The recipe of `file` (None: the defaults), overridden by `shorthands`, then by each `key=value` of `sets`.

    Paths in the file are relative to it; those in `sets` to the current folder. Raises `Refusal`.
    """
    values, folder = ({}, Path()) if file is None else (read(file), file.parent)
    if "cells" in values:
        raise Refusal(
            f"{file}: names the cells of an ablation: run it with vgs-mlx ablate {file} --output DIR"
        )
    return from_values(values, folder, [*shorthands, *settings(sets)], str(file))


def settings(sets: Sequence[str]) -> list[Setting]:
    """The setting of each --set `key=value`. Raises `Refusal`."""
    parsed = []
    for text in sets:
        key, separator, value = (part.strip() for part in text.partition("="))
        if not separator or not key:
            raise Refusal(f"--set {text}: write it as key=value, for example --set train.steps=100")
        parsed.append(Setting(key, strict_yaml.load(value, f"--set {text}"), f"--set {text}"))
    return parsed


def from_values(values: Mapping, folder: Path, given: Sequence[Setting], where: str) -> Recipe:
    """The recipe of a file's `values`, overridden by `given`; the file's paths are relative to `folder`.

    Raises `Refusal`.
    """
    values = copy.deepcopy(dict(values))
    _absolute_paths(values, folder)
    made = build(values, where)
    for each in given:  # one at a time, so that a message names the setting that is wrong
        _set(values, each)
        _absolute_paths(values, each.folder)
        made = build(values, each.where)
    return made


def build(values: Mapping, where: str) -> Recipe:
    """A `Recipe` from nested plain values; what they omit is the default. Raises `Refusal` with the first fault."""
    _refuse_unknown(values, Recipe, "", where)
    try:
        return _RECIPE.validate_json(json.dumps(values))  # strict JSON: lists may fill tuples
    except ValidationError as error:
        raise Refusal(_first_problem(error, where)) from error


def dump(recipe: Recipe) -> str:
    """The whole recipe as YAML; `load_recipe` reads back an equal one."""
    return strict_yaml.dump(_RECIPE.dump_python(recipe, mode="json"))


def dump_differences(recipe: Recipe) -> str:
    """The keys that are not at their defaults, as YAML; `load_recipe` reads back an equal recipe."""
    whole, defaults = (_RECIPE.dump_python(each, mode="json") for each in (recipe, Recipe()))
    changed: dict[str, Any] = {}
    for name, value in whole.items():
        if isinstance(value, dict):
            value = {key: inner for key, inner in value.items() if inner != defaults[name][key]}
        if value not in ({}, defaults[name]):
            changed[name] = value
    return strict_yaml.dump(changed) if changed else ""


def flat(recipe: Recipe) -> dict[str, Any]:
    """Every dotted key with its value."""
    sections = dataclasses.asdict(recipe)
    return {
        (f"{name}.{key}" if isinstance(section, dict) else name): value
        for name, section in sections.items()
        for key, value in (section.items() if isinstance(section, dict) else [(name, section)])
    }


def read(file: Path) -> dict:
    """The keys and values of a YAML file. Raises `Refusal`."""
    try:
        if not file.is_file():
            why = "it is not a file" if file.exists() else "no such file"
            raise Refusal(f"{file}: can't be read ({why}): give a YAML file")
        if file.stat().st_size > LARGEST:
            raise Refusal(f"{file}: larger than a recipe ever is ({LARGEST:,} bytes): give a YAML file")
        content = file.read_bytes()
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Refusal(f"{file}, line {line}: not UTF-8 text: give a YAML file") from error
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise Refusal(f"{file}: can't be read ({why}): give a YAML file") from error
    values = strict_yaml.load(text, str(file))
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise Refusal(f"{file}: expected keys such as `train:` at the top, found {type(values).__name__}")
    return values


def _set(values: dict, given: Setting) -> None:
    *sections, last = given.key.split(".")
    if not sections and isinstance(given.value, dict) and dataclasses.is_dataclass(vars(Recipe()).get(last)):
        raise Refusal(
            f"{given.where}: {last} is a section: set its keys one by one, as in --set {last}.KEY=VALUE"
        )
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise Refusal(f"{given.where}: {section} is a value, not a section")
    values[last] = given.value


def _absolute_paths(values: dict, folder: Path) -> None:
    for section, key, resolve in PATHS:
        inner = values.get(section)
        if isinstance(inner, dict) and isinstance(inner.get(key), str):
            inner[key] = resolve(inner[key], folder)
    grpo = values.get("grpo")
    if isinstance(grpo, dict) and isinstance(grpo.get("reward"), str):
        file, separator, function = grpo["reward"].rpartition(":")
        grpo["reward"] = resolve_path(file, folder) + separator + function


def _refuse_unknown(values: Any, option: type, prefix: str, where: str) -> None:
    if not isinstance(values, Mapping):
        raise Refusal(f"{where}: {prefix.rstrip('.') or 'the recipe'} needs keys below it, found {values!r}")
    fields = {each.name: each.type for each in dataclasses.fields(option)}
    for key, value in values.items():
        if key not in fields:
            raise Refusal(f"{where}: unknown key {prefix}{key}{_nearest(f'{prefix}{key}')}")
        if dataclasses.is_dataclass(fields[key]):
            _refuse_unknown(value, fields[key], f"{prefix}{key}.", where)
        elif fault := texts.fault_among(value):
            raise Refusal(f"{where}: {prefix}{key} {fault}: write it without that")


def _nearest(key: str) -> str:
    """A question or a hint for an unknown key: the known key that it resembles most.

    First the same name in another section, then a similar key of the same section, then a similar section.
    """
    known = flat(Recipe())
    section, _, last = key.rpartition(".")
    same_name = [each for each in known if each.rpartition(".")[2] == last]
    beside = [each for each in known if each.startswith(f"{section}.")]
    words = {word: each for each in reversed(beside) for word in each.rpartition(".")[2].split("_")}
    names = {each.rpartition(".")[2]: each for each in beside}
    sections = {each.partition(".")[0]: each.partition(".")[0] for each in known}
    near = {**words, **names} if beside else sections
    matches = same_name or [near[each] for each in difflib.get_close_matches(last, near, n=1)]
    return f": did you mean {matches[0]}?" if matches else f": all keys are in {DEFAULTS}"


def _first_problem(error: ValidationError, where: str) -> str:
    problems = error.errors()
    first = problems[0]
    key = ".".join(str(part) for part in first["loc"][:2])
    same_key = [each for each in problems if each["loc"][:2] == first["loc"][:2]]
    reasons = " or ".join(dict.fromkeys(each["msg"].lower() for each in same_key))
    return f"{where}: {key}: {reasons}, got {first['input']!r}{_nearest_value(same_key)}"


def _nearest_value(problems: list[Any]) -> str:
    """The allowed word that a wrong one resembles most, as a question; "" where none is similar."""
    allowed = [
        word
        for each in problems
        if each["type"] == "literal_error"
        for word in _WORD.findall(each["ctx"]["expected"])
    ]
    matches = difflib.get_close_matches(str(problems[0]["input"]), allowed, n=1, cutoff=0.5)
    return f": did you mean {matches[0]}?" if matches else ""
