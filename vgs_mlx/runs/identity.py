"""What a run's checkpoints belong to, what may change when it is resumed, and differences in words.

An identity has a fingerprint for each part of what a run learns from, so that a difference names the part. None
depends on a path: data and models that moved stay the same.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from vgs_mlx.data.datasets import DataSet
from vgs_mlx.errors import Refusal
from vgs_mlx.models.base import LoadedModel
from vgs_mlx.recipe import file as recipe_file
from vgs_mlx.recipe.objective import resolved
from vgs_mlx.recipe.options import Recipe
from vgs_mlx.recipe.paths import reward_file
from vgs_mlx.types import Example

Identity = dict[str, Any]
"""What a checkpoint belongs to: plain values, compared one by one."""

FREE_ON_RESUME = (
    "train.steps", "train.checkpoint_every", "train.keep_checkpoints", "train.picture_cache_gb", "train.cache_limit_gb",
    "train.keep_awake", "train.passes",
)  # fmt: skip
"""Keys that may change when a run is resumed."""
PLACES = {
    "data.source": "--data PATH",
    "data.held_out": "--set data.held_out=PATH",
    "student.path": "--student PATH",
    "teacher.path": "--teacher PATH",
}
"""Keys that name a place, and the option that gives the new one: data and models may move, and are recognised."""
MODELS = ("student", "teacher")
MOST_NAMED = 3  # parts of the data, in words
LOOKS, LOOK_BYTES = 32, 65_536  # samples of a weight file, by which a model is recognised
TOKENIZER = (
    "tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt", "added_tokens.json", "special_tokens_map.json",
)  # fmt: skip
ROW: dict[str, Callable[[Example], Any]] = {
    "ids": lambda row: row.id,
    "questions": lambda row: row.question,
    "answers": lambda row: row.answers if row.also else row.answer,
    "pictures": lambda row: [
        [picture.name, picture.size] for picture in row.pictures
    ],  # bytes: see ledger.py
    "kinds": lambda row: row.kind,
    "solutions": lambda row: row.solution,
    "facts": lambda row: row.facts,
}
"""The parts of a row, each with its own fingerprint over all rows."""


def identify(recipe: Recipe, student: LoadedModel, teacher: LoadedModel | None, data: DataSet) -> Identity:
    """The identity of a run's checkpoints."""
    return {
        **of_model("student", student.folder),
        **({"teacher": "none"} if teacher is None else of_model("teacher", teacher.folder)),
        **of_data(data),
        **_own_reward(recipe),
        **{f"recipe {key}": value for key, value in _fixed(recipe).items()},
    }


def contents(identity: Identity, data: DataSet) -> dict[str, str]:
    """The fingerprints of what a run was made from: its models, its reward, its rows, and all rows together.

    The last is the same for every seed, where seeds divide the rows differently.
    """
    lines = sorted(_line([part(row) for part in ROW.values()]) for row in (*data.train, *data.held_out))
    kept = {key: value for key, value in identity.items() if not key.startswith("recipe ")}
    return {**kept, "all rows": _digest(lines)}


def of_data(data: DataSet) -> dict[str, str]:
    """A fingerprint of each part of the rows, in their order, training and held-out rows apart."""
    parts = (data.train, data.held_out)
    return {
        f"data {name}": _digest(_line([value(row) for row in rows]) for rows in parts)
        for name, value in ROW.items()
    }


def of_model(role: str, folder: Path) -> dict[str, str]:
    """A fingerprint of each part of a model folder that decides what is computed with it."""
    settings, processor, generation = (
        _object(folder / name)
        for name in ("tokenizer_config.json", "processor_config.json", "generation_config.json")
    )
    templates = [each.pop("chat_template", None) for each in (settings, processor)]
    return {
        role: fingerprint(folder),
        f"{role} tokenizer": _digest([_line(settings), *_texts(folder, *TOKENIZER)]),
        f"{role} chat template": _digest(
            [_line(templates), *_texts(folder, "chat_template.jinja", "chat_template.json")]
        ),
        f"{role} picture settings": _digest([_line(processor), *_texts(folder, "preprocessor_config.json")]),
        f"{role} end tokens": _digest([_line(generation.get("eos_token_id"))]),
    }


def fingerprint(folder: Path) -> str:
    """Identifies a folder of weights by its config, if any, and its weight files: names, sizes, samples of their bytes.

    Hashing all of 20 GB would take minutes. A model fine-tuned from this one differs at nearly every place.
    """
    config = folder / "config.json"
    digest = hashlib.sha256(config.read_bytes() if config.exists() else b"")  # a run's weights have none
    for file in sorted(folder.glob("*.safetensors")):
        size = file.stat().st_size
        digest.update(f"{file.name} {size} ".encode())
        with file.open("rb") as stream:
            for look in range(LOOKS):
                stream.seek(size * look // LOOKS)
                digest.update(stream.read(LOOK_BYTES))
    return digest.hexdigest()[:16]


def differences(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    """The fingerprints that both have and that differ, in words: "the data's answers and solutions"; "" for none."""
    return worded(
        key for key in ours if not key.startswith("recipe ") and theirs.get(key, ours[key]) != ours[key]
    )


def worded(keys: Iterable[str]) -> str:
    """Keys of fingerprints in words: "the student's chat template, the reward"."""
    parts: dict[str, list[str]] = {}
    for key in keys:
        role, _, part = ("data", " ", "rows") if key == "all rows" else key.partition(" ")
        if role not in (*MODELS, "data"):
            role, part = key, ""
        parts.setdefault(role, []).append(part or ("weights or config.json" if role in MODELS else ""))
    if len(parts.get("data", ())) > MOST_NAMED:  # other rows altogether
        parts["data"] = ["rows"]
    return ", ".join(
        f"the {role}'s {' and '.join(named)}" if any(named) else f"the {role}"
        for role, named in parts.items()
    )


def refuse_changes(before: Recipe, after: Recipe) -> None:
    """Only FREE_ON_RESUME and PLACES may differ between a run's recipe and the one it is resumed with.

    What a place holds is compared later, by its fingerprints. Raises `Refusal`.
    """
    old, new = _fixed(before), _fixed(after)
    if changed := [key for key in old if old[key] != new[key]]:
        raise Refusal(
            f"--set {changed[0]}: a resumed run keeps its recipe; only {', '.join(FREE_ON_RESUME)} may change, and "
            "--data, --student and --teacher give the new place of what moved: start a new run for this"
        )


def moved(before: Recipe, after: Recipe) -> list[str]:
    """The PLACES that differ between two recipes of a run."""
    old, new = recipe_file.flat(before), recipe_file.flat(after)
    return [key for key in PLACES if old[key] != new[key]]


def _fixed(recipe: Recipe) -> dict[str, Any]:
    """The recipe's keys that a resumed run must share, flat. What a path holds is compared by its fingerprints."""
    kept = {
        key: value for key, value in recipe_file.flat(recipe).items() if key not in (*FREE_ON_RESUME, *PLACES)
    }
    kept["grpo.reward"] = recipe.grpo.reward.rpartition(":")[2]
    kept["data.held_out"] = _share(recipe.data.held_out)
    return {key: list(value) if isinstance(value, tuple) else value for key, value in kept.items()}


def _share(held_out: str | float) -> float | None:
    """The share or number of held-out rows; None for a file or a split, which has its fingerprints."""
    try:
        return float(held_out)
    except ValueError:
        return None


def _own_reward(recipe: Recipe) -> dict[str, str]:
    found = of_reward(recipe.grpo.reward) if resolved(recipe).rewarded else None
    return {} if found is None else {"reward": found}


def _object(file: Path) -> dict[str, Any]:
    """A JSON object in a file; {} where there is none that can be read."""
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _texts(folder: Path, *names: str) -> list[str]:
    """For each file that is there, its name and the digest of its bytes."""
    found = [folder / name for name in names if (folder / name).is_file()]
    return [_line([file.name, hashlib.sha256(file.read_bytes()).hexdigest()]) for file in found]


def _line(value: Any) -> str:
    """A value as one line of JSON: line ends in texts are escaped."""
    return json.dumps(value, sort_keys=True)


def _digest(lines: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(f"{line}\n".encode())
    return digest.hexdigest()[:16]


def of_reward(reward: str) -> str | None:
    """The fingerprint of the file with the user's reward function; None for a built-in reward."""
    file = reward_file(reward)
    return None if file is None else hashlib.sha256(file.read_bytes()).hexdigest()[:16]
