"""Every option and its only default. A recipe file or `--set` states what differs; nothing else holds a default.

Coefficients keep the paper's symbols in their comments: γ steering, λ preservation, η norm scale (arXiv 2606.00564).
"""

import os
import re
from collections.abc import Callable
from dataclasses import field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from vgs_mlx.errors import Refusal
from vgs_mlx.formats import texts

_STRICT = ConfigDict(extra="forbid", strict=True)
_option = dataclass(frozen=True, config=_STRICT)

Count = Annotated[int, Field(ge=1)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]

SYSTEM_PROMPT = (
    "Look at the picture and reason step by step inside <reason></reason>. "
    "Then give the final answer in \\boxed{}."
)


@_option
class Student:
    """The model that is trained."""

    path: str = ""  # a folder, else a Hub id (owner/name@revision), embedded:student, or a run (RUN@best)
    train: Literal["lora", "dora", "full"] = "lora"
    rank: Count = 16
    alpha: Positive = 32.0  # the adapter's update is scaled by alpha / rank
    targets: tuple[str, ...] | None = None  # linear layers by name; None: all of the language model's blocks
    train_vision: bool = False  # the vision tower and merger too, as full weights


@_option
class Teacher:
    """The frozen model that the student is pulled towards."""

    path: str = ""  # a local folder, a Hub id where there is no such folder, or embedded:teacher
    bits: Literal[4, 8] | None = None  # quantise the language model of a teacher that is not yet quantised


@_option
class Data:
    """What is asked."""

    source: str = (
        "shapes"  # a .jsonl file, a folder, else a Hub data set (owner/name@revision:split), or shapes
    )
    held_out: str | float = (
        0.02  # a file, a split (any bare word), or a fraction of the source; for shapes also a number of rows
    )
    columns: dict[str, str] = field(default_factory=dict)  # our name -> the data set's
    ignore_columns: tuple[
        str, ...
    ] = ()  # the data set's, known and not wanted: options that the question lists
    allow_outside: bool = False  # pictures outside the data set's folder
    on_bad_row: Literal["fail", "skip"] = "fail"
    max_pixels: Count | None = 1024 * 32 * 32  # larger pictures are scaled to this, or to the tiles that fit
    max_prompt_length: Count = 16_384  # tokens; a longer prompt is a bad row, never cut
    system_prompt: str = SYSTEM_PROMPT  # "" for none
    template_options: dict[str, bool | int | float | str] = field(
        default_factory=dict
    )  # given to the chat template, such as enable_thinking


@_option
class Rollout:
    """How the student answers. Distillation needs temperature 1 and top_p 1: anything else is off-policy."""

    prompts_per_step: Count = 8
    completions_per_prompt: Count = 4
    max_completion_length: Count = 1024
    temperature: NonNegative = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    batch_size: Count = 32  # completions sampled at the same time: bounds the KV cache


Distillation = Literal[
    "standard", "vgs", "adaptive", "language", "vds-weighted", "va-opd", "forward-kl", "jsd"
]


@_option
class Objective:
    """What is minimised; `objective/objectives.py` declares each by name."""

    name: Literal[Distillation, "sft", "grpo"] = "vgs"
    steering_coef: NonNegative = 2.0  # γ
    preservation_coef: NonNegative = 0.01  # λ; 0 switches the preservation off
    norm_scale: Literal["exact", "interval"] | Positive = "interval"  # η, or how it is measured
    norm_scale_every: Count = 10  # steps between measurements under `interval`
    watch_norm_scale: bool = False  # measure η at these steps under `standard` too, where it changes nothing
    reduction: Literal["token", "sequence"] = "token"
    text_view: Literal["omit", "blank", "degraded"] = "omit"
    chunk_size: Count = 32  # completion positions whose log-probabilities exist at one time
    jsd_weight: Annotated[float, Field(gt=0, lt=1)] = 0.5  # β of jsd: near 0 forward KL, near 1 reverse KL
    mix: Annotated[float, Field(ge=0, le=1)] = 0.0  # α of Eq. 22: the share of distillation beside grpo
    mix_with: Distillation = "vgs"  # which distillation that is
    answers: Literal["data", "teacher"] = (
        "data"  # what sft learns: the rows' own solutions, or the teacher's samples
    )


@_option
class Grpo:
    """Reinforcement learning with verifiable answers, `objective.name=grpo`."""

    updates_per_rollout: Count = 4  # a step's prompts are split into so many updates
    clip: Annotated[float, Field(gt=0, lt=1)] = 0.2  # how far the ratio to the sampling policy counts
    reward: str = "answer"  # answer, pacr, pdcr, or path/to/file.py:function
    outcome_coef: NonNegative = 1.0  # λ_O of pacr and pdcr: weight of the right answer
    process_coef: NonNegative = 0.5  # λ_P: weight of the steps' gains in confidence
    discount: Annotated[float, Field(ge=0, le=1)] = 1.0  # of later gains


@_option
class Train:
    """The optimiser (AdamW) and the loop."""

    steps: Count = 200
    learning_rate: Positive = 5e-5
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    weight_decay: NonNegative = 0.01
    clip_norm: Positive | None = 1.0
    microbatch_size: Count = 4  # rollouts whose activations exist at one time
    max_tokens_per_microbatch: Count | None = (
        8192  # and at most so many positions, a shared prompt counted once
    )
    picture_cache_gb: NonNegative = (
        0.0  # picture features of frozen vision towers kept between steps; 0: none
    )
    cache_limit_gb: NonNegative | None = (
        None  # freed buffers that MLX keeps for later use, at most; None: what the plan leaves of the memory
    )
    grad_checkpoint: bool = False  # recompute activations in the backward pass: less memory, more time
    checkpoint_every: Count = 20
    keep_checkpoints: Count = 2  # the newest N are kept, and the best
    evaluate_every: Count = 50
    watch_every: Count | None = (
        None  # steps between looks at all loss terms on fixed held-out rollouts; None: no look
    )
    evaluate_rows: Count | None = 200  # held-out rows used during training; None: all
    keep_awake: bool = True  # a Mac doesn't go to sleep by itself while the run trains
    evaluate_blind: bool = False  # the last evaluation asks without the picture too: what a guess scores


@_option
class Recipe:
    """One run, whole."""

    seed: Annotated[int, Field(ge=0)] = 0
    student: Student = field(default_factory=Student)
    teacher: Teacher = field(default_factory=Teacher)
    data: Data = field(default_factory=Data)
    rollout: Rollout = field(default_factory=Rollout)
    objective: Objective = field(default_factory=Objective)
    grpo: Grpo = field(default_factory=Grpo)
    train: Train = field(default_factory=Train)


WATCHED_ROWS = 32
"""Held-out rows that `train.watch_every` looks at, one rollout each."""
DENSE_REWARDS = ("pacr", "pdcr")
"""Rewards of `grpo` that score every step of the reasoning with the student."""

SHORTHANDS = {"student": "student.path", "teacher": "teacher.path", "data": "data.source"}
"""Command-line options that are short for a key."""


SHAPES = re.compile(r"shapes(?::(\d+))?")
"""The data that come with the package, with or without a number of rows. A folder of that name is ./shapes."""


def reward_file(reward: str) -> Path | None:
    """The file of `path/to/file.py:function`; None for a reward of ours."""
    file, separator, _ = reward.rpartition(":")
    return Path(file) if separator else None


def is_word(text: str) -> bool:
    """Whether the text is a bare word and not written as a path: no separator or suffix, no dot or ~ in front."""
    return not (os.sep in text or ":" in text or text.startswith((".", "~")) or Path(text).suffix)


def resolve_path(text: str, folder: Path) -> str:
    """`text` as an absolute path if it names something in `folder` and is written as a path; else unchanged.

    A bare word stays one, whatever `folder` holds. Raises a Refusal for a path that can't be written down.
    """
    return text if is_word(text) else resolve_name(text, folder)


def resolve_name(text: str, folder: Path) -> str:
    """The same of a name that can be no bare word but a folder's: of a model, or of a data set.

    What is in `folder` goes before what the Hub calls so: owner/name is that folder where there is one.
    """
    if not text or SHAPES.fullmatch(text):
        return text
    try:
        candidate = (folder / text).expanduser()
        if not candidate.exists():
            return text
        path = str(candidate.resolve())
        if candidate.is_dir():
            os.listdir(candidate)
    except (OSError, RuntimeError) as error:  # too long, not to be entered, ~ of nobody
        why = getattr(error, "strerror", None) or error
        raise Refusal(f"{text[:200]}: can't be looked up ({why}): give another path") from error
    if fault := texts.fault(path):
        raise Refusal(f"{texts.printable(path)}: its name {fault}: rename the file or folder")
    return path


def resolve_data(text: str, folder: Path, resolve: Callable[[str, Path], str]) -> str:
    """What `resolve` makes of a data set's name, of which `:split` or `:config:split` may follow a folder's."""
    for colons in (0, 1, 2):
        name, *rest = text.rsplit(":", colons)
        if (path := resolve(name, folder)) != name and (not rest or Path(path).is_dir()):
            return ":".join([path, *rest])
    return text


def resolve_student(text: str, folder: Path) -> str:
    """As `resolve_name`; of a run's folder, `@` and which of its weights may follow."""
    whole, (run, mark, which) = resolve_name(text, folder), text.rpartition("@")
    if whole != text or not mark or (path := resolve_name(run, folder)) == run:
        return whole
    return f"{path}@{which}"


def path_of(text: str) -> str:
    """The part of `path`, `path:split` or `path:config:split` that names a file or folder; `text` where none is."""
    tries = [text.rsplit(":", colons)[0] for colons in (0, 1, 2)]
    return next((each for each in tries if each and os.path.exists(os.path.expanduser(each))), text)
