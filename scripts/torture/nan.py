"""A value that is not finite, anywhere in a step: the update is skipped, and the third in a row stops the run.

Each trial is a short real run, in this process, on models that are loaded already. In one, two or three steps in a row
one element somewhere becomes nan, inf or -inf: of a random micro-batch, view and leaf at one of the sites of
spoiling.py. Then

* exactly these steps are noted as skipped, with their rows, in files that any JSON reader takes;
* weights and AdamW's state after a skipped step are the bytes of before it, and others after every other step;
* nothing but the run itself speaks of it: no library warns;
* the third in a row ends the run with its message; a run with fewer ends as ever.
"""

import itertools
import json
import random
import shutil
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from torture import made
from torture.outcome import Outcome, outcome
from torture.spoiling import SITES, Site, Spoiler, spoiling

# isort: split
import toy_runs
from vgs_mlx.errors import Refusal
from vgs_mlx.runs import checkpoint
from vgs_mlx.runs import folder as run_folder
from vgs_mlx.train import loop
from vgs_mlx.train import optimizer as adamw
from vgs_mlx.train.step import Progress

TRIALS = 60
STEPS = 5
COMMON = (
    *made.SMALL, "rollout.max_completion_length=4", f"train.steps={STEPS}", f"train.evaluate_every={STEPS}",
    "train.checkpoint_every=1", "train.keep_checkpoints=9", "objective.norm_scale_every=1",
    "train.passes=two",  # the sites are its
)  # fmt: skip
SETTINGS = {
    "vgs": made.LORA,
    "full": ("student.train=full", "objective.norm_scale=exact"),
    "watched": (*made.LORA, "objective.name=standard", "objective.watch_norm_scale=true"),
    "adaptive": (*made.LORA, "objective.name=adaptive", "objective.norm_scale_every=2"),
    "va-opd": (*made.LORA, "objective.name=va-opd"),
    "grpo": (*made.LORA, "objective.name=grpo", "grpo.updates_per_rollout=1", "objective.mix=0.5"),
}


def run(count: int | None, seed: int, folder: Path) -> Outcome:
    """`count` trials (60), the sites in turn."""
    rng, failures, ends = random.Random(seed), [], Counter()
    for number in range(count or TRIALS):
        name = list(SITES)[number % len(SITES)]
        setting = rng.choice(SITES[name].only or tuple(SETTINGS))
        spoiler = _spoiler(SITES[name], rng)
        place = folder / str(number)
        faults = _tried(place, (*COMMON, *SETTINGS[setting]), SITES[name], spoiler)
        ends[len(spoiler.hits)] += 1
        if faults:
            where = f"{spoiler.value} in the {name}, call {spoiler.call}, steps {sorted(spoiler.steps)}"
            failures.append(f"{place} ({setting}; {where}): {'; '.join(faults)}")
        else:
            shutil.rmtree(place)
    total = sum(ends.values())
    return outcome(
        f"{total} runs with a value that is not finite at one of {len(SITES)} sites: {ends[1]} in one step, "
        f"{ends[2]} in two, {ends[3]} in three; in {len(failures)} of them not as it should be",
        failures,
    )


def _spoiler(site: Site, rng: random.Random) -> Spoiler:
    length = rng.randint(1, 3)
    start = rng.randrange(STEPS - length + 1)
    steps = frozenset(range(start, start + length))
    return Spoiler(steps, rng.randint(1, site.calls), rng.choice(site.values), rng)


def _tried(place: Path, sets: tuple[str, ...], site: Site, spoiler: Spoiler) -> list[str]:
    """A run that is spoilt; what is wrong with it."""
    ready, folder = toy_runs.ready(*sets), place / "run"
    run_folder.create(folder, ready.recipe)
    optimizer = adamw.make(ready.recipe.train, ready.student)
    checkpoint.save(place, ready.student, optimizer, Progress(), ready.recipe.student, ready.identity)
    said = ""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            with spoiling(site, spoiler):
                loop.run(ready, folder, toy_runs.QUIET)
        except Refusal as refusal:
            said = str(refusal)
    hits = [each + 1 for each in spoiler.hits]  # as the run counts
    faults = [] if hits else ["nothing was spoilt"]
    faults += sorted({f"{each.filename}:{each.lineno} warns: {each.message}" for each in heard})
    faults += _noted(folder, hits) + _moved(place, folder, hits)
    if len(hits) == loop.MOST_SKIPPED_IN_A_ROW and hits[-1] - hits[0] == len(hits) - 1:
        stopped = f"stopped at step {hits[-1]}: the loss or its gradient was not finite"
        faults += [] if said.startswith(stopped) and "\n" not in said else [f"it did not stop so: {said!r}"]
    elif said or loop.finished_steps(folder) != STEPS:
        faults.append(f"it did not finish: {said!r}")
    return faults


def _noted(folder: Path, hits: Sequence[int]) -> list[str]:
    """What is wrong with the rows of a run that skipped these steps."""
    try:
        rows = [_strict(line) for line in (folder / run_folder.METRICS).read_text().splitlines()]
        for file in folder.rglob("*.json"):
            _strict(file.read_text())
    except ValueError as error:
        return [str(error)]
    skipped = [row["step"] for row in rows if not row["finite"]]
    listed = [row["step"] for row in run_folder.rows(folder / run_folder.BAD_BATCHES) if row["rows"]]
    faults = [] if skipped == hits else [f"skipped {skipped} and not {hits}"]
    return faults + ([] if listed == hits else [f"{run_folder.BAD_BATCHES} lists {listed} and not {hits}"])


def _strict(text: str) -> dict:
    """JSON without NaN and Infinity, which not every reader knows. Raises `ValueError`."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} in a JSON file: {text[:200]}")

    return json.loads(text, parse_constant=refuse)


def _moved(place: Path, folder: Path, hits: Sequence[int]) -> list[str]:
    """What is wrong with the checkpoints of such a run: skipped steps change nothing, others do."""
    faults, states = [], [*checkpoint.all_of(place), *checkpoint.all_of(folder)]
    for before, after in itertools.pairwise(states):
        number = int(after.name.removeprefix("step-"))
        same = {
            file.name: file.read_bytes() == (before / file.name).read_bytes()
            for file in after.glob("*.safetensors")
        }
        if number in hits and not all(same.values()):
            faults.append(
                f"step {number} was to be skipped and changed {', '.join(k for k, v in same.items() if not v)}"
            )
        if number not in hits and any(same.values()):
            faults.append(f"step {number} changed nothing")
    return faults
