"""What a plan says to its reader: whether it fits, the bytes as a table, and what to change where it doesn't fit."""

import json
import os
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from vgs_mlx import device as devices
from vgs_mlx.device import Memory, memory_of
from vgs_mlx.errors import Refusal
from vgs_mlx.planning import commands
from vgs_mlx.planning.commands import Answering
from vgs_mlx.planning.plan import Lengths, Plan, lengths
from vgs_mlx.planning.remedy import OF_EVALUATION, Draft, Remedy, remedy
from vgs_mlx.planning.sizes import ModelSize, read_size
from vgs_mlx.recipe.objective import needs_teacher, sampler
from vgs_mlx.recipe.options import Recipe

RUNS_AT_ONCE = "VGS_MLX_RUNS_AT_ONCE"
"""The environment variable with the number of runs that share this machine's memory, set by `vgs-mlx ablate --jobs`."""


class DoesNotFit(Refusal):
    """A command needs more memory than there is."""


def run(
    recipe: Recipe,
    *,
    device: str | None,
    memory: str | None,
    tokens: tuple[int, int] | None,
    json_file: Path | None,
    say: Callable[[str], None],
) -> bool:
    """Print the plan of a recipe; return whether it fits. Reads configs and headers, no weights. Raises `Refusal`."""
    kind = device or devices.backend()
    if tokens and (tokens[0] < 1 or tokens[1] < 0):
        raise Refusal(
            f"--tokens {tokens[0]} {tokens[1]}: a prompt has 1 text token or more, and 0 image tokens or more"
        )
    student = read_size(recipe.student.path, "--student")
    teacher = read_size(recipe.teacher.path, "--teacher") if needs_teacher(recipe) else None
    seen = Lengths(*tokens) if tokens else lengths(recipe, student)
    allowed, draft = memory_of(memory, kind), of_training(recipe, student, teacher, seen, kind)
    made = draft.plan
    for size in (student, teacher):
        if size and size.source == "config":
            say(f"{size.name}: planned from its config alone: it has no weight files")
    if sampler(recipe) is None:
        say(f"answers  the rows' own, assumed to have {recipe.rollout.max_completion_length:,} tokens; "
            "`vgs-mlx distill` measures them")  # fmt: skip
    Console(highlight=False).print(table(made))
    for line in lines(draft, allowed, kind):
        say(line)
    if made.peak > allowed.limit:
        for line in advice(draft, remedy(draft, allowed.limit), allowed):
            say(line)
    if json_file:
        _write_json(json_file, made, allowed)
    return made.peak <= allowed.limit


def of_training(
    recipe: Recipe, student: ModelSize, teacher: ModelSize | None, seen: Lengths, device: str
) -> Draft:
    """A run of `vgs-mlx distill` on a device."""

    def make(changed: Recipe, lengths: Lengths) -> Plan:
        return commands.training(changed, student, teacher, lengths, device)

    return Draft(recipe, student, teacher, seen, make)


def of_evaluation(
    recipe: Recipe,
    student: ModelSize,
    seen: Lengths,
    device: str,
    *,
    trained: bool,
    answering: Answering,
) -> Draft:
    """`vgs-mlx evaluate` for a run's student with its adapters (`trained`), or for a model as it is."""

    def make(changed: Recipe, lengths: Lengths) -> Plan:
        return commands.evaluation(changed, student, lengths, device, trained=trained, answering=answering)

    return Draft(recipe, student, None, seen, make, OF_EVALUATION)


def of_export(
    recipe: Recipe, student: ModelSize, seen: Lengths, device: str, *, prompts: int, dtype: str
) -> Draft:
    """`vgs-mlx export`, proven on `prompts` prompts; dtype `auto` may end with float32."""

    def make(changed: Recipe, lengths: Lengths) -> Plan:
        number = 2 if dtype in ("float16", "bfloat16") else 4
        return commands.export(changed, student, lengths, device, prompts=prompts, number=number)

    return Draft(recipe, student, None, seen, make, ())


def of_analysis(
    recipe: Recipe, student: ModelSize, teacher: ModelSize, seen: Lengths, device: str, *, prompts: int
) -> Draft:
    """`vgs-mlx analyze` with `prompts` prompts a batch."""

    def make(changed: Recipe, lengths: Lengths) -> Plan:
        return commands.analysis(changed, student, teacher, lengths, device, prompts=prompts)

    return Draft(recipe, student, teacher, seen, make, ())


def of_report(
    recipe: Recipe, student: ModelSize, teacher: ModelSize | None, seen: Lengths, device: str, *, prompts: int
) -> Draft:
    """`vgs-mlx report` with `prompts` held-out rows."""

    def make(changed: Recipe, lengths: Lengths) -> Plan:
        return commands.report(changed, student, teacher, lengths, device, prompts=prompts)

    return Draft(recipe, student, teacher, seen, make, ())


def _write_json(file: Path, made: Plan, allowed: Memory) -> None:
    phases = {phase.name: dict(phase.fullest) for phase in made.phases}
    values = {"resting": made.resting, "phases": phases, "peaks": made.peaks, "tokens": made.tokens}
    try:
        file.write_text(json.dumps({**values, "limit": allowed.limit}, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise Refusal(f"--json {file}: can't be written ({error.strerror}): give another file") from error


def table(made: Plan) -> Table:
    """What is always in memory, then what each phase adds in its fullest moment.

    The rows of a phase and those that are always there add up to its peak.
    """
    drawn = Table(box=None, pad_edge=False)
    drawn.add_column("in memory")
    drawn.add_column("GB", justify="right")
    drawn.add_column("while")
    for name, value in made.resting.items():
        drawn.add_row(name, gigabytes(value), "always")
    for phase in made.phases:
        for name, value in phase.fullest.items():
            if value:
                drawn.add_row(name, gigabytes(value), phase.name)
        drawn.add_row(
            f"PEAK of {phase.name}", gigabytes(made.peaks[phase.name]), "these and what is there always"
        )
    return drawn


def lines(draft: Draft, allowed: Memory, device: str) -> list[str]:
    """The plan in three lines."""
    made, seen = draft.plan, draft.seen
    answer = seen.answer or draft.recipe.rollout.max_completion_length
    verdict = "fits" if made.peak <= allowed.limit else "DOES NOT FIT"
    weights = "weights and optimiser" if "optimiser" in made.resting else "weights"
    tokens = (
        f"; at most {made.tokens['sampled']:,} sampled tokens a step" if made.tokens.get("sampled") else ""
    )
    return [
        f"plan     {device}: {gigabytes(sum(made.resting.values()))} GB of {weights}; prompts of {seen.text:,} text "
        f"and {seen.image:,} image tokens, completions of {answer:,}",
        f"         peak at most {gigabytes(made.peak)} GB ({made.phase}); "
        + ", ".join(f"{name} {gigabytes(value)}" for name, value in made.peaks.items())
        + tokens,
        f"         {verdict} in {gigabytes(allowed.limit)} GB, {allowed.about}",
    ]


def advice(draft: Draft, best: Remedy, allowed: Memory) -> list[str]:
    """What to change, in words, with a warning about settings that change what the models see or judge."""
    trains = "train.microbatch_size" in draft.keys
    adapters = "adapters (student.train=lora), " if trains and draft.recipe.student.train == "full" else ""
    if not best.changes:
        models = "student or teacher" if trains else "model"
        return [f"none of the gentle settings makes it smaller: {adapters}a smaller {models} is needed"]
    sets = " ".join(f"--set {key}={json.dumps(value)}" for key, value in best.changes)
    opening = "with" if best.fits else "even with"
    said = [f"{opening} {sets}: peak {gigabytes(best.plan.peak)} GB ({best.plan.phase})"]
    keys = [key for key, _ in best.changes]
    if "teacher.bits" in keys:
        said.append("teacher.bits rounds the teacher's weights: it will judge slightly differently")
    if "data.max_pixels" in keys:
        said.append("data.max_pixels makes pictures smaller: what is small in them may be lost")
    if not best.fits:
        fewer = "fewer prompts a step " if trains else ""
        said.append(
            f"that is still above {gigabytes(allowed.limit)} GB: {adapters}shorter completions "
            f"(rollout.max_completion_length), {fewer}or smaller models are needed"
        )
    return said


def gigabytes(value: int) -> str:
    """Bytes as GB (10^9), as in metrics and on the screen; a machine sold with 16 GB has 17.18 of these."""
    return f"{value / 1e9:.2f}"


def check(
    draft: Draft,
    what: str,
    force: bool,
    say: Callable[[str], None],
    otherwise: str = "use --force to try anyway",
) -> Plan:
    """Say what a command will need on this machine before its weights load, then bound MLX's buffer cache to the rest.

    `what` names the command ("the run"); `otherwise` is what can be done besides changing settings. Raises `Refusal`
    where it doesn't fit, unless forced.
    """
    kind, made, whole = devices.backend(), draft.plan, memory_of(None, devices.backend())
    runs = int(os.environ.get(RUNS_AT_ONCE, "1"))
    allowed = Memory(whole.limit // runs, f"a share of 1/{runs} of {whole.about}") if runs > 1 else whole
    for line in lines(draft, allowed, kind):
        say(line)
    if allowed.limit < made.peak <= whole.limit and not force:
        raise Refusal(
            f"{what} fits in memory, but not {runs} side by side: it needs up to {gigabytes(made.peak)} GB and has "
            f"{gigabytes(allowed.limit)} GB, {allowed.about}: give --jobs {whole.limit // made.peak}"
        )
    if made.peak > allowed.limit and not force:
        needs = (
            f"it needs up to {gigabytes(made.peak)} GB and has {gigabytes(allowed.limit)} GB, {allowed.about}"
        )
        said = advice(draft, remedy(draft, allowed.limit), allowed) if draft.keys else [needs]
        raise DoesNotFit(f"{what} doesn't fit in memory: {'; '.join(said)}; or {otherwise}")
    _bound_cache(draft.recipe.train.cache_limit_gb, made.peak, allowed.limit, say)
    return made


def _bound_cache(given: float | None, peak: int, memory: int, say: Callable[[str], None]) -> None:
    """Bound MLX's buffer cache. The CPU build has a small bound of its own, which stays unless the recipe gives one."""
    if given is None and devices.backend() == "cpu":
        return
    size = devices.default_cache_limit(peak, memory) if given is None else round(given * 1e9)
    devices.limit_cache(size)
    say(
        f"         MLX keeps at most {gigabytes(size)} GB of freed buffers beside that (train.cache_limit_gb)"
    )
