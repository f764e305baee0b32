"""The only loop: sample, score, steer, update, report; evaluate and save now and then."""

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.optimizers as optim

from vgs_mlx import evaluate as evaluation
from vgs_mlx.data.order import rows_for_step
from vgs_mlx.errors import Refusal
from vgs_mlx.recipe_objective import updates_per_step
from vgs_mlx.rollout.sample import Sampling
from vgs_mlx.train import checkpoint, metrics, run_folder, watch
from vgs_mlx.train import optimizer as adamw
from vgs_mlx.train.identity import contents
from vgs_mlx.train.screen import Screen, accuracy_line
from vgs_mlx.train.setup import Ready
from vgs_mlx.train.step import Progress, run_step

SAMPLES_SHOWN = 3
MOST_SKIPPED_IN_A_ROW = 3
STOPPING = b"Ctrl-C: finishing this step, then saving (again: stop at once; the last checkpoint stays)\n"


class Interrupted(Exception):
    """Ctrl-C: the message says what was saved and how to go on."""


@dataclass(frozen=True)
class Outcome:
    """How a finished run ended."""

    before: dict[str, Any]  # evaluation summaries, see `evaluate.summary`
    after: dict[str, Any]
    seconds: float


def run(ready: Ready, folder: Path, screen: Screen) -> Outcome:
    """Train from the newest checkpoint in `folder`, or from step 0, to the recipe's last step."""
    start = time.perf_counter()
    steps = ready.recipe.train.steps
    optimizer = adamw.make(ready.recipe.train, ready.student, updates_per_step(ready.recipe))
    progress = _restored(ready, folder, optimizer, screen)
    if progress.step == 0:
        _evaluate(ready, folder, progress, screen)
        _watch(ready, folder, progress)
    with _interrupts() as interrupted, screen.training(steps, progress.step) as show:
        while progress.step < steps:
            _one_step(ready, folder, optimizer, progress, show)
            _refuse_repeated_skips(progress, folder)
            _watch(ready, folder, progress)
            last = progress.step == steps
            improved = False
            if last or progress.step % ready.recipe.train.evaluate_every == 0:
                improved = _evaluate(ready, folder, progress, screen)
            stop = interrupted() and not last
            if last or improved or stop or progress.step % ready.recipe.train.checkpoint_every == 0:
                _save(ready, folder, optimizer, progress)
            if stop:
                raise Interrupted(
                    f"Step {progress.step} is saved; go on with: {run_folder.resume_command(folder)}"
                )
    return _finish(ready, folder, time.perf_counter() - start)


def finished_steps(folder: Path) -> int | None:
    """The number of steps of the finished run in `folder`; None where it hasn't finished."""
    file = folder / run_folder.RESULT
    if not file.exists() or not (folder / run_folder.FINAL).exists():
        return None
    try:
        return json.loads(file.read_text(encoding="utf-8"))["steps"]
    except (ValueError, KeyError, TypeError):  # damaged: finishing again writes it anew
        return None


def _restored(ready: Ready, folder: Path, optimizer: optim.AdamW, screen: Screen) -> Progress:
    newest = checkpoint.newest(folder)
    if newest is None:
        run_folder.forget_after(folder, -1)
        return Progress()
    progress = checkpoint.load(newest, ready.student, optimizer, ready.identity)
    if progress.step > ready.recipe.train.steps:
        raise Refusal(
            f"train.steps={ready.recipe.train.steps}: the run is at step {progress.step} already: give more"
        )
    run_folder.forget_after(folder, progress.step)
    checkpoint.prune(
        folder, ready.recipe.train.keep_checkpoints, progress.best_step
    )  # a kill may have come before
    run_folder.keep_recipe(folder, ready.recipe)
    screen.say(f"resumed  at step {progress.step}")
    return progress


def _one_step(ready: Ready, folder: Path, optimizer: optim.AdamW, progress: Progress, show) -> None:
    recipe = ready.recipe
    rows = rows_for_step(progress.step, recipe.rollout.prompts_per_step, len(ready.data.train), recipe.seed)
    prompts = [ready.prompt(row) for row in rows]
    mx.reset_peak_memory()
    result = run_step(ready.student, ready.teacher, prompts, recipe, optimizer, progress)
    row = metrics.row(progress.step, result, ready.student, float(optimizer.learning_rate))
    run_folder.append(folder / run_folder.METRICS, row)
    if not result.finite:
        ids = [prompt.example.id for prompt in prompts]
        run_folder.append(folder / run_folder.BAD_BATCHES, {"step": progress.step, "rows": ids})
    show(row)


def _refuse_repeated_skips(progress: Progress, folder: Path) -> None:
    if progress.skipped_in_a_row >= MOST_SKIPPED_IN_A_ROW:
        raise Refusal(
            f"stopped at step {progress.step}: the loss or its gradient was not finite {MOST_SKIPPED_IN_A_ROW} times "
            f"in a row; the rows stand in {folder / run_folder.BAD_BATCHES}: look at them, or start anew with a lower "
            "train.learning_rate"
        )


def _evaluate(ready: Ready, folder: Path, progress: Progress, screen: Screen) -> bool:
    """Greedy accuracy on the held-out rows, written down; True if it is the best so far."""
    settings = ready.recipe.train
    answers = _answers(ready, screen)
    found = {"step": progress.step, **evaluation.summary([[each] for each in answers])}
    if settings.evaluate_blind and progress.step == settings.steps:
        blind = evaluation.summary([[each] for each in _answers(ready, screen, with_image=False)])
        found["blind"] = {name: blind[name] for name in ("accuracy", "low", "high")}
    run_folder.append(folder / run_folder.EVALUATIONS, found)
    graded = {"ids": [each.example.id for each in answers], "right": [int(each.right) for each in answers]}
    run_folder.append(folder / run_folder.ANSWERS, {"step": progress.step, **graded})
    screen.say(f"step {progress.step:4}  {accuracy_line(found)}")
    _show_some(answers[:SAMPLES_SHOWN], folder, progress.step, screen)
    if progress.best_accuracy is None or found["accuracy"] > progress.best_accuracy:
        progress.best_accuracy, progress.best_step = found["accuracy"], progress.step
        return True
    return False


def _answers(ready: Ready, screen: Screen, *, with_image: bool = True) -> list[evaluation.Answer]:
    """The student's greedy answer to each held-out row that the recipe evaluates on."""
    rows = ready.data.held_out[: ready.recipe.train.evaluate_rows]
    sampling = Sampling(ready.recipe.rollout.max_completion_length, temperature=0.0)
    with screen.counting("evaluating") as count:
        answers = evaluation.answer(
            ready.student, rows, ready.recipe.data, sampling, with_image=with_image,
            batch_size=ready.recipe.rollout.batch_size, progress=lambda done: count(done, len(rows)),
        )  # fmt: skip
    return [each for (each,) in answers]


def _show_some(answers: list[evaluation.Answer], folder: Path, step: int, screen: Screen) -> None:
    for answer in answers:
        example = answer.example
        shown = {
            "step": step,
            "id": example.id,
            "pictures": [picture.name for picture in example.pictures],
            "question": example.question,
            "completion": answer.completion,
            "expected": example.answer,
            "right": answer.right,
        }
        run_folder.append(folder / run_folder.COMPLETIONS, shown)
        mark = "right" if answer.right else f"wrong, expected {example.answer}"
        screen.say(f"           {example.question} [{', '.join(shown['pictures'])}]")
        screen.say(f"           -> {answer.completion} ({mark})")


def _watch(ready: Ready, folder: Path, progress: Progress) -> None:
    every = ready.recipe.train.watch_every
    if every is not None and (progress.step % every == 0 or progress.step == ready.recipe.train.steps):
        watch.look(ready, folder, progress.step)


def _save(ready: Ready, folder: Path, optimizer: optim.AdamW, progress: Progress) -> None:
    checkpoint.save(folder, ready.student, optimizer, progress, ready.recipe.student, ready.identity)
    checkpoint.prune(folder, ready.recipe.train.keep_checkpoints, progress.best_step)


def _finish(ready: Ready, folder: Path, seconds: float) -> Outcome:
    """Write the result and, last of all, the final weights."""
    evaluations = run_folder.rows(folder / run_folder.EVALUATIONS)
    outcome = Outcome(evaluations[0], evaluations[-1], seconds)
    best = max(evaluations, key=lambda each: each["accuracy"])  # the first of equals, as Progress has it
    result = {
        "steps": ready.recipe.train.steps,
        "accuracy_before": outcome.before["accuracy"],
        "accuracy_after": outcome.after["accuracy"],
        "best": {"step": best["step"], "accuracy": best["accuracy"]},
        **asdict(outcome),
        "identity": contents(ready.identity, ready.data),
    }
    run_folder.write_text(folder / run_folder.RESULT, json.dumps(result, indent=2) + "\n")
    beside = folder / f".{run_folder.FINAL}.writing"
    shutil.rmtree(beside, ignore_errors=True)
    checkpoint.write_weights(beside, ready.student, ready.recipe.student)
    run_folder.replace_folder(beside, folder / run_folder.FINAL)
    return outcome


@contextmanager
def _interrupts() -> Iterator:
    """The first Ctrl-C is remembered (the body finishes its step and saves); the second stops at once."""
    pressed: list[int] = []

    def remember(*_: Any) -> None:
        if pressed:
            raise KeyboardInterrupt
        pressed.append(1)
        os.write(2, STOPPING)  # and no print: the signal may have come in the middle of another one

    previous = signal.signal(signal.SIGINT, remember)
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, previous)
