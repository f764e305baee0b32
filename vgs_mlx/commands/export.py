"""What `vgs-mlx export` does: write a model that stock mlx-vlm loads, and prove that it is the trained one.

One model is in memory at a time, as it is stored (on a CPU in float32), in this order:

1. the trained student, which answers and scores;
2. the untrained student, which scores; then the heads of both, which are compared;
3. for each dtype that is tried: one weight file of the fused model while it is written; the fused model, which
   scores; then its head and the trained student's.

Beside a model that scores, memory holds the activations of one pass and, where the model is stored in fewer bits,
float32 copies of its vision tower, or of its embedding and one layer. So an export needs no more memory than the
training before it.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import mlx.core as mx

from vgs_mlx.device import backend, release
from vgs_mlx.errors import Refusal
from vgs_mlx.exporting import card as model_card
from vgs_mlx.exporting import fusing, proof
from vgs_mlx.exporting import prompts as proof_prompts
from vgs_mlx.exporting.model import silent, stored, write_model
from vgs_mlx.exporting.prompts import ProofPrompts
from vgs_mlx.exporting.proof import Difference, Proof, Scored
from vgs_mlx.machine import disk
from vgs_mlx.models.base import LoadedModel
from vgs_mlx.models.loading import find_folder, load_model
from vgs_mlx.models.rows import Continued
from vgs_mlx.planning import report as planning
from vgs_mlx.planning.plan import lengths_of
from vgs_mlx.planning.sizes import read_size
from vgs_mlx.planning.work import compared_at_once, longest_compared
from vgs_mlx.recipe.options import Recipe
from vgs_mlx.runs import trained
from vgs_mlx.runs.folder import CHECKPOINTS, FINAL, RECIPE
from vgs_mlx.runs.screen import Screen
from vgs_mlx.runs.trained import TrainedWeights
from vgs_mlx.types import Prompt

DTYPES = {"bfloat16": mx.bfloat16, "float16": mx.float16, "float32": mx.float32}  # as `auto` tries them
HARDLY_TRAINED = (
    "There was hardly any training to lose: KL(trained ‖ untrained) is {:.1g} nats. To move the student further, "
    "train with more train.steps or a higher train.learning_rate."
)

Say = Callable[[str], None]


@dataclass(frozen=True)
class ExportSettings:
    """Which weights of a run are exported, and how."""

    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"  # of the layers that training changed
    bits: Literal[4, 8] | None = None  # into which the language model is packed afterwards
    checkpoint: str | None = None  # see `trained.find`
    force: bool = False


def run(folder: Path, output: Path, data: str | None, prompts: int, settings: ExportSettings) -> None:
    """Export a run, proven on `prompts` of its held-out rows, or of `data`. Raises `Refusal`."""
    full = disk.refusing(output.absolute().parent, "make room, or give another folder to --output")
    screen = Screen()
    recipe = trained.find(folder, settings.checkpoint).recipe
    proven_on = proof_prompts.find(folder, recipe, data, prompts, screen)
    with full, screen.working("fusing and proving"):
        export(folder, output, proven_on, settings, screen.say)


def export(
    run: Path,
    output: Path,
    proven_on: ProofPrompts,
    settings: ExportSettings = ExportSettings(),
    say: Say = print,
) -> Proof:
    """Write the run's model, its training fused in, to the folder `output`, and prove it. Raises `Refusal`.

    The dtype `auto` is the narrowest that keeps the training. `output` appears once all is proven, and not at all
    otherwise.
    """
    source, prompts = trained.find(run, settings.checkpoint), proven_on.prompts
    _refuse_output(run, output)
    if not prompts:
        raise Refusal("no held-out prompts to prove the export on: data.held_out must give some")
    say(f"exporting {source.origin}")
    _check_memory(source.recipe, prompts, settings, say)
    subject = _subject(run, source, prompts, say)
    untrained = _untrained(subject, say)
    with _beside(output) as folder:
        proven = _first_kept(subject, untrained, settings, folder, say)
        model_card.write(folder, run, source, proven, proven_on.about)
    say(f"wrote {output}: python -m mlx_vlm.generate --model {output} --image PICTURE --prompt QUESTION")
    say(f"to ask it as in training: vgs-mlx evaluate {output} --recipe {run / RECIPE}")
    return proven


def _check_memory(recipe: Recipe, prompts: Sequence[Prompt], settings: ExportSettings, say: Say) -> None:
    """Check, before weights are read, the memory for the largest of these models and a pass over the prompts."""
    size = read_size(str(find_folder(recipe.student.path, "student.path")), "student.path")
    planned = planning.of_export(
        recipe, size, lengths_of(prompts), backend(), prompts=len(prompts), dtype=settings.dtype
    )
    planning.check(
        planned, "the export", settings.force, say, "give fewer --prompts, or --force to try anyway"
    )


@dataclass(frozen=True, eq=False)
class _Subject:
    """What is kept of the trained student: its answers and how it scores them."""

    recipe: Recipe
    load: Callable[[], LoadedModel]  # loads it again, lazily
    sequences: list[Continued]
    scored: Scored

    @property
    def name(self) -> str:
        """The model before training, as the user wrote it."""
        return self.recipe.student.path


def _subject(run: Path, source: TrainedWeights, prompts: Sequence[Prompt], say: Say) -> _Subject:
    settings = source.recipe.rollout
    student = trained.load(run, source, say)
    sequences = proof.answers(student, prompts, longest_compared(source.recipe), settings.batch_size)
    states = proof.states(student, sequences, compared_at_once(source.recipe))
    del student
    release()
    load = partial(trained.load, run, source, silent, lazy=True)
    return _Subject(source.recipe, load, sequences, Scored(states, load))


def _difference(subject: _Subject, path: str, option: str) -> Difference:
    """How far a model, loaded strictly by stock mlx-vlm, is from the trained student."""
    load = partial(load_model, path, option, say=silent)
    states = proof.states(load(), subject.sequences, compared_at_once(subject.recipe))
    release()
    return proof.compare(
        subject.scored, Scored(states, partial(load, lazy=True)), subject.recipe.objective.chunk_size
    )


def _first_kept(
    subject: _Subject, untrained: Difference, settings: ExportSettings, folder: Path, say: Say
) -> Proof:
    """Write and prove one dtype after another until one keeps the training. Raises `Refusal` if none does."""
    for name in _candidates(subject, settings):
        for old in folder.iterdir():
            old.unlink()
        write_model(subject.load, DTYPES[name], settings.bits, folder)
        proven = Proof(name, settings.bits, _difference(subject, str(folder), "--output"), untrained)
        say(str(proven))
        if proven.kept:
            break
    if not proven.acceptable:
        raise Refusal(f"the training was lost in the export, {_loss(proven)}: {_fix(proven)}")
    if proven.hardly_trained:
        say(HARDLY_TRAINED.format(untrained.mean))
    if proven.hardly_trained and not proven.kept:
        say(
            f"WARNING: storing it this way moved it further than training did, by {proven.fused.mean:.2g} nats"
        )
    elif not proven.kept:
        say(f"WARNING: some of the training was lost, {_loss(proven)}: {_fix(proven)}")
    return proven


def _untrained(subject: _Subject, say: Say) -> Difference:
    """How far training has moved the student; where the last run hardly moved it, how far all runs together have.

    Otherwise what the earlier runs learnt could be lost as "hardly any training to lose".
    """
    moved, base = _difference(subject, subject.name, "student.path"), trained.base_of(subject.name)
    if moved.mean >= proof.HARDLY_TRAINED or base == subject.name:
        return moved
    say(f"hardly trained since {subject.name}: untrained means {base} here, the model before all runs")
    return _difference(subject, base, "student.path")


def _candidates(subject: _Subject, settings: ExportSettings) -> list[str]:
    """The dtypes to try, narrow ones first; of two equally narrow, the student's own: MLX widens a mix to float32."""
    if settings.dtype != "auto":
        return [settings.dtype]
    own = fusing.own_dtype(stored(subject.name).module)
    if settings.bits:
        return [name for name, each in DTYPES.items() if each == own]  # of the scales: bits decide the rest
    narrow = sorted(("bfloat16", "float16"), key=lambda name: DTYPES[name] != own)
    return [*narrow, "float32"]


def _loss(proven: Proof) -> str:
    return f"{proven.share:.1%} of it by KL divergence (under {proof.KEPT_SHARE:.0%} is as good as none)"


def _fix(proven: Proof) -> str:
    if proven.bits:
        return "omit --bits" if proven.bits == 8 else "try --bits 8, or omit --bits"
    return (
        "try --dtype float32" if proven.dtype != "float32" else "float32 should keep it: please report this"
    )


def _refuse_output(run: Path, output: Path) -> None:
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise Refusal(f"--output {output}: exists and is not empty: give another folder")
    for inner in (FINAL, CHECKPOINTS):
        if output.resolve().is_relative_to((run / inner).resolve()):
            raise Refusal(f"--output {output}: inside the run's own {inner}: give a folder outside {run}")


@contextmanager
def _beside(output: Path) -> Iterator[Path]:
    """A new folder for the body to fill. It becomes `output` once the body is done, and is removed if it fails."""
    made = [each for each in output.parents if not each.exists()]
    unfinished = output.parent / f".{output.name}.writing"
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        yield unfinished
        os.replace(unfinished, output)
    except BaseException as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        for each in made:
            with suppress(OSError):  # not there, or in use by another process
                each.rmdir()
        if isinstance(error, OSError):
            reason = f"can't be written there ({error.strerror or error})"
            raise Refusal(f"--output {output}: {reason}: give another folder") from error
        raise
