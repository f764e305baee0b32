"""Reads a run's files for commands that continue it: damage is a refusal that names the file and the row."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from vgs_mlx.errors import Refusal
from vgs_mlx.formats import strict_json
from vgs_mlx.machine.lazy import Lazy

forms = Lazy("vgs_mlx.runs.forms")
FORMS = {
    "metrics.jsonl": "METRICS",
    "evaluations.jsonl": "EVALUATIONS",
    "answers.jsonl": "ANSWERS",
    "completions.jsonl": "COMPLETIONS",
    "terms.jsonl": "LOOKED",
    "result.json": "RESULT",
}
"""The form, in `forms`, of the objects in files of these names; other files hold objects of any form."""
PUT_BACK = "put it back as it was, or delete it"


def rows(file: Path) -> list[dict[str, Any]]:
    """The rows of a .jsonl file; none where it doesn't exist. A last row that a kill cut off is ignored.

    Raises `Refusal` for a damaged one.
    """
    # not splitlines: an answer may hold other line ends, such as U+2028
    *whole, rest = (content(file) or b"").split(b"\n")
    objects = [_checked(line, file, number) for number, line in enumerate(whole, start=1) if line]
    with suppress(Refusal):
        objects += [_checked(rest, file, len(whole) + 1)]
    return objects


def refuse_damaged(run: Path) -> None:
    """Check, before a run continues, that all rows that it has written can be read. Raises `Refusal`."""
    for name in FORMS:
        if name.endswith(".jsonl"):
            rows(run / name)


def read_object(file: Path) -> dict[str, Any]:
    """The object in a JSON file; {} where it doesn't exist. Raises `Refusal`."""
    return {} if (found := content(file)) is None else _checked(found, file)


def content(file: Path) -> bytes | None:
    """The bytes of a file; None where it doesn't exist. Raises `Refusal`, also for what is not a file."""
    if not file.exists():
        return None
    if not file.is_file():  # a pipe would never end
        raise Refusal(f"{file}: not a file: {PUT_BACK}")
    try:
        return file.read_bytes()
    except OSError as error:
        raise Refusal(f"{file}: can't be read ({error.strerror}): {PUT_BACK}") from error


def _checked(text: bytes, file: Path, number: int | None = None) -> dict[str, Any]:
    """An object of the form that the file's objects have; `number` is that of its line."""
    where = f"{file}:{number}" if number else f"{file}"
    try:
        value = strict_json.load(text, constants=True)  # a loss may be NaN
        if not isinstance(value, dict):
            raise strict_json.Faulty("not a JSON object")
        if form := FORMS.get(file.name):
            getattr(forms, form).validate_python(value)
        return value
    except strict_json.Faulty as error:
        raise Refusal(f"{where}: damaged ({error}): {PUT_BACK}") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "its values"
        raise Refusal(f"{where}: damaged ({key}: {first['msg'].lower()}): {PUT_BACK}") from error
