"""The run folder: what it holds, and how its files are written whole or not at all.

recipe.yaml  versions.json  README.md     before any model is loaded
pictures.jsonl                            before the first step, see ledger.py
metrics.jsonl  evaluations.jsonl  answers.jsonl  completions.jsonl  terms.jsonl  skipped.jsonl
student/                                  of a run that continues an earlier one: see earlier_run.py
checkpoints/step-000020/ ...              see checkpoint.py
result.json  final/                       written last
"""

import fcntl
import json
import os
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from vgs_mlx.errors import Refusal
from vgs_mlx.recipe import file as recipe_file
from vgs_mlx.recipe.options import Recipe
from vgs_mlx.runs.records import rows as rows
from vgs_mlx.runs.versions import versions

RECIPE, METRICS, EVALUATIONS, ANSWERS, COMPLETIONS = (
    "recipe.yaml",
    "metrics.jsonl",
    "evaluations.jsonl",
    "answers.jsonl",
    "completions.jsonl",
)
SKIPPED, BAD_BATCHES, RESULT, FINAL, CHECKPOINTS = (
    "skipped.jsonl",
    "skipped_updates.jsonl",
    "result.json",
    "final",
    "checkpoints",
)
TERMS, PICTURES = "terms.jsonl", "pictures.jsonl"
VERSIONS, README = "versions.json", "README.md"
STUDENT, ORIGIN = (
    "student",
    "origin.json",
)  # the earlier run's model that this run continues from, and its origin
# rows carry the step that wrote them
STEP_FILES = (METRICS, EVALUATIONS, ANSWERS, COMPLETIONS, BAD_BATCHES, TERMS)


def default_folder(name: str) -> Path:
    """The first of runs/NAME-1, runs/NAME-2, ... that doesn't exist."""
    number = 1
    while (folder := Path("runs") / f"{name}-{number}").exists():
        number += 1
    return folder


def create(folder: Path, recipe: Recipe) -> list[Path]:
    """Make a run folder with the files that are written before any model is loaded. Returns the folders made for it.

    Raises `Refusal`, and then leaves nothing.
    """
    refuse_used(folder)
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=not made)
        with gone_on_failure(folder, made):
            write_text(folder / RECIPE, _dumped(folder, recipe))
            describe(folder)
    except OSError as error:
        _remove_empty(made)
        raise Refusal(
            f"--output {folder}: can't be written ({error.strerror}): give another folder"
        ) from error
    return made


def describe(folder: Path) -> None:
    """Write the files that explain a run beside its recipe, unless they are there: a killed run may have some."""
    if not (folder / VERSIONS).exists():
        write_text(folder / VERSIONS, json.dumps(versions(), indent=2) + "\n")
    if not (folder / README).exists():
        write_text(folder / README, _readme(folder))


@contextmanager
def gone_on_failure(folder: Path, made: list[Path]) -> Iterator[None]:
    """If the body fails, empty the folder and remove the folders `made` for it."""
    try:
        yield
    except BaseException:
        for name in os.listdir(folder):
            remove(folder / name)
        _remove_empty(made)
        raise


def refuse_used(folder: Path) -> None:
    """Refuse a folder that holds anything, except half-written files of a killed process. Raises `Refusal`."""
    fix = "give another folder"
    try:
        if folder.exists() and not folder.is_dir():
            raise Refusal(f"--output {folder}: a file: {fix}")
        inside = sorted(os.listdir(folder)) if folder.exists() else []
        inside = [name for name in inside if not (name.startswith(".") and name.endswith(".writing"))]
    except OSError as error:
        raise Refusal(f"--output {folder}: can't be read ({error.strerror}): {fix}") from error
    if RECIPE in inside:
        raise Refusal(
            f"--output {folder}: holds a run already: {fix}, or resume it: {resume_command(folder)}"
        )
    if inside:
        raise Refusal(f"--output {folder}: not empty (it holds {inside[0]}): {fix}")


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Lock the run for this process during the body; the lock ends with the process. Raises `Refusal`."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Refusal(
                    f"{folder}: another vgs-mlx is working on this run: let it finish, or stop it first"
                ) from error
        yield
    finally:
        os.close(descriptor)


def resume_command(folder: Path) -> str:
    """The command that resumes a run."""
    return f"vgs-mlx distill --resume --output {shlex.quote(str(folder))}"


def opened(folder: Path) -> Recipe:
    """The resolved recipe of an existing run. Raises `Refusal`."""
    if not (folder / RECIPE).is_file():
        raise Refusal(
            f"--output {folder}: not a run folder (no {RECIPE} in it): omit --resume to start a run"
        )
    return recipe_file.load_recipe(folder / RECIPE)


def keep_recipe(folder: Path, recipe: Recipe) -> None:
    """Make `recipe` the one that the folder's run continues with."""
    if recipe != opened(folder):
        write_text(folder / RECIPE, _dumped(folder, recipe))


def _dumped(folder: Path, recipe: Recipe) -> str:
    """The recipe as the run folder stores it: a student inside the folder moves with it, so its path is relative."""
    inside = Path(recipe.student.path) == folder.absolute() / STUDENT
    return recipe_file.dump(
        replace(recipe, student=replace(recipe.student, path=STUDENT)) if inside else recipe
    )


def append(file: Path, row: Mapping[str, Any]) -> None:
    """Add one row to a .jsonl file. Where that fails, as on a full disk, nothing of the row is left."""
    line = (json.dumps(row, ensure_ascii=False) + "\n").encode()
    with file.open("ab", buffering=0) as stream:
        size = stream.seek(0, os.SEEK_END)
        try:
            while line:
                line = line[stream.write(line) :]
        except (OSError, KeyboardInterrupt):
            stream.truncate(size)
            raise


def forget_after(folder: Path, step: int, files: Sequence[str] = STEP_FILES) -> None:
    """Drop the rows of steps after `step`, which will be done again. -1 drops all rows."""
    for name in files:
        file = folder / name
        if file.exists():
            before = file.read_bytes()
            kept = b"".join(line + b"\n" for line in before.split(b"\n") if line and _step(line) <= step)
            if kept != before:
                write_text(file, kept.decode("utf-8"))


def has_row(file: Path, step: int) -> bool:
    """Whether a .jsonl file has the row of that step. Raises `Refusal` for a damaged row."""
    return any(row["step"] == step for row in rows(file))


def best_evaluation(folder: Path) -> dict[str, Any] | None:
    """The run's evaluation with the highest accuracy so far, the first of equals; None before the first.

    Raises `Refusal` for a damaged row.
    """
    return max(rows(folder / EVALUATIONS), key=lambda each: each["accuracy"], default=None)


def refuse_read_only(folder: Path) -> None:
    """Refuse, before anything is loaded, a run that can't be written to. Raises `Refusal`."""
    if not os.access(folder, os.W_OK):
        raise Refusal(
            f"{folder}: can't be written (read-only, or another user's): make it writable, or copy the run to a place "
            "that is"
        )


@contextmanager
def whole(file: Path) -> Iterator[Path]:
    """A temporary file for the body to write. It replaces `file` once the body is done, and is removed if it fails."""
    unfinished = file.with_name(f".{file.name}.writing")
    try:
        yield unfinished
        with unfinished.open("rb") as stream:
            os.fsync(stream.fileno())
        unfinished.replace(file)
    except (Exception, KeyboardInterrupt) as error:
        with suppress(OSError):
            unfinished.unlink()
        if isinstance(error, OSError) and error.errno:
            error.filename = str(file)  # the name that the user knows; errors of writing have none
        raise


def write_text(file: Path, text: str) -> None:
    """Write a file whole or not at all."""
    with whole(file) as unfinished:
        unfinished.write_text(text, encoding="utf-8", newline="")


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """As `whole`, for a folder that the body makes; removed if the body fails, since the disk may be full."""
    unfinished = folder.with_name(f".{folder.name}.writing")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        yield unfinished
        replace_folder(unfinished, folder)
    except (Exception, KeyboardInterrupt):
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def replace_folder(written: Path, folder: Path) -> None:
    """Rename the folder `written` to `folder`, and remove the earlier folder of that name."""
    old = folder.with_name(f".{folder.name}.old")
    remove(old)
    if folder.exists():
        folder.rename(old)
    written.rename(folder)
    remove(old)


def _step(line: bytes) -> float:
    """The step of a row; infinite, so that it is dropped, for a line that a kill cut off, maybe inside a letter."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return float("inf")


def _remove_empty(folders: list[Path]) -> None:
    for each in folders:
        with suppress(OSError):  # not there, or in use by another process
            each.rmdir()


def remove(path: Path) -> None:
    """Remove a file, or a folder with what it holds, if it is there."""
    try:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        error.filename = str(path)  # shutil gives only a name inside the folder
        raise


def _readme(folder: Path) -> str:
    name = shlex.quote(str(folder))
    return f"""# A run of vgs-mlx

`{RECIPE}` is the whole recipe, `{METRICS}` what every step measured, `{EVALUATIONS}` the accuracy on held-out
rows, `{ANSWERS}` which of them were right, `{COMPLETIONS}` some answers in full, `{FINAL}/` the trained weights (there
once the run has finished). `{CHECKPOINTS}/` keeps the newest steps, and the one that did best on the held-out rows
(`{RESULT}` names it): `--checkpoint best` evaluates, reports or exports that one.

    {resume_command(folder)}
    vgs-mlx evaluate {name}
    vgs-mlx evaluate {name} --checkpoint best
    vgs-mlx export {name} --output {name}-fused
"""
