"""All loss terms on rollouts, for any objective, and their course on fixed held-out rollouts (Fig. 4)."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field, NonNegativeInt, TypeAdapter

from vgs_mlx.errors import Refusal
from vgs_mlx.formats import strict_json
from vgs_mlx.models.base import LoadedModel
from vgs_mlx.objective.binning import GROUPS, bins, edges
from vgs_mlx.objective.objectives import ALL_TERMS, OBJECTIVES
from vgs_mlx.objective.weightings import Batch
from vgs_mlx.recipe.options import WATCHED_ROWS, Recipe
from vgs_mlx.rollout.batches import prompts_at_once
from vgs_mlx.rollout.collect import collect
from vgs_mlx.runs import folder as run_folder
from vgs_mlx.train.addends import Wanted
from vgs_mlx.train.gradients import Learned, Weighing, compute_parts
from vgs_mlx.train.setup import Ready
from vgs_mlx.train.step import encode_views
from vgs_mlx.types import Rollout

FILE = "watched.json"
COMPLETIONS = TypeAdapter(list[Annotated[list[NonNegativeInt], Field(min_length=1)]])
SEED_STREAM = 2**30  # keeps the seeds of these rollouts apart from those of training


def compute_terms(
    student: LoadedModel, teacher: LoadedModel, rollouts: Sequence[Rollout], recipe: Recipe
) -> dict[str, np.ndarray]:
    """The terms of the standard, visual and language losses at every token, with VDS and entropy, (N,) nats each."""
    objective = ALL_TERMS
    weighing = Weighing(
        objective=objective,
        steering_coef=1.0,
        preservation_coef=1.0,
        reduction="token",
        chunk_size=recipe.objective.chunk_size,
        microbatch_size=recipe.train.microbatch_size,
        max_tokens=recipe.train.max_tokens_per_microbatch,
        grad_checkpoint=recipe.train.grad_checkpoint,
        separate=True,
    )
    encodings = encode_views(student, [rollout.prompt for rollout in rollouts], objective)
    shared = None if recipe.student.train_vision else encodings
    return compute_parts(student, teacher, Learned(rollouts, shared), weighing, _nothing).terms


def _nothing(batch: Batch) -> Wanted:
    return Wanted({}, lambda scored: {})


def look(ready: Ready, folder: Path, step: int) -> None:
    """Add a row to the run's `terms.jsonl`: the mean of every term over the low, middle and high bins of VDS.

    The student sampled the rollouts before its first step, so VDS and the bins stay the same.
    """
    rollouts = _sampled(ready, folder) if step == 0 else _kept(ready, folder)
    terms = compute_terms(ready.student, ready.teacher, rollouts, ready.recipe)
    scores = terms.pop("visual_dependency_score")
    numbers = bins(scores, edges(scores))
    row: dict[str, Any] = {"step": step}
    for name, group in GROUPS.items():
        here = np.isin(numbers, list(group))
        row[name] = (
            {term: float(values[here].mean()) for term, values in terms.items()} if here.any() else None
        )
    run_folder.append(folder / run_folder.TERMS, row)


def _sampled(ready: Ready, folder: Path) -> list[Rollout]:
    """One completion for each watched prompt, sampled in batches no larger than those of a training step."""
    prompts = [ready.render(example) for example in ready.data.held_out[:WATCHED_ROWS]]
    encodings = encode_views(ready.student, prompts, OBJECTIVES["standard"])
    settings = ready.recipe.rollout
    at_once = prompts_at_once(len(prompts), settings.completions_per_prompt, settings.batch_size)
    single = replace(settings, completions_per_prompt=1, batch_size=at_once)
    rollouts = collect(ready.student, prompts, single, encodings, ready.recipe.seed, SEED_STREAM)
    ids = [rollout.completion.tolist() for rollout in rollouts]
    run_folder.write_text(folder / FILE, json.dumps(ids) + "\n")
    return rollouts


def kept_completions(folder: Path) -> list[list[int]]:
    """The ids of the watched completions. Raises `Refusal`."""
    file = folder / FILE
    try:
        return COMPLETIONS.validate_python(strict_json.load(file.read_bytes()), strict=True)
    except (OSError, ValueError) as error:
        raise _damaged(file, error.strerror if isinstance(error, OSError) else "damaged") from error


def own_completions(ready: Ready, folder: Path) -> list[list[int]]:
    """The same, checked: one completion for each watched row of this run, in this student's ids."""
    found = kept_completions(folder)
    asked = min(WATCHED_ROWS, len(ready.data.held_out))
    if len(found) != asked or max(max(ids) for ids in found) >= ready.student.vocabulary:
        raise _damaged(folder / FILE, "its rollouts don't match these rows and this student")
    return found


def _damaged(file: Path, why: str) -> Refusal:
    return Refusal(
        f"{file}: can't be read ({why}), and this run watches the rollouts in it: put it back, or start a new run"
    )


def _kept(ready: Ready, folder: Path) -> list[Rollout]:
    completions = own_completions(ready, folder)
    prompts = [ready.render(example) for example in ready.data.held_out[: len(completions)]]
    return [
        Rollout(prompt, np.array(ids, dtype=np.int32), np.zeros(len(ids), dtype=np.float32), True, number)
        for number, (prompt, ids) in enumerate(zip(prompts, completions, strict=True))
    ]
