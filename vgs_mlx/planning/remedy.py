"""The gentlest settings that make a command fit."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vgs_mlx.planning.plan import Lengths, Plan, changed, lengths
from vgs_mlx.planning.sizes import ModelSize
from vgs_mlx.recipe.options import Recipe

GENTLE = (
    "train.picture_cache_gb",
    "train.microbatch_size",
    "objective.chunk_size",
    "rollout.batch_size",
    "train.grad_checkpoint",
    "teacher.bits",
    "data.max_pixels",
)
"""Settings in the order of least harm: the first four change nothing but speed, the fifth costs a forward pass a step,
the sixth the teacher's exactness, and the last what the models see."""
OF_EVALUATION = ("rollout.batch_size", "data.max_pixels")
"""Those that change how a model is asked."""


@dataclass(frozen=True)
class Planned:
    """What a command is about to do, and its plan under other settings."""

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
    """Settings that make a command fit, or the best that settings can do."""

    changes: tuple[tuple[str, Any], ...]  # (dotted key, value), in the order of least harm
    plan: Plan  # with all of them
    fits: bool


def remedy(planned: Planned, limit: int) -> Remedy:
    """Changes, least harm first, until the plan fits; then those that turn out not to be needed are dropped."""

    def excess(changes: dict[str, Any]) -> int:
        return sum(max(0, peak - limit) for peak in _with(planned, changes).peaks.values())

    chosen: dict[str, Any] = {}
    while excess(chosen):
        tries = ({**chosen, key: value} for key, value in _gentle_first(planned, chosen))
        # of any phase: the largest may be another setting's to make smaller
        better = next((each for each in tries if excess(each) < excess(chosen)), None)
        if better is None:
            break
        chosen = better
    if not excess(chosen):
        for key in reversed(list(chosen)):
            fewer = {name: value for name, value in chosen.items() if name != key}
            if not excess(fewer):
                chosen = fewer
    best = _with(planned, chosen)
    return Remedy(tuple(chosen.items()), best, best.peak <= limit)


def _with(planned: Planned, changes: Mapping[str, Any]) -> Plan:
    made, seen = planned.recipe, planned.seen
    for key, value in changes.items():
        made = changed(made, key, value)
        if key == "data.max_pixels":
            image = min(seen.image, lengths(made, planned.student).image)
            seen = Lengths(seen.text, image, seen.packs, seen.answer)
    return planned.make(made, seen)


def _gentle_first(planned: Planned, chosen: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Settings to try beside those chosen, each smaller than it is by now, in the order of `planned.keys`."""
    recipe, student = planned.recipe, planned.student
    pixels = student.vision.token_pixels
    packs = planned.teacher and planned.teacher.language_weights.packable
    bits = chosen.get("teacher.bits", recipe.teacher.bits or 16)
    unset = {
        "train.picture_cache_gb": [0] if recipe.train.picture_cache_gb else [],
        "train.grad_checkpoint": [] if recipe.train.grad_checkpoint else [True],
        "teacher.bits": [each for each in (8, 4) if packs and each < bits],
    }
    halved = {
        "train.microbatch_size": (recipe.train.microbatch_size, 1),
        "objective.chunk_size": (recipe.objective.chunk_size, 8),
        "rollout.batch_size": (recipe.rollout.batch_size, 1),
        "data.max_pixels": (planned.seen.image * pixels, 64 * pixels),
    }
    for key in planned.keys:
        if key in halved:
            value, least = halved[key]
            yield from ((key, each) for each in _halves(chosen.get(key, value), least))
        elif key == "teacher.bits" or key not in chosen:
            yield from ((key, each) for each in unset[key])


def _halves(value: int, least: int) -> Iterator[int]:
    while value // 2 >= least:
        value //= 2
        yield value
