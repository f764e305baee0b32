"""The gentlest settings that make a command fit."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vgs_mlx.planning.plan import Lengths, Plan, changed, lengths
from vgs_mlx.planning.sizes import ModelSize
from vgs_mlx.recipe.options import Recipe

GENTLE = (
    "train.picture_cache_gb",
    "train.passes",
    "train.microbatch_size",
    "objective.chunk_size",
    "rollout.batch_size",
    "train.grad_checkpoint",
    "teacher.bits",
    "data.max_pixels",
)
"""Settings in the order of least harm. The first five change only speed; the sixth costs a forward pass per step, the
seventh makes the teacher less exact, and the last changes what the models see."""
OF_EVALUATION = ("rollout.batch_size", "data.max_pixels")
"""The gentle settings that an evaluation reads."""


@dataclass(frozen=True)
class Draft:
    """A command that is about to run, and how its plan is made under other settings."""

    recipe: Recipe
    student: ModelSize
    teacher: ModelSize | None
    seen: Lengths
    make: Callable[[Recipe, Lengths], Plan]
    keys: tuple[str, ...] = GENTLE  # that the command reads

    @property
    def plan(self) -> Plan:
        """Under its own settings."""
        return self.make(self.recipe, self.seen)


@dataclass(frozen=True)
class Remedy:
    """Settings that make a command fit, or come closest to it."""

    changes: tuple[tuple[str, Any], ...]  # (dotted key, value), in the order of least harm
    plan: Plan  # under all changes
    fits: bool


def remedy(draft: Draft, limit: int) -> Remedy:
    """Changes, the least harmful first, until the plan fits; those that prove unnecessary are dropped again."""

    def excess(changes: dict[str, Any]) -> int:
        return sum(max(0, peak - limit) for peak in _with(draft, changes).peaks.values())

    chosen: dict[str, Any] = {}
    while excess(chosen):
        tries = ({**chosen, key: value} for key, value in _gentle_first(draft, chosen))
        # the excess of all phases counts: the largest may depend on another setting
        better = next((each for each in tries if excess(each) < excess(chosen)), None)
        if better is None:
            break
        chosen = better
    if not excess(chosen):
        for key in reversed(list(chosen)):
            fewer = {name: value for name, value in chosen.items() if name != key}
            if not excess(fewer):
                chosen = fewer
    best = _with(draft, chosen)
    return Remedy(tuple(chosen.items()), best, best.peak <= limit)


def _with(draft: Draft, changes: Mapping[str, Any]) -> Plan:
    made, seen = draft.recipe, draft.seen
    for key, value in changes.items():
        made = changed(made, key, value)
        if key == "data.max_pixels":
            image = min(seen.image, lengths(made, draft.student).image)
            seen = Lengths(seen.text, image, seen.answer)
    return draft.make(made, seen)


def _gentle_first(draft: Draft, chosen: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Settings to try beside those chosen, each smaller than it is now, in the order of `draft.keys`."""
    recipe, student = draft.recipe, draft.student
    pixels = student.vision.token_pixels
    packs = draft.teacher and draft.teacher.language_weights.packable
    bits = chosen.get("teacher.bits", recipe.teacher.bits or 16)
    unset = {
        "train.picture_cache_gb": [0] if recipe.train.picture_cache_gb else [],
        "train.passes": [] if recipe.train.passes == "two" else ["two"],
        "train.grad_checkpoint": [] if recipe.train.grad_checkpoint else [True],
        "teacher.bits": [each for each in (8, 4) if packs and each < bits],
    }
    halved = {
        "train.microbatch_size": (recipe.train.microbatch_size, 1),
        "objective.chunk_size": (recipe.objective.chunk_size, 8),
        "rollout.batch_size": (recipe.rollout.batch_size, 1),
        "data.max_pixels": (draft.seen.image * pixels, 64 * pixels),
    }
    for key in draft.keys:
        if key in halved:
            value, least = halved[key]
            yield from ((key, each) for each in _halves(chosen.get(key, value), least))
        elif key == "teacher.bits" or key not in chosen:
            yield from ((key, each) for each in unset[key])


def _halves(value: int, least: int) -> Iterator[int]:
    while value // 2 >= least:
        value //= 2
        yield value
