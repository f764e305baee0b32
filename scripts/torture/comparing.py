"""Whether two run folders hold the same run: file by file the same bytes, but for times, memory and their own names."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from toy_runs import VOLATILE
from vgs_mlx.runs import folder as run_folder

TIMES = ("seconds", "seconds_of_last_process")  # of result.json


def differences(run: Path, whole: Path, made_as: Path | None = None) -> list[str]:
    """What is other in `run` than in `whole`, a file each; empty where they are the same run.

    `made_as` is the path that `whole` had when it was made.
    """
    here, there = _files(run, run), _files(whole, made_as or whole)
    found = [f"{name} is missing" for name in sorted(there.keys() - here.keys())]
    found += [f"{name} is too much" for name in sorted(here.keys() - there.keys())]
    return found + [
        f"{name} differs" for name in sorted(here.keys() & there.keys()) if here[name] != there[name]
    ]


def _files(folder: Path, name: Path) -> dict[str, bytes]:
    """What every file and empty folder below is compared by."""
    return {
        str(path.relative_to(folder)): _content(path, name) if path.is_file() else b""
        for path in folder.rglob("*")
        if path.is_file() or not any(path.iterdir())
    }


def _content(file: Path, name: Path) -> bytes:
    content = file.read_bytes()
    if file.name == run_folder.METRICS:
        return _without(VOLATILE, content)
    if file.name == run_folder.RESULT:
        result = json.loads(content)
        return json.dumps({key: value for key, value in result.items() if key not in TIMES}).encode()
    if file.name == "README.md":
        return content.replace(str(name).encode(), b"RUN")
    return content


def _without(names: tuple[str, ...], content: bytes) -> bytes:
    """The rows of a .jsonl file without these; what is no row stays as it is."""
    *lines, rest = content.split(b"\n")
    rows: list[Mapping[str, Any]] = [json.loads(line) for line in lines]
    kept = [{name: value for name, value in row.items() if name not in names} for row in rows]
    return b"\n".join([*(json.dumps(row).encode() for row in kept), rest])
