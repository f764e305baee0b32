"""Peaks of sampling and of whole steps on random Qwen3-VLs in this process, beside the plan's."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import mlx.core as mx
from mlx.utils import tree_flatten

from benchmarks import made
from vgs_mlx.models import adapters
from vgs_mlx.models.base import LoadedModel
from vgs_mlx.planning import commands, plan
from vgs_mlx.planning.sizes import ModelSize, Tensor, parse
from vgs_mlx.recipe import options as recipe
from vgs_mlx.train import optimizer as adamw
from vgs_mlx.train.step import Progress, collect_answers, run_step

WORDS = 24


@dataclass(frozen=True)
class Case:
    """One setting."""

    name: str
    recipe: recipe.Recipe
    image: int  # tokens of a prompt's picture


def size_of(model: LoadedModel) -> ModelSize:
    """The size of a model that is in memory, as its config and header would give it."""
    text, vision = vars(model.module.config.text_config), vars(model.module.config.vision_config)
    dtypes = {mx.float32: "F32", mx.bfloat16: "BF16", mx.float16: "F16", mx.uint32: "U32"}
    listed = [
        Tensor(name, dtypes[each.dtype], each.shape)
        for name, each in tree_flatten(model.module.parameters())
        if not adapters.is_adapter_weight(name)
    ]
    config = {
        "model_type": model.family.model_type,
        "text_config": text,
        "vision_config": vision,
        "tie_word_embeddings": text["tie_word_embeddings"],
    }
    return replace(parse(model.name, config, listed), ids=model.vocabulary)


def measure(student: LoadedModel, teacher: LoadedModel, case: Case) -> dict[str, int]:
    """The peaks (bytes) of sampling and of a whole step, with what rests in memory included."""
    settings = case.recipe
    asked = made.prompts(settings.rollout.prompts_per_step, case.image, WORDS)
    optimizer = adamw.make(settings.train, student)
    mx.eval(optimizer.state)
    mx.clear_cache()
    mx.reset_peak_memory()
    collect_answers(student, teacher, asked, settings, Progress())
    drawn = mx.get_peak_memory()
    mx.clear_cache()
    mx.reset_peak_memory()
    run_step(student, teacher, asked, settings, optimizer, Progress())
    return {"rollouts": drawn, "step": mx.get_peak_memory()}


def planned(student: ModelSize, teacher: ModelSize, case: Case) -> dict[str, int]:
    """What the plan says of the same."""
    made = commands.training(case.recipe, student, teacher, plan.Lengths(WORDS + 1, case.image), "cpu")
    step = [peak for phase, peak in made.peaks.items() if phase != "evaluation"]
    return {"rollouts": made.peaks["rollouts"], "step": max(step)}


def cases(small: bool) -> list[Case]:
    """Micro-batch, completions, length, image tokens, checkpointing, weights and objective, one after another."""
    prompts, length, image = (2, 32, 64) if small else (2, 96, 256)
    base = recipe.Recipe(
        rollout=recipe.Rollout(
            prompts_per_step=prompts, completions_per_prompt=4, max_completion_length=length
        ),
        objective=recipe.Objective(chunk_size=16, norm_scale=0.5),
        train=recipe.Train(microbatch_size=4),
    )
    varied = {
        "LoRA, vgs": {},
        "micro-batch 8": {"train.microbatch_size": 8},
        "micro-batch 1": {"train.microbatch_size": 1},
        "8 completions": {"rollout.completions_per_prompt": 8, "train.microbatch_size": 8},
        "twice as long": {"rollout.max_completion_length": 2 * length},
        "checkpointed": {"train.grad_checkpoint": True},
        "standard": {"objective.name": "standard"},
        "λ = 0": {"objective.preservation_coef": 0.0},
        "chunks of 64": {"objective.chunk_size": 64},
        "full": {"student.train": "full"},
        "full, 32 micro-batches": {
            "student.train": "full",
            "train.microbatch_size": 1,
            "rollout.prompts_per_step": 8,
        },
        "full, checkpointed": {"student.train": "full", "train.grad_checkpoint": True},
        "standard, two passes": {"objective.name": "standard", "train.passes": "two"},
        "one pass": {"train.passes": "one"},
        "one pass, λ = 0": {"train.passes": "one", "objective.preservation_coef": 0.0},
        "one pass, micro-batch 8": {"train.passes": "one", "train.microbatch_size": 8},
        "one pass, checkpointed": {"train.passes": "one", "train.grad_checkpoint": True},
        "one pass, full": {"train.passes": "one", "student.train": "full"},
        "one pass, full, checkpointed": {
            "train.passes": "one",
            "student.train": "full",
            "train.grad_checkpoint": True,
        },
        "one pass, η measured": {"train.passes": "one", "objective.norm_scale": "exact"},
        "one pass, full, η measured": {
            "train.passes": "one",
            "student.train": "full",
            "objective.norm_scale": "exact",
        },
        "one pass, vision trains": {"train.passes": "one", "student.train_vision": True},
        "vision trains": {"student.train_vision": True},
    }
    found = []
    for name, changes in varied.items():
        changed = base
        for key, value in changes.items():
            changed = plan.changed(changed, key, value)
        found.append(Case(name, changed, image))
    measured = plan.changed(plan.changed(base, "student.train", "full"), "objective.norm_scale", "exact")
    return [*found, Case("4 x the picture", base, 4 * image), Case("full, η measured", measured, image)]


def models(small: bool, settings: recipe.Student) -> tuple[LoadedModel, LoadedModel]:
    sides = ((128, 12, 0), (256, 8, 1)) if small else ((256, 12, 0), (512, 8, 1))
    student, teacher = (
        made.sized_model(f"hidden-{hidden}", hidden, layers, seed) for hidden, layers, seed in sides
    )
    adapters.prepare(student, settings, seed=0)
    return replace(student, shares_prefix=True), replace(teacher, shares_prefix=True)


def rows(small: bool) -> Iterator[str]:
    """A Markdown row for each case and phase: plan, measured, and their ratio."""
    for case in cases(small):
        student, teacher = models(small, case.recipe.student)
        sizes = size_of(student), size_of(teacher)
        found, expected = measure(student, teacher, case), planned(*sizes, case)
        for phase, value in found.items():
            figures = f"{expected[phase] / 1e6:,.0f} | {value / 1e6:,.0f} | {expected[phase] / value:.2f}"
            yield f"| {case.name} | {phase} | {figures} |"
