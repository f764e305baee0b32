"""What a run's checkpoints belong to, and what may change when it is resumed."""

import hashlib
from typing import Any

from vgs_mlx import recipe_file
from vgs_mlx.data.datasets import DataSet
from vgs_mlx.errors import Refusal
from vgs_mlx.models.base import LoadedModel
from vgs_mlx.recipe import Recipe
from vgs_mlx.recipe_objective import resolved
from vgs_mlx.train import rewards
from vgs_mlx.train.checkpoint import Identity, fingerprint
from vgs_mlx.types import Example

FREE_ON_RESUME = (
    "train.steps", "train.checkpoint_every", "train.keep_checkpoints", "train.picture_cache_gb", "train.cache_limit_gb"
)  # fmt: skip
"""Keys that may change when a run is resumed."""
CONTENTS = ("student", "teacher", "data", "reward")
"""The keys of an identity that stand for what is in files."""


def _fixed(recipe: Recipe) -> dict[str, Any]:
    """The recipe's keys that a resumed run must share, flat. Model and data paths have their fingerprints."""
    left_out = (*FREE_ON_RESUME, "student.path", "teacher.path", "data.source", "data.held_out")
    kept = {key: value for key, value in recipe_file.flat(recipe).items() if key not in left_out}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in kept.items()}


def identify(recipe: Recipe, student: LoadedModel, teacher: LoadedModel | None, data: DataSet) -> Identity:
    """What the checkpoints of such a run belong to."""
    return {
        "student": fingerprint(student.folder),
        "teacher": "none" if teacher is None else fingerprint(teacher.folder),
        "data": _data_fingerprint(data),
        **_own_reward(recipe),
        **{f"recipe {key}": value for key, value in _fixed(recipe).items()},
    }


def _own_reward(recipe: Recipe) -> dict[str, str]:
    found = rewards.fingerprint(recipe.grpo) if resolved(recipe).rewarded else None
    return {} if found is None else {"reward": found}


def contents(identity: Identity, data: DataSet) -> dict[str, str]:
    """What a run was made from, whatever its seed: the fingerprints of its models, its reward and all rows together."""
    lines = sorted(_line(example) for part in (data.train, data.held_out) for example in part)
    rows = hashlib.sha256("".join(lines).encode()).hexdigest()[:16]
    return {**{name: identity[name] for name in CONTENTS if name in identity}, "data set": rows}


def _data_fingerprint(data: DataSet) -> str:
    digest = hashlib.sha256()
    for part in (data.train, data.held_out):
        digest.update(f"{len(part)}\n".encode())
        for example in part:
            digest.update(_line(example).encode())
    return digest.hexdigest()[:16]


def _line(example: Example) -> str:
    return f"{example.id}\t{example.question}\t{example.answer}\n"


def refuse_changes(before: Recipe, after: Recipe) -> None:
    """Only FREE_ON_RESUME may differ between a run's recipe and the one it is resumed with. Raises `Refusal`."""
    old, new = _fixed(before), _fixed(after)
    changed = [key for key in old if old[key] != new[key]]
    changed += [
        key
        for key in ("data.source", "data.held_out", "student.path", "teacher.path")
        if recipe_file.flat(before)[key] != recipe_file.flat(after)[key]
    ]
    if changed:
        raise Refusal(
            f"--set {changed[0]}: a resumed run must stay what it is; only {', '.join(FREE_ON_RESUME)} may change. "
            "Start a new run for this"
        )
