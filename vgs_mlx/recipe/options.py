"""Every option: its meaning, its range and its only default. Nothing else holds a default.

A recipe file or `--set` states what differs. Descriptions keep the paper's symbols: γ steering, λ preservation,
η norm scale (arXiv 2606.00564).
"""

from dataclasses import field
from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

_STRICT = ConfigDict(extra="forbid", strict=True)
_option = dataclass(frozen=True, config=_STRICT)

Count = Annotated[int, Field(ge=1)]
WholeNumber = Annotated[int, Field(ge=0)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
InnerShare = Annotated[float, Field(gt=0, lt=1)]

SYSTEM_PROMPT = (
    "Look at the picture and reason step by step inside <reason></reason>. "
    "Then give the final answer in \\boxed{}."
)


@_option
class Student:
    """The model that is trained."""

    path: str = Field(
        "",
        description="The model to train: a folder, a Hub id (owner/name@revision), embedded:student, or RUN@best.",
    )
    train: Literal["lora", "dora", "full"] = Field(
        "lora",
        description="What is trained: LoRA or DoRA adapters beside frozen weights, or all weights (most memory).",
    )
    rank: Count = Field(16, description="Rank of the adapters: a higher one trains more weights.")
    alpha: Positive = Field(32.0, description="An adapter's update is multiplied by alpha / rank.")
    targets: tuple[str, ...] | None = Field(
        None,
        description="Linear layers that get adapters, by name (q_proj); null: all in the language model's blocks.",
    )
    train_vision: bool = Field(False, description="Also train the vision tower and merger, as full weights.")


@_option
class Teacher:
    """The frozen model that the student is pulled towards."""

    path: str = Field(
        "", description="The teacher: a folder, a Hub id (owner/name@revision), or embedded:teacher."
    )
    bits: Literal[4, 8] | None = Field(
        None,
        description="Quantise the teacher's language model to this many bits as it loads; null: as stored.",
    )


@_option
class Data:
    """What is asked."""

    source: str = Field(
        "shapes",
        description="Training rows: a .jsonl file, a folder, a Hub data set (owner/name@revision:split), or shapes.",
    )
    held_out: str | float = Field(
        0.02,
        description="Rows to measure on: a fraction of the source, a split (a bare word), a file, or a count (shapes).",
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="Names of columns: ours (question, answer, image, ...) -> the data set's.",
    )
    ignore_columns: tuple[str, ...] = Field(
        (), description="The data set's columns not to read, such as options that the question lists already."
    )
    allow_outside: bool = Field(False, description="Accept pictures outside the data set's folder.")
    on_bad_row: Literal["fail", "skip"] = Field(
        "fail", description="Stop at rows that can't be used, or skip them."
    )
    max_pixels: Count | None = Field(
        1024 * 32 * 32,
        description="Pixels of a picture; larger ones are scaled down, or to the tiles that fit. null: no own limit.",
    )
    max_prompt_length: Count = Field(
        16_384,
        description="Tokens of a prompt, picture included. A longer prompt is a bad row; nothing is cut.",
    )
    system_prompt: str = Field(SYSTEM_PROMPT, description='The system message of every prompt; "": none.')
    template_options: dict[str, bool | int | float | str] = Field(
        default_factory=dict, description="Options given to the chat template, such as enable_thinking."
    )


@_option
class Rollout:
    """How the student answers. Distillation needs temperature 1 and top_p 1: anything else is off-policy."""

    prompts_per_step: Count = Field(8, description="Prompts that one step learns from.")
    completions_per_prompt: Count = Field(4, description="Answers sampled for each prompt.")
    max_completion_length: Count = Field(
        1024, description="Tokens of an answer at most; a longer one is cut off."
    )
    temperature: NonNegative = Field(1.0, description="Sampling temperature; 0: the likeliest token.")
    top_p: float = Field(
        1.0, gt=0, le=1, description="Sample among the likeliest tokens that together have this probability."
    )
    batch_size: Count = Field(
        32, description="Answers sampled at the same time: fewer need a smaller KV cache."
    )


Distillation = Literal[
    "standard", "vgs", "adaptive", "language", "vds-weighted", "va-opd", "forward-kl", "jsd"
]


@_option
class Objective:
    """What is minimised; `objective/objectives.py` declares each by name."""

    name: Literal[Distillation, "sft", "grpo"] = Field(
        "vgs", description="The objective: a distillation, sft (given answers) or grpo."
    )
    steering_coef: NonNegative = Field(2.0, description="γ, the weight of steering; 0 switches it off.")
    preservation_coef: NonNegative = Field(
        0.01, description="λ, the weight of preservation; 0 switches it off."
    )
    norm_scale: Literal["exact", "interval"] | Positive = Field(
        "interval",
        description="η, the scale of a steered update: a number, or measured at every step (exact) or some (interval).",
    )
    norm_scale_every: Count = Field(10, description="Steps between two measurements of η under interval.")
    watch_norm_scale: bool = Field(
        False, description="Measure η under an objective without steering too, where it changes nothing."
    )
    reduction: Literal["token", "sequence"] = Field(
        "token", description="Mean over all tokens of an update, or over the means of its answers."
    )
    text_view: Literal["omit", "blank", "degraded"] = Field(
        "omit",
        description="The text view's picture: none (omit), grey (blank), or scaled to a tenth and back (degraded).",
    )
    chunk_size: Count = Field(
        32,
        description="Answer tokens whose log-probabilities over the vocabulary exist at once: fewer, less memory.",
    )
    jsd_weight: InnerShare = Field(
        0.5, description="β of jsd: near 0 it acts like forward KL, near 1 like reverse KL."
    )
    mix: Share = Field(0.0, description="α of Eq. 22: the share of a distillation that is added to grpo.")
    mix_with: Distillation = Field("vgs", description="The distillation that mix adds to grpo.")
    answers: Literal["data", "teacher"] = Field(
        "data", description="What sft learns: the rows' own solutions, or answers the teacher samples."
    )


@_option
class Grpo:
    """Reinforcement learning with verifiable answers, `objective.name=grpo`."""

    updates_per_rollout: Count = Field(4, description="Updates that a step's prompts are divided among.")
    clip: InnerShare = Field(0.2, description="How far from 1 the ratio to the sampling policy still counts.")
    reward: str = Field(
        "answer", description="The reward: answer, pacr, pdcr, or your own as path/to/file.py:function."
    )
    outcome_coef: NonNegative = Field(1.0, description="λ_O of pacr and pdcr: the weight of a right answer.")
    process_coef: NonNegative = Field(
        0.5, description="λ_P of pacr and pdcr: the weight of each reasoning step's gain in confidence."
    )
    discount: Share = Field(1.0, description="Discount of later steps' gains under pacr and pdcr; 1: none.")


@_option
class Train:
    """The optimiser (AdamW) and the loop."""

    steps: Count = Field(200, description="Steps of the run: in each, answers are sampled and learnt from.")
    learning_rate: Positive = Field(5e-5, description="AdamW's learning rate after the warm-up.")
    schedule: Literal["constant", "cosine"] = Field(
        "constant", description="The learning rate after the warm-up: kept, or down to 0 at the last step."
    )
    warmup_steps: WholeNumber = Field(
        0, description="Steps in which the learning rate rises to its value; 0: none."
    )
    weight_decay: NonNegative = Field(0.01, description="AdamW's weight decay.")
    clip_norm: Positive | None = Field(
        1.0, description="Largest norm of an update's gradient; null: not clipped."
    )
    microbatch_size: Count = Field(
        4, description="Answers whose activations exist at one time: fewer need less memory and more time."
    )
    max_tokens_per_microbatch: Count | None = Field(
        8192, description="Positions of a micro-batch at most, a shared prompt counted once; null: no limit."
    )
    picture_cache_gb: NonNegative = Field(
        0.0, description="GB of picture features of frozen vision towers kept from step to step; 0: none."
    )
    cache_limit_gb: NonNegative | None = Field(
        None, description="GB of freed buffers that MLX may keep for reuse; null: what the plan leaves free."
    )
    passes: Literal["auto", "one", "two"] = Field(
        "auto",
        description="Student's passes for its gradients: one is faster unless weights wait for the teacher's scores; "
        "two need less memory.",
    )
    grad_checkpoint: bool = Field(
        False,
        description="Recompute activations in the backward pass: less memory, more time, the same gradients.",
    )
    checkpoint_every: Count = Field(
        20, description="Steps between checkpoints, from which a run can be resumed."
    )
    keep_checkpoints: Count = Field(
        2, description="How many of the newest checkpoints are kept beside the best."
    )
    evaluate_every: Count = Field(50, description="Steps between evaluations on held-out rows.")
    watch_every: Count | None = Field(
        None,
        description="Steps between measurements of all loss terms on fixed held-out answers; null: never.",
    )
    evaluate_rows: Count | None = Field(200, description="Held-out rows that an evaluation asks; null: all.")
    keep_awake: bool = Field(
        True, description="Keep a Mac from going to sleep by itself while the run trains."
    )
    evaluate_blind: bool = Field(
        False,
        description="Ask without the picture too in the last evaluation, to measure what guessing scores.",
    )


@_option
class Recipe:
    """One run, whole."""

    seed: WholeNumber = Field(
        0,
        description="Decides which rows are held out, their order, what is sampled and the adapters' first weights.",
    )
    student: Student = field(default_factory=Student)
    teacher: Teacher = field(default_factory=Teacher)
    data: Data = field(default_factory=Data)
    rollout: Rollout = field(default_factory=Rollout)
    objective: Objective = field(default_factory=Objective)
    grpo: Grpo = field(default_factory=Grpo)
    train: Train = field(default_factory=Train)


WATCHED_ROWS = 32
"""Held-out rows that `train.watch_every` measures, one answer each."""
DENSE_REWARDS = ("pacr", "pdcr")
"""Rewards of `grpo` that score every step of the reasoning with the student."""

SHORTHANDS = {"student": "student.path", "teacher": "teacher.path", "data": "data.source"}
"""Command-line options that are short for a key."""
