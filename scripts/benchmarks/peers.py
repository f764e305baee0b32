"""Our training steps compared with the alternatives: mlx-vlm's trainers, and a step built from its parts.

Both sides of a pair have the same module (so the same float32 weights and the same LoRA layers, put back after every
step), the same rows of the built-in pictures rendered to the same ids, AdamW with the same settings, no gradient
clipping, no gradient checkpointing, and the same BLAS. Every step begins by rendering its rows, as in a run over
more rows than a cache holds; loading models, opening pictures, making trainers and saving adapters are omitted.

- GRPO: the same numbers of prompts, completions and tokens; temperature 1, no top-p or top-k; one update, no KL term;
  a reward that differs within each group, since groups of equal rewards have a zero gradient and ours skips their
  backward pass.
  mlx-vlm's trainer has no setting that keeps its answers from ending, so its tokenizer has no end tokens.
  Not equal: the answers (two samplers, two random generators), and ours also grades every answer.
- SFT: the same tokens are learned, and the loss is the same number. mlx-vlm's rows are cut before the newline that chat
  templates put after an answer, which ours never learns. Not equal: mlx-vlm pads rows to a multiple of 32 tokens
  (its default), computes the logits of every position, and renders each row twice to find where its answer begins.
- VGS, compared with standard distillation built from the parts: mlx-vlm's batch generator, a row for each completion,
  the public call of both models with every row's picture, all their logits at once, reverse KL, `value_and_grad`,
  AdamW. Not equal: VGS runs both models in a second view. η is measured at one step of `norm_scale_every`.

mlx-vlm's trainers are timed by their own clock: preparing a batch (rollouts included) and the step.
"""

import contextlib
import copy
import io
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlx_vlm.trainer import GRPOTrainingArgs, Trainer, VLMTrainingArgs
from mlx_vlm.trainer.datasets.loading import CacheDataset
from mlx_vlm.trainer.vlm.sft.dataset import VisionDataset

from benchmarks import made, parts
from benchmarks.timing import NORM_SCALE, Medians, alternate, ratio
from vgs_mlx.data import shapes
from vgs_mlx.data.prompts import render
from vgs_mlx.models import adapters
from vgs_mlx.models.base import LoadedModel
from vgs_mlx.recipe.options import Recipe
from vgs_mlx.rollout.collect import given_text
from vgs_mlx.runs.progress import Progress
from vgs_mlx.train import optimizer as adamw
from vgs_mlx.train.step import run_step
from vgs_mlx.types import Example

Measured = dict[str, float]
"""Seconds (ours also by position), the number of sequences and tokens learned, and the loss."""
TEXT = ("input_ids", "attention_mask", "completion_mask")


@dataclass(frozen=True)
class Work:
    """The models, rows and settings of every step."""

    student: LoadedModel  # with adapters
    teacher: LoadedModel
    examples: Sequence[Example]
    settings: Recipe  # its objective is set by each step


def embedded(prompts: int = 8, completions: int = 4, length: int = 64) -> Work:
    """The shipped models and pictures. Completions never end before `length` tokens."""
    student, teacher, _, settings = made.embedded()
    unending = replace(student, end_ids=frozenset())
    rollout = replace(
        settings.rollout,
        prompts_per_step=prompts,
        completions_per_prompt=completions,
        max_completion_length=length,
    )
    settings = replace(
        settings,
        rollout=rollout,
        grpo=replace(settings.grpo, updates_per_rollout=1, reward=f"{Path(__file__)}:reward"),
        train=replace(settings.train, clip_norm=None, max_tokens_per_microbatch=None),
    )
    examples = [_opened(each) for each in shapes.examples("train", prompts)]
    return Work(unending, teacher, examples, settings)


def run(work: Work, repetitions: int) -> Medians:
    """The measurements of each of our steps and of its peer, which take turns."""
    with tempfile.TemporaryDirectory() as folder:
        grpo, sft = grpo_trainer(work, Path(folder)), sft_trainer(work, Path(folder))
        return alternate(
            {
                "GRPO, ours": lambda: ours(work, "grpo"),
                "GRPO, mlx-vlm": lambda: theirs(work, grpo),
                "SFT, ours": lambda: ours(work, "sft"),
                "SFT, mlx-vlm": lambda: theirs(work, sft),
                "VGS, η known": lambda: ours(work, "vgs"),
                "VGS, η measured": lambda: ours(work, "vgs", measured=True),
                "standard, of parts": lambda: of_parts(work),
            },
            repetitions,
        )


def compare(found: Medians) -> None:
    """The ratios that count."""
    seconds = {name: values["seconds"] for name, values in found.items()}
    every = made.recipe("vgs", "interval").objective.norm_scale_every
    vgs = ((every - 1) * seconds["VGS, η known"] + seconds["VGS, η measured"]) / every
    ratio(
        "GRPO, seconds of mlx-vlm's trainer / ours",
        seconds["GRPO, mlx-vlm"],
        seconds["GRPO, ours"],
        least=4,
        aim=6,
    )
    ratio(
        "SFT, seconds of mlx-vlm's trainer / ours, the same positions",
        seconds["SFT, mlx-vlm"],
        seconds["SFT, ours"],
        least=1.0,
        aim=1.3,
    )
    ratio(
        "VGS (η interval) / standard of mlx-vlm's parts",
        vgs,
        seconds["standard, of parts"],
        most=0.75,
        aim=0.6,
    )


def reward(_: Example | None, text: str) -> float:
    """A number in [0, 1] that differs from answer to answer, so that every answer has an advantage."""
    return zlib.crc32(text.encode()) / 2**32


def ours(work: Work, objective: str, *, measured: bool = False) -> Measured:
    """One of our steps, rendering included. `measured`: the step measures η."""
    settings = made.with_objective(work.settings, objective, "exact" if measured else "interval")
    progress = Progress(step=0 if measured else 1, norm_scales=[NORM_SCALE])
    with weights_put_back(work.student):
        optimizer = adamw.make(settings.train, work.student)
        begin = time.perf_counter()
        prompts = [render(work.student.processor, each, settings.data) for each in work.examples]
        result = run_step(work.student, work.teacher, prompts, settings, optimizer, progress)
        seconds = time.perf_counter() - begin
    [update] = result.updates
    tokens = sum(len(each.completion) for each in result.rollouts)
    positions = tokens + sum(len(each.prompt.student["with_image"].ids) for each in result.rollouts)
    return {
        "seconds": seconds,
        "sequences": len(result.rollouts),
        "tokens": tokens,
        "loss": update.gradients.losses["standard"],
        "positions": positions,
        "ms_a_position": 1e3 * seconds / positions,
    }


def theirs(work: Work, trainer: Trainer) -> Measured:
    """A step of one of mlx-vlm's trainers, by its own clock."""
    said = io.StringIO()  # its report and its progress bar
    with weights_put_back(work.student), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        trainer.optimizer = adamw.make(work.settings.train, work.student)
        measured = trainer.train()
    return {
        "seconds": measured["data_time_per_step"] + measured["step_time"],
        "sequences": measured["total_sequences"],
        "tokens": measured["total_tokens"],
        "loss": measured["train_loss"],
    }


def grpo_trainer(work: Work, folder: Path) -> Trainer:
    """mlx-vlm's GRPO trainer for one step of the same work."""
    rollout, processor = work.settings.rollout, copy.copy(work.student.processor.inner)
    processor.tokenizer = Unending(processor.tokenizer)
    rows = [
        {"prompt": each.question, "images": _pictures(each), "answer": each.answer} for each in work.examples
    ]
    arguments = GRPOTrainingArgs(
        **_shared(work, folder), group_size=rollout.completions_per_prompt, temperature=1.0, top_p=1.0, top_k=0,
        max_completion_length=rollout.max_completion_length,
    )  # fmt: skip

    def rewards(completions: list[str], **_: Any) -> list[float]:
        return [reward(None, each) for each in completions]

    return Trainer(
        work.student.module, arguments, train_dataset=rows, processing_class=processor, reward_funcs=[rewards]
    )


def sft_trainer(work: Work, folder: Path) -> Trainer:
    """mlx-vlm's trainer for one step over the same rows and their own answers."""
    rows = [
        {
            "messages": [
                {"role": "user", "content": each.question},
                {"role": "assistant", "content": given_text(each)},
            ],
            "images": _pictures(each),
        }
        for each in work.examples
    ]
    arguments = VLMTrainingArgs(**_shared(work, folder), train_on_completions=True)
    module, processor = work.student.module, work.student.processor.inner
    dataset = CacheDataset(
        WithoutLastNewline(rows, module.config, processor, arguments), max_size=0, process=False
    )
    return Trainer(module, arguments, train_dataset=dataset, processing_class=processor, prepared=True)


class Unending:
    """A tokenizer without end tokens, so that mlx-vlm's GRPO never stops early; all else is the wrapped tokenizer's."""

    eos_token_ids = ()

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def __call__(self, *given: Any, **named: Any) -> Any:
        return self._tokenizer(*given, **named)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


class WithoutLastNewline(VisionDataset):
    """mlx-vlm's rows up to the end of the answer, without the chat template's newline after it."""

    def process(self, row: dict[str, Any]) -> dict[str, Any]:
        return {name: each[:-1] if name in TEXT else each for name, each in super().process(row).items()}


def of_parts(work: Work) -> Measured:
    """The step of parts.py."""
    with weights_put_back(work.student):
        optimizer = adamw.make(work.settings.train, work.student)
        begin = time.perf_counter()
        drawn, loss = parts.step(work.student, work.teacher, work.examples, work.settings, optimizer)
        seconds = time.perf_counter() - begin
    return {"seconds": seconds, "sequences": len(drawn), "tokens": sum(map(len, drawn)), "loss": loss}


@contextlib.contextmanager
def weights_put_back(student: LoadedModel) -> Iterator[None]:
    """Restore the student's trainable weights and evaluation mode afterwards."""
    kept = adapters.trainable_weights(student.module)
    try:
        yield
    finally:
        adapters.set_weights(student.module, kept)
        student.module.eval()


def _shared(work: Work, folder: Path) -> dict[str, Any]:
    """The settings of both trainers. Rows are prepared at every step, as with more rows than a cache holds."""
    return dict(
        batch_size=len(work.examples), iters=1, adapter_file=str(folder / "a.safetensors"), cache_size=0
    )


def _opened(example: Example) -> Example:
    """The example with its pictures already drawn, as in mlx-vlm's rows, so that no step draws them again."""
    pictures = tuple(replace(each, open=each.open().copy) for each in example.pictures)
    return replace(example, pictures=pictures)


def _pictures(example: Example) -> list[Any]:
    return [picture.open() for picture in example.pictures]
