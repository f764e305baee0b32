"""What a plan says to a reader: does it fit, the bytes as a table, and what to change where it doesn't."""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from vgs_mlx import device as devices
from vgs_mlx.errors import Refusal
from vgs_mlx.models.sizes import ModelSize, read_size
from vgs_mlx.planning import plan
from vgs_mlx.planning.plan import Lengths, Plan
from vgs_mlx.recipe import Recipe
from vgs_mlx.recipe_objective import resolved

UNITS = {"KB": 2**10, "MB": 2**20, "GB": 2**30, "TB": 2**40}
"""A machine that is sold with 16 GB has 16 x 2^30 bytes."""
RUNS_AT_ONCE = "VGS_MLX_RUNS_AT_ONCE"
"""The environment's word for how many runs share this machine's memory, as under `vgs-mlx ablate --jobs`."""


@dataclass(frozen=True)
class Memory:
    """What a run may take, in bytes."""

    limit: int
    about: str


@dataclass(frozen=True)
class Remedy:
    """Settings that make a run fit, or the best that settings can do."""

    changes: tuple[tuple[str, Any], ...]  # (dotted key, value), in the order of least harm
    plan: Plan  # with all of them
    fits: bool
    trains_all: bool  # weights and no adapters


def memory_of(given: str | None, device: str) -> Memory:
    """The memory of a machine that is described (`16GB`), or of this one. Raises `Refusal`.

    A Mac lets the GPU have a share of its memory: two thirds up to 32 GB, three quarters above, as Metal's
    `recommendedMaxWorkingSetSize` says on such machines.
    """
    if given is None:
        return _this_machine()
    match = re.fullmatch(r"\s*([0-9.]+)\s*([KMGT])(i?B)?\s*", given, re.IGNORECASE)
    try:
        size = float(match.group(1)) * UNITS[match.group(2).upper() + "B"] if match else 0
    except ValueError:
        size = 0
    if size <= 0:
        raise Refusal(f"--memory {given}: write it like 16GB, and above 0")
    if device != "metal":
        return Memory(int(size), f"{given} of memory")
    share = 2 / 3 if size <= 32 * 2**30 else 3 / 4
    return Memory(int(size * share), f"what Metal lets a process use on a Mac with {given}")


def _this_machine() -> Memory:
    import mlx.core as mx

    info = mx.device_info() if devices.backend() != "cpu" else {}
    if recommended := info.get("max_recommended_working_set_size"):
        return Memory(int(recommended), "this Mac's recommended working set")
    if total := info.get("total_memory"):
        return Memory(int(total), "this GPU's memory")
    return Memory(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "this machine's memory")


def remedy(
    recipe: Recipe, student: ModelSize, teacher: ModelSize | None, seen: Lengths, device: str, limit: int
) -> Remedy:
    """Changes, least harm first, until the plan fits; then those that turn out not to be needed are dropped."""

    def planned(changes: dict[str, Any]) -> Plan:
        made, lengths = recipe, seen
        for key, value in changes.items():
            made = plan.changed(made, key, value)
            if key == "data.max_pixels":
                lengths = Lengths(seen.text, min(seen.image, plan.lengths(made, student).image), seen.packs)
        return plan.make(made, student, teacher, lengths, device)

    def excess(made: Plan) -> int:
        return sum(max(0, peak - limit) for peak in made.peaks.values())

    chosen: dict[str, Any] = {}
    best = planned(chosen)
    while best.peak > limit:
        tries = (
            {**chosen, key: value} for key, value in _gentle_first(recipe, student, teacher, seen, chosen)
        )
        # of any phase: the largest may be another setting's to mend
        better = next((each for each in tries if excess(planned(each)) < excess(best)), None)
        if better is None:
            break
        chosen, best = better, planned(better)
    if best.peak <= limit:
        for key in reversed(list(chosen)):
            fewer = {name: value for name, value in chosen.items() if name != key}
            if planned(fewer).peak <= limit:
                chosen = fewer
    best = planned(chosen)
    return Remedy(tuple(chosen.items()), best, best.peak <= limit, recipe.student.train == "full")


def _gentle_first(
    recipe: Recipe, student: ModelSize, teacher: ModelSize | None, seen: Lengths, chosen: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
    """Settings to try beside those chosen, each smaller than it is by now.

    The first four change nothing but speed, the fifth costs a forward pass a step, the sixth the teacher's
    exactness, and the last what the models see.
    """

    def smaller(key: str, value: int, least: int) -> Iterator[tuple[str, int]]:
        return ((key, each) for each in _halves(chosen.get(key, value), least))

    if recipe.train.picture_cache_gb and "train.picture_cache_gb" not in chosen:
        yield "train.picture_cache_gb", 0
    yield from smaller("train.microbatch_size", recipe.train.microbatch_size, 1)
    yield from smaller("objective.chunk_size", recipe.objective.chunk_size, 8)
    yield from smaller("rollout.batch_size", recipe.rollout.batch_size, recipe.rollout.completions_per_prompt)
    if not recipe.train.grad_checkpoint:
        yield "train.grad_checkpoint", True
    if teacher and teacher.language_weights.packable:
        now = chosen.get("teacher.bits", recipe.teacher.bits or 16)
        yield from (("teacher.bits", bits) for bits in (8, 4) if bits < now)
    pixels = (student.vision.patch * student.vision.merge) ** 2
    yield from smaller("data.max_pixels", seen.image * pixels, 64 * pixels)


def _halves(value: int, least: int) -> Iterator[int]:
    while value // 2 >= least:
        value //= 2
        yield value


def run(
    recipe: Recipe,
    *,
    device: str | None,
    memory: str | None,
    tokens: tuple[int, int] | None,
    json_file: Path | None,
    say: Callable[[str], None],
) -> bool:
    """Print the plan of a recipe; whether it fits. Reads configs and headers, no weights. Raises `Refusal`."""
    kind = device or devices.backend()
    if tokens and (tokens[0] < 1 or tokens[1] < 0):
        raise Refusal(
            f"--tokens {tokens[0]} {tokens[1]}: a prompt has 1 text token or more, and 0 image tokens or more"
        )
    student = read_size(recipe.student.path, "--student")
    teacher = read_size(recipe.teacher.path, "--teacher") if resolved(recipe).teacher_views else None
    seen = Lengths(*tokens) if tokens else plan.lengths(recipe, student)
    allowed = memory_of(memory, kind)
    made = plan.make(recipe, student, teacher, seen, kind)
    for size in (student, teacher):
        if size and size.source == "config":
            say(f"{size.name}: planned from its config alone: no weight files there")
    Console(highlight=False).print(table(made))
    for line in lines(made, recipe, seen, allowed, kind):
        say(line)
    if made.peak > allowed.limit:
        for line in advice(remedy(recipe, student, teacher, seen, kind, allowed.limit), allowed):
            say(line)
    if json_file:
        text = json.dumps({**asdict(made), "peaks": made.peaks, "limit": allowed.limit}, indent=2) + "\n"
        try:
            json_file.write_text(text, encoding="utf-8")
        except OSError as error:
            raise Refusal(
                f"--json {json_file}: can't be written ({error.strerror}): give another file"
            ) from error
    return made.peak <= allowed.limit


def table(made: Plan) -> Table:
    """What is there always, and beside it in each phase's fullest moment; the rows of a phase add up to its peak."""
    drawn = Table(box=None, pad_edge=False)
    drawn.add_column("in memory")
    drawn.add_column("GB", justify="right")
    drawn.add_column("while")
    for name, value in made.resting.items():
        drawn.add_row(name, gigabytes(value), "always")
    for phase, there in made.fullest.items():
        for name in there:
            if made.parts[name]:
                drawn.add_row(name, gigabytes(made.parts[name]), phase)
        drawn.add_row(f"PEAK of {phase}", gigabytes(made.peaks[phase]), "these and what is there always")
    return drawn


def lines(made: Plan, recipe: Recipe, seen: Lengths, allowed: Memory, device: str) -> list[str]:
    """The plan in three lines."""
    verdict = "fits" if made.peak <= allowed.limit else "DOES NOT FIT"
    resting = sum(made.resting.values())
    return [
        f"plan     {device}: {gigabytes(resting)} GB of weights and optimiser; prompts of {seen.text:,} text and "
        f"{seen.image:,} image tokens, completions of {recipe.rollout.max_completion_length:,}",
        f"         peak at most {gigabytes(made.peak)} GB ({made.phase}); "
        + ", ".join(f"{name} {gigabytes(value)}" for name, value in made.peaks.items())
        + f"; at most {made.tokens['sampled']:,} sampled tokens a step",
        f"         {verdict} in {gigabytes(allowed.limit)} GB, {allowed.about}",
    ]


def advice(found: Remedy, allowed: Memory) -> list[str]:
    """What to change, in words. Settings that change what models see are named as that."""
    adapters = "adapters (student.train=lora), " if found.trains_all else ""
    if not found.changes:
        return [
            f"none of the gentle settings makes it smaller: {adapters}a smaller student or teacher is needed"
        ]
    sets = " ".join(f"--set {key}={json.dumps(value)}" for key, value in found.changes)
    opening = "with" if found.fits else "even with"
    told = [f"{opening} {sets}: peak {gigabytes(found.plan.peak)} GB ({found.plan.phase})"]
    keys = [key for key, _ in found.changes]
    if "teacher.bits" in keys:
        told.append("teacher.bits rounds the teacher's weights: it will judge slightly otherwise")
    if "data.max_pixels" in keys:
        told.append(
            "data.max_pixels makes pictures smaller: what is small in them may be lost to both models"
        )
    if not found.fits:
        told.append(
            f"that is still above {gigabytes(allowed.limit)} GB: {adapters}shorter completions "
            "(rollout.max_completion_length), fewer prompts a step or smaller models are needed"
        )
    return told


def gigabytes(value: int) -> str:
    """Bytes as GB (10^9), as metrics and screen have them; a machine sold with 16 GB has 17.18 of these."""
    return f"{value / 1e9:.2f}"


def check(
    recipe: Recipe, folders: Mapping[str, Path], seen: Lengths, force: bool, say: Callable[[str], None]
) -> None:
    """Say what a run will need on this machine, before its weights are loaded. Raises `Refusal` unless forced."""
    kind = devices.backend()
    sizes = {role: read_size(str(folder), f"--{role}") for role, folder in folders.items()}
    student, teacher = sizes["student"], sizes.get("teacher")
    made, whole = plan.make(recipe, student, teacher, seen, kind), memory_of(None, kind)
    runs = int(os.environ.get(RUNS_AT_ONCE, "1"))
    allowed = Memory(whole.limit // runs, f"a share of 1/{runs} of {whole.about}") if runs > 1 else whole
    for line in lines(made, recipe, seen, allowed, kind):
        say(line)
    if allowed.limit < made.peak <= whole.limit and not force:
        raise Refusal(
            f"the run fits in memory, but not {runs} side by side: it needs up to {gigabytes(made.peak)} GB and has "
            f"{gigabytes(allowed.limit)} GB, {allowed.about}: give --jobs {whole.limit // made.peak}"
        )
    if made.peak > allowed.limit and not force:
        told = "; ".join(advice(remedy(recipe, student, teacher, seen, kind, allowed.limit), allowed))
        raise Refusal(f"the run doesn't fit in memory: {told}; or --force to try all the same")
