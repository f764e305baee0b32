"""The training loop: sample, score, steer, update and report; evaluate and save at intervals."""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.optimizers as optim

from vgs_mlx.data.order import rows_for_step
from vgs_mlx.errors import Interrupted, Refusal
from vgs_mlx.evaluation import evaluate as evaluation
from vgs_mlx.machine import stopping
from vgs_mlx.machine.stopping import BrokenOff, Stop
from vgs_mlx.recipe.objective import updates_per_step
from vgs_mlx.runs import checkpoint
from vgs_mlx.runs import folder as run_folder
from vgs_mlx.runs.identity import contents
from vgs_mlx.runs.progress import Progress
from vgs_mlx.runs.records import PUT_BACK, read_object
from vgs_mlx.runs.screen import Screen, accuracy_line
from vgs_mlx.train import metrics, watch
from vgs_mlx.train import optimizer as adamw
from vgs_mlx.train.setup import Ready
from vgs_mlx.train.step import run_step

SAMPLES_SHOWN = 3
MOST_SKIPPED_IN_A_ROW = 3
FINISHING = "finishing this step, then saving"
BREAKING_OFF = "stopping the measurement of this step; the steps are kept"


@dataclass(frozen=True)
class Outcome:
    """How a finished run ended."""

    before: dict[str, Any]  # evaluation summaries, see `evaluate.summary`
    after: dict[str, Any]
    seconds: float  # of all processes that worked on the run; steps that were lost and repeated count once
    seconds_of_last_process: float  # the same if there was only one


@dataclass
class _Run:
    """The state of a run in progress."""

    ready: Ready
    folder: Path
    screen: Screen
    optimizer: optim.AdamW
    progress: Progress
    stop: Stop
    saved: int  # the newest checkpoint's step; 0: no checkpoint
    begin: float  # when this process began
    last: float  # when the last step ended; before the first step, when this process began


def run(ready: Ready, folder: Path, screen: Screen) -> Outcome:
    """Train from the newest checkpoint in `folder`, or from step 0, to the recipe's last step.

    Raises `Interrupted` after the first Ctrl-C or SIGTERM, `KeyboardInterrupt` at the second.
    """
    begin = time.perf_counter()
    optimizer = adamw.make(ready.recipe.train, ready.student, updates_per_step(ready.recipe))
    progress = _restored(ready, folder, optimizer, screen)
    with stopping.put_off(FINISHING, BREAKING_OFF) as stop:
        going = _Run(ready, folder, screen, optimizer, progress, stop, progress.step, begin, begin)
        try:
            _train(going)
            return _finish(going)
        except BrokenOff:
            raise _interrupted(going) from None


def _train(run: _Run) -> None:
    """Step, save, measure. A step is saved first, since measuring may take longer and can be repeated."""
    steps, progress = run.ready.recipe.train.steps, run.progress
    _measure(run)  # at step 0; on resume, what a stop or a kill prevented at this step
    with run.screen.training(steps, progress.step) as show:
        while progress.step < steps:
            _one_step(run, show)
            _refuse_repeated_skips(progress, run.folder)
            if _evaluation_is_due(run) or progress.step % run.ready.recipe.train.checkpoint_every == 0:
                _save(run)
            _measure(run)


def _interrupted(run: _Run) -> Interrupted:
    """Save the last step if it is not saved yet. Returns the exception to raise."""
    step, again = run.progress.step, f"go on with: {run_folder.resume_command(run.folder)}"
    if step == 0:
        return Interrupted(f"No step is saved yet; {again}")
    if run.saved != step:
        _save(run)
    return Interrupted(f"Step {step} is saved; {again}")


def finished_steps(folder: Path) -> int | None:
    """The number of steps of the finished run in `folder`; None where it hasn't finished. Raises `Refusal`."""
    file = folder / run_folder.RESULT
    if not file.exists() or not (folder / run_folder.FINAL).exists():
        return None
    if not file.is_file():  # the result could not be written there
        raise Refusal(f"{file}: not a file: {PUT_BACK}")
    try:
        return read_object(file).get("steps")
    except Refusal:  # damaged: finishing the run again rewrites it
        return None


def _restored(ready: Ready, folder: Path, optimizer: optim.AdamW, screen: Screen) -> Progress:
    newest = checkpoint.newest(folder)
    if newest is None:
        run_folder.forget_after(folder, -1)
        return Progress()
    with screen.working("reading the checkpoint"):
        progress = checkpoint.load(newest, ready.student, optimizer, ready.identity)
    if progress.step > ready.recipe.train.steps:
        raise Refusal(
            f"train.steps={ready.recipe.train.steps}: the run is at step {progress.step} already: give more steps"
        )
    if ready.recipe.train.watch_every:
        watch.own_completions(ready, folder)  # checked now, rather than at the next look
    run_folder.forget_after(folder, progress.step)
    if not run_folder.has_row(folder / run_folder.EVALUATIONS, progress.step):
        # the row is written last, so a kill may have left answers without it
        run_folder.forget_after(folder, progress.step - 1, (run_folder.ANSWERS, run_folder.COMPLETIONS))
    _note_best(progress, folder)
    checkpoint.prune(folder, ready.recipe.train.keep_checkpoints, progress.best_step)
    run_folder.keep_recipe(folder, ready.recipe)
    screen.say(f"resumed  at step {progress.step}")
    return progress


def _note_best(progress: Progress, folder: Path) -> None:
    """Read the best evaluation from evaluations.jsonl: a checkpoint is saved before its step is evaluated."""
    if best := run_folder.best_evaluation(folder):
        progress.best_accuracy, progress.best_step = best["accuracy"], best["step"]


def _one_step(run: _Run, show) -> None:
    recipe, progress, data = run.ready.recipe, run.progress, run.ready.data
    rows = rows_for_step(progress.step, recipe.rollout.prompts_per_step, len(data.train), recipe.seed)
    prompts = [run.ready.prompt(row) for row in rows]
    mx.reset_peak_memory()
    result = run_step(run.ready.student, run.ready.teacher, prompts, recipe, run.optimizer, progress)
    row = metrics.row(progress.step, result, run.ready.student, float(run.optimizer.learning_rate))
    now = time.perf_counter()
    row = {**row, "seconds_between": round(now - run.last - _seconds(row), 4)}
    run.last = now
    run_folder.append(run.folder / run_folder.METRICS, row)
    if not result.finite:
        ids = [prompt.example.id for prompt in prompts]
        run_folder.append(run.folder / run_folder.BAD_BATCHES, {"step": progress.step, "rows": ids})
    show(row)


def _refuse_repeated_skips(progress: Progress, folder: Path) -> None:
    if progress.skipped_in_a_row >= MOST_SKIPPED_IN_A_ROW:
        raise Refusal(
            f"stopped at step {progress.step}: the loss or its gradient was not finite {MOST_SKIPPED_IN_A_ROW} times "
            f"in a row; the rows are listed in {folder / run_folder.BAD_BATCHES}: check them, or start a new run with "
            "a lower train.learning_rate"
        )


def _measure(run: _Run) -> None:
    """Look at all terms and evaluate, if due at this step and not done yet. Raises `BrokenOff` on a stop."""
    step, folder = run.progress.step, run.folder
    if _look_is_due(run) and not run_folder.has_row(folder / run_folder.TERMS, step):
        with run.stop.at_once(), run.screen.working("looking at the loss terms"):
            watch.look(run.ready, folder, step)
    if _evaluation_is_due(run) and not run_folder.has_row(folder / run_folder.EVALUATIONS, step):
        _evaluate(run)
    if (
        run.stop.asked and step < run.ready.recipe.train.steps
    ):  # at the last step only the result is left to write
        raise BrokenOff


def _look_is_due(run: _Run) -> bool:
    every, last = run.ready.recipe.train.watch_every, run.ready.recipe.train.steps
    return every is not None and (run.progress.step % every == 0 or run.progress.step == last)


def _evaluation_is_due(run: _Run) -> bool:
    settings = run.ready.recipe.train
    return run.progress.step % settings.evaluate_every == 0 or run.progress.step == settings.steps


def _evaluate(run: _Run) -> None:
    """Record the greedy accuracy on the held-out rows. Its row is written last, to mark the record as complete."""
    settings, folder, step = run.ready.recipe.train, run.folder, run.progress.step
    with run.stop.at_once():
        answers = _answers(run.ready, run.screen)
        found = {"step": step, **evaluation.summary([[each] for each in answers])}
        if settings.evaluate_blind and step == settings.steps:
            unseen = _answers(run.ready, run.screen, with_image=False)
            blind = evaluation.summary([[each] for each in unseen])
            found["blind"] = {name: blind[name] for name in ("accuracy", "low", "high")}
    graded = {"ids": [each.example.id for each in answers], "right": [int(each.right) for each in answers]}
    for answer in answers[:SAMPLES_SHOWN]:
        run_folder.append(folder / run_folder.COMPLETIONS, _sample(answer, step))
    run_folder.append(folder / run_folder.ANSWERS, {"step": step, **graded})
    run_folder.append(folder / run_folder.EVALUATIONS, found)
    run.screen.say(f"step {step:4}  {accuracy_line(found)}")
    for answer in answers[:SAMPLES_SHOWN]:
        _show(answer, run.screen)
    _note_best(run.progress, folder)
    checkpoint.prune(folder, settings.keep_checkpoints, run.progress.best_step)


def _answers(ready: Ready, screen: Screen, *, with_image: bool = True) -> list[evaluation.Answer]:
    """The student's greedy answer to each held-out row that the recipe evaluates on."""
    rows = ready.data.held_out[: ready.recipe.train.evaluate_rows]
    how = evaluation.settings_of(ready.recipe, with_image=with_image)
    with screen.counting("evaluating") as count:
        count(0, len(rows))
        answers = evaluation.answer(ready.student, rows, how, progress=lambda done: count(done, len(rows)))
    return [each for (each,) in answers]


def _sample(answer: evaluation.Answer, step: int) -> dict[str, Any]:
    """An answer as a row of completions.jsonl."""
    example = answer.example
    return {
        "step": step,
        "id": example.id,
        "pictures": [picture.name for picture in example.pictures],
        "question": example.question,
        "completion": answer.completion,
        "expected": example.expected,
        "right": answer.right,
    }


def _show(answer: evaluation.Answer, screen: Screen) -> None:
    example, pictures = answer.example, ", ".join(picture.name for picture in answer.example.pictures)
    mark = "right" if answer.right else f"wrong, expected {example.expected}"
    screen.say(f"           {' '.join(example.question.split())} [{pictures}]")
    screen.say(f"           -> {answer.completion} ({mark})")


def _save(run: _Run) -> None:
    settings = run.ready.recipe
    checkpoint.save(
        run.folder, run.ready.student, run.optimizer, run.progress, settings.student, run.ready.identity
    )
    run.saved = run.progress.step
    checkpoint.prune(run.folder, settings.train.keep_checkpoints, run.progress.best_step)


def _finish(run: _Run) -> Outcome:
    """Write the result and then, last, the final weights."""
    ready, folder = run.ready, run.folder
    evaluations = run_folder.rows(folder / run_folder.EVALUATIONS)
    now = time.perf_counter()
    steps = sum(_seconds(row) for row in run_folder.rows(folder / run_folder.METRICS))
    outcome = Outcome(evaluations[0], evaluations[-1], steps + now - run.last, now - run.begin)
    best = run_folder.best_evaluation(folder)
    result = {
        "steps": ready.recipe.train.steps,
        "accuracy_before": outcome.before["accuracy"],
        "accuracy_after": outcome.after["accuracy"],
        "best": {"step": best["step"], "accuracy": best["accuracy"]},
        **asdict(outcome),
        "identity": contents(ready.identity, ready.data),
    }
    run_folder.write_text(folder / run_folder.RESULT, json.dumps(result, indent=2) + "\n")
    with run_folder.whole_folder(folder / run_folder.FINAL) as beside:
        checkpoint.write_weights(beside, ready.student, ready.recipe.student)
    return outcome


def _seconds(row: Mapping[str, Any]) -> float:
    """Seconds of a step and of the time since the step before. Earlier versions recorded only the first."""
    return row.get("seconds", {}).get("step", 0.0) + row.get("seconds_between", 0.0)
