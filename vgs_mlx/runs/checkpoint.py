"""Checkpoints: all that a run needs to continue exactly. Written whole or not at all, and verified when read.

A folder checkpoints/step-000020 holds the trainable weights (mlx-vlm's adapter format where they are an
adapter), `optim.safetensors`, and `state.json`: progress, the checksum of every file, and what the weights
belong to (models, data, recipe). Nothing in it depends on the time of day.
"""

import hashlib
import json
import os
import re
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.optimizers as optim
from mlx.utils import tree_flatten, tree_unflatten
from pydantic import TypeAdapter, ValidationError

from vgs_mlx.errors import Refusal
from vgs_mlx.formats import strict_json
from vgs_mlx.models import adapters
from vgs_mlx.models.base import LoadedModel
from vgs_mlx.recipe import options as recipe
from vgs_mlx.runs.folder import CHECKPOINTS, VERSIONS, remove, whole_folder
from vgs_mlx.runs.identity import Identity, differences, worded
from vgs_mlx.runs.progress import Progress

OPTIMIZER_FILE = "optim.safetensors"
STATE_FILE = "state.json"
NAME = re.compile(r"step-\d{6,12}")  # of a checkpoint's folder
PARTS = ("progress", "identity", "sha256")  # of the state, beside its checksum


def save(
    run: Path,
    student: LoadedModel,
    optimizer: optim.AdamW,
    progress: Progress,
    settings: recipe.Student,
    identity: Identity,
) -> Path:
    """Write the checkpoint of `progress.step`. Returns its folder."""
    folder = _folder(run, progress.step)
    with whole_folder(folder) as unfinished:
        write_weights(unfinished, student, settings)
        _write_arrays(unfinished / OPTIMIZER_FILE, dict(sorted(tree_flatten(optimizer.state))))
        state = {
            "progress": asdict(progress),
            "identity": identity,
            "sha256": {file.name: _sha256(file) for file in sorted(unfinished.iterdir())},
        }
        _write_json(unfinished / STATE_FILE, {**state, "checksum": _checksum(state)})
    return folder


def write_weights(folder: Path, student: LoadedModel, settings: recipe.Student) -> None:
    """The trainable weights and the adapter's description, in a new folder."""
    folder.mkdir(parents=True)
    for name, weights in adapters.weight_files(adapters.trainable_weights(student.module), settings).items():
        _write_arrays(folder / name, weights)
    if settings.train != "full":
        _write_json(folder / adapters.ADAPTER_CONFIG, adapters.adapter_config(student.module))


def newest(run: Path) -> Path | None:
    """The newest checkpoint of a run, or None."""
    found = all_of(run)
    return found[-1] if found else None


def all_of(run: Path) -> list[Path]:
    """All complete checkpoints, oldest first. Other folders, such as a copy made by hand, are ignored."""
    found = [each for each in (run / CHECKPOINTS).glob("step-*") if NAME.fullmatch(each.name)]
    return sorted(found, key=step_of)


def step_of(folder: Path) -> int:
    """The step of a checkpoint."""
    return int(folder.name.removeprefix("step-"))


def load(folder: Path, student: LoadedModel, optimizer: optim.AdamW, identity: Identity) -> Progress:
    """Load a checkpoint into student and optimiser. Raises `Refusal` if it is damaged or belongs to another run."""
    state = verified_state(folder)
    refuse_foreign(folder, state["identity"], identity)
    progress = _progress(folder, state["progress"])
    adapters.load_weights(student.module, folder)
    optimizer.state = tree_unflatten(list(mx.load(str(folder / OPTIMIZER_FILE)).items()))
    mx.eval(student.module.parameters(), optimizer.state)
    return progress


def verified_state(folder: Path) -> dict[str, Any]:
    """`state.json` of a checkpoint whose files are all whole. Raises `Refusal` naming the previous checkpoint."""
    try:
        state = strict_json.load((folder / STATE_FILE).read_bytes(), constants=True)
        whole = state.pop("checksum") == _checksum(state)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refusal(f"{folder}: damaged ({STATE_FILE} can't be read): {_previous(folder)}") from error
    if not whole:
        raise Refusal(f"{folder}: damaged (the checksum of {STATE_FILE} is wrong): {_previous(folder)}")
    if lacking := [each for each in PARTS if not isinstance(state.get(each), dict)]:
        raise _of_another_version(folder, f"{STATE_FILE} without {', '.join(lacking)}")
    for name, checksum in state["sha256"].items():
        if not (folder / name).is_file():
            raise Refusal(f"{folder}: damaged ({name} is missing): {_previous(folder)}")
        if _sha256(folder / name) != checksum:
            raise Refusal(f"{folder}: damaged (the checksum of {name} is wrong): {_previous(folder)}")
    return state


def prune(run: Path, keep: int, best_step: int | None) -> None:
    """Delete all but the newest `keep` checkpoints and the best one, and what a killed process left half-written."""
    for folder in all_of(run)[:-keep]:
        if best_step is None or folder != _folder(run, best_step):
            folder.rename(folder.with_name(f".{folder.name}.old"))  # a kill leaves it whole or gone
    for leftover in (run / CHECKPOINTS).glob(".step-*"):
        remove(leftover)


def _folder(run: Path, step: int) -> Path:
    return run / CHECKPOINTS / f"step-{step:06d}"


def _progress(folder: Path, values: dict[str, Any]) -> Progress:
    """The progress that a checkpoint holds. Raises `Refusal` where another version wrote other fields or values."""
    known = {each.name for each in fields(Progress)}
    if other := sorted(known ^ values.keys()):
        raise _of_another_version(
            folder, f"progress {'with' if other[0] in values else 'without'} {other[0]}"
        )
    try:
        return TypeAdapter(Progress).validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        raise _of_another_version(folder, f"other values of {error.errors()[0]['loc'][0]}") from error


def _of_another_version(folder: Path, what: str) -> Refusal:
    """The refusal of an undamaged checkpoint that this version can't continue from."""
    try:
        wrote = strict_json.load((folder.parent.parent / VERSIONS).read_bytes())["vgs-mlx"]
    except (OSError, ValueError, KeyError, TypeError):
        wrote = ""
    version = f"vgs-mlx {wrote}" if wrote and isinstance(wrote, str) else "another version of vgs-mlx"
    return Refusal(
        f"{folder}: written by {version}, with {what}: resume it with that version, or start a new run"
    )


def refuse_foreign(folder: Path, theirs: Identity, ours: Identity) -> None:
    """Raises a `Refusal` that names what differs between a checkpoint's identity and the run's."""
    for key in sorted(theirs.keys() & ours.keys()):
        if key.startswith("recipe ") and theirs[key] != ours[key]:
            raise Refusal(
                f"{folder}: belongs to another run: {key} was {theirs[key]!r} and is {ours[key]!r} now: "
                f"put it back, or {_previous(folder)}"
            )
    if changed := differences(theirs, ours):
        options = [f"--{role} PATH" for role in ("data", "student", "teacher") if f"the {role}'s" in changed]
        earlier = any(each < folder for each in all_of(folder.parent.parent))
        other = _previous(folder) if earlier else "start a new run"
        elsewhere = f", give its new place with {' and '.join(options)}" if options else ""
        raise Refusal(
            f"{folder}: belongs to another run, or this has changed since: {changed}: put it back{elsewhere}, "
            f"or {other}"
        )
    if lacking := sorted(theirs.keys() ^ ours.keys()):
        what = next((key for key in lacking if key in ours), lacking[0])
        raise Refusal(
            f"{folder}: from another version of vgs-mlx, which kept no fingerprint of {worded([what])}: resume it with "
            "that version (the run's versions.json names it), or start a new run"
        )


def _previous(folder: Path) -> str:
    earlier = [each for each in all_of(folder.parent.parent) if each < folder]
    if not earlier:
        return f"there is no earlier checkpoint; delete {folder} to start over from step 0"
    return f"delete {folder} to resume from the previous one, {earlier[-1].name}"


def _write_arrays(file: Path, arrays: dict[str, mx.array]) -> None:
    mx.save_safetensors(str(file), arrays, metadata={"format": "mlx"})
    _sync(file)


def _write_json(file: Path, value: Any) -> None:
    file.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    _sync(file)


def _sync(file: Path) -> None:
    with file.open("rb") as stream:
        os.fsync(stream.fileno())


def _checksum(state: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
