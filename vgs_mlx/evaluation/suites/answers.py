"""The folder that keeps a model's answers to benchmarks: settings.json, and one .jsonl for each benchmark.

One folder is one model asked in one way. Answers are appended as they come, so a kill costs one batch at most.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NotRequired

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from vgs_mlx.errors import Refusal
from vgs_mlx.evaluation.evaluate import Answer, Grader
from vgs_mlx.formats import strict_json
from vgs_mlx.runs import folder as run_folder
from vgs_mlx.runs.versions import versions
from vgs_mlx.types import Example

SETTINGS = "settings.json"

Line = dict[str, Any]
LINE = TypeAdapter(
    TypedDict(
        "Answered",
        {
            "row": int,
            "id": str,
            "kind": str,
            "answer": str,
            "options": NotRequired[list[str]],
            "completions": list[str],
        },
    )
)
"""What a stored line must hold."""


def default_folder(model: str, settings: Mapping[str, Any]) -> Path:
    """A folder that the same model asked in the same way finds again."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
    name = re.sub(r"[^\w.-]+", "-", Path(model).name).strip("-.") or "model"
    return Path("suites") / f"{name}-{digest}"


def open_folder(folder: Path, model: str, settings: Mapping[str, Any]) -> None:
    """Make the folder, or check that it has these settings. Raises `Refusal` for any other folder."""
    fix = "give another folder to --output"
    try:
        inside = sorted(os.listdir(folder)) if folder.exists() else []
        if SETTINGS in inside:
            before = settings_of(folder)["settings"]
            changed = [key for key in settings if before.get(key) != settings[key]]
            if changed:
                was, now = (json.dumps(each.get(changed[0]))[:60] for each in (before, settings))
                raise Refusal(
                    f"{folder}: its answers were given with another {changed[0]} ({was}, now {now}): {fix}"
                )
            return
        if inside:
            raise Refusal(f"{folder}: not a folder of a suite's answers (it holds {inside[0]}): {fix}")
        folder.mkdir(parents=True, exist_ok=True)
        about = {"model": model, "settings": settings, "versions": versions()}
        run_folder.write_text(folder / SETTINGS, json.dumps(about, indent=2, ensure_ascii=False) + "\n")
    except OSError as error:
        raise Refusal(f"{folder}: can't be written ({error.strerror}): {fix}") from error


def settings_of(folder: Path) -> dict[str, Any]:
    """The model, settings and versions of a folder's answers. Raises `Refusal` where it is not such a folder."""
    file = folder / SETTINGS
    try:
        about = strict_json.load(file.read_bytes())
        if not isinstance(about, dict) or not isinstance(about.get("settings"), dict):
            raise ValueError("no settings in it")
        return about
    except OSError as error:
        fix = "give the --output of a `vgs-mlx evaluate --suite`"
        raise Refusal(f"{folder}: not a folder of a suite's answers (no {SETTINGS} in it): {fix}") from error
    except ValueError as error:
        raise Refusal(f"{file}: not readable ({error}): delete the folder, or put the file back") from error


def read(file: Path, grader: Grader) -> dict[int, Line]:
    """The stored answers by their row's number, the latest of each; none where there is no file.

    They are graded anew: an earlier version of the program may have stored them. A last line that a kill cut
    off is ignored. Raises `Refusal` for a file that is damaged elsewhere.
    """
    lines = {}
    for place, text in enumerate(_whole_lines(file), start=1):
        try:
            line = strict_json.load(text)
            LINE.validate_python(line, strict=True)
            lines[line["row"]] = line
        except ValueError as error:  # pydantic's too
            raise Refusal(f"{file}:{place}: not an answer that can be read: delete that line") from error
        verdicts = [grader(each, example_of(line)) for each in line["completions"]]
        line["right"] = [each.right for each in verdicts]
        line["rules"] = [each.rule for each in verdicts]
    return lines


def append(file: Path, lines: Iterable[Line]) -> None:
    """Add answers; they are on disk when this returns. First removes what a kill left of a line."""
    with file.open("ab") as stream:
        stream.truncate(sum(len(line) + 1 for line in _whole_lines(file)))
        stream.write("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode())
        stream.flush()
        os.fsync(stream.fileno())


def to_line(number: int, asked: str, row: Sequence[Answer]) -> Line:
    """The answers to one row as they are stored; `asked` identifies the question."""
    example = row[0].example
    return {
        "row": number, "id": example.id, "kind": example.kind, "asked": asked, "answer": example.answer,
        "options": list(example.options), "right": [each.right for each in row], "rules": [each.rule for each in row],
        "ended": [each.ended for each in row],
        "tokens": [each.tokens for each in row], "completions": [each.completion for each in row],
    }  # fmt: skip


def from_line(line: Line) -> list[Answer]:
    """The answers of a stored row, without its question and pictures."""
    names = ("completions", "right", "ended", "tokens", "rules")
    values = zip(*(line[name] for name in names), strict=True)
    return [Answer(example_of(line), *each, None, rule) for *each, rule in values]


def example_of(line: Line) -> Example:
    """The row that a stored answer is to, without its question and pictures."""
    return Example(
        line["id"], "", line["answer"], (), kind=line["kind"], options=tuple(line.get("options", ()))
    )


def _whole_lines(file: Path) -> list[bytes]:
    return file.read_bytes().split(b"\n")[:-1] if file.exists() else []
