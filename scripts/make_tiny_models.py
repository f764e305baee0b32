"""Makes the two tiny Qwen3-VL models that the package ships, by supervised training on `shapes`.

    python scripts/make_tiny_models.py train teacher
    python scripts/make_tiny_models.py train student
    python scripts/make_tiny_models.py unsettle --language-only
    python scripts/make_tiny_models.py ship

Two trainings side by side with OPENBLAS_NUM_THREADS=1 use two cores best.

Every command can be interrupted and repeated: training goes on from its last checkpoint in --runs.
"""

import json
import shutil
import time
from pathlib import Path

import vgs_mlx  # noqa: F401  (before mlx: it loads a fast BLAS)

# isort: split
import click
import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import mlx_vlm
import numpy as np
from mlx.utils import tree_flatten
from tokenizers import Tokenizer

from tiny import card
from tiny.files import build, save_model, write_shared_files
from tiny.look import look
from tiny.score import prompt_text, score
from tiny.train import DECAY, WARMUP, batches, fit, load_checkpoint, optimiser_for, save_checkpoint
from vgs_mlx.data.shapes import examples

LOOK, LOOK_PEAK = 400, 3e-3  # steps of the vision tower alone, and their learning rate
PEAK = {"teacher": 1.5e-3, "student": 2e-3}
TINY = Path(__file__).parent.parent / "vgs_mlx" / "tiny"
OWN = ("config.json", "model.safetensors", "README.md")  # files that the two models don't share


def report(runs: Path, label: str, record: dict) -> None:
    """Print a record and append it to the log."""
    line = json.dumps({"run": label} | record)
    print(line, flush=True)
    with (runs / "log.jsonl").open("a") as log:
        log.write(line + "\n")


def shared_files(runs: Path) -> tuple[Path, Tokenizer]:
    """The files both models share; those shipped stay as they are, so that retrained models fit them."""
    folder = runs / "shared"
    if not (folder / "tokenizer.json").exists():
        if (TINY / "teacher" / "tokenizer.json").exists():
            shutil.copytree(TINY / "teacher", folder, ignore=shutil.ignore_patterns(*OWN))
        else:
            write_shared_files(folder)
    return folder, Tokenizer.from_file(str(folder / "tokenizer.json"))


def weights(path: Path) -> dict[str, mx.array]:
    return {k[6:]: v for k, v in mx.load(str(path)).items() if k.startswith("model.")}


def first_look(model, seed: int, label: str) -> None:
    """Train the vision tower alone."""
    started, shares = time.time(), []
    for step, share in look(model, LOOK, LOOK_PEAK, seed):
        shares.append(share)
        if step % 50 == 0:
            seen, seconds = np.mean(shares[-50:]), time.time() - started
            print(f"{label} look {step}/{LOOK} cells seen {seen:.3f} {seconds:.0f} s", flush=True)


runs_option = click.option(
    "--runs", type=click.Path(path_type=Path), default=Path("tiny_runs"), show_default=True
)


@click.group()
def main() -> None:
    """Make the tiny teacher and student."""


@main.command()
@click.argument("name", type=click.Choice(["teacher", "student"]))
@runs_option
@click.option("--steps", type=int, default=900, show_default=True)
@click.option("--peak", type=float, help="Highest learning rate.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--every", type=int, default=200, show_default=True, help="Steps between checks and checkpoints."
)
@click.option("--label", help="Folder of the run in --runs; default: NAME.")
@click.option("--start", help="Run whose weights to start from, instead of a first look.")
def train(
    name: str,
    runs: Path,
    steps: int,
    peak: float | None,
    seed: int,
    every: int,
    label: str | None,
    start: str | None,
) -> None:
    """Train a model from scratch: first its vision tower on cells, then all on answers in its own wording."""
    label = label or name
    _, tokenizer = shared_files(runs)
    mx.random.seed(seed)
    model, optimiser = build(name), optimiser_for(peak or PEAK[name], steps, WARMUP)
    done = load_checkpoint(runs / label, model, optimiser)
    if not (runs / label).exists():
        if start:
            model.load_weights(list(weights(runs / start / "last.safetensors").items()))
        else:
            first_look(model, seed, label)
        save_checkpoint(runs / label, model, optimiser, 0)
    stream = batches(name, tokenizer, seed, done)
    held_out, started, losses = examples("held_out", 512, style=name), time.time(), []
    for step, value in fit(model, optimiser, stream, done, steps):
        losses.append(value)
        if step % 25 == 0:
            print(
                f"{label} {step}/{steps} loss {np.mean(losses[-25:]):.4f} {time.time() - started:.0f} s",
                flush=True,
            )
        if step % every == 0 or step == steps:
            save_checkpoint(runs / label, model, optimiser, step)
            scores = score(model, tokenizer, held_out)
            seconds = round(time.time() - started)
            report(
                runs,
                label,
                {"step": step, "loss": float(np.mean(losses[-every:])), "seconds": seconds} | scores,
            )


@main.command()
@runs_option
@click.option("--source", default="student", show_default=True, help="Run to start from.")
@click.option("--label", default="unsettled", show_default=True)
@click.option("--steps", type=int, default=8, show_default=True)
@click.option(
    "--share", type=float, default=1.0, show_default=True, help="Share of pictures that are swapped."
)
@click.option("--language-only", is_flag=True, help="Leave the vision tower as it is.")
@click.option("--rate", type=float, default=3e-4, show_default=True)
@click.option("--seed", type=int, default=7, show_default=True)
def unsettle(
    runs: Path, source: str, label: str, steps: int, share: float, language_only: bool, rate: float, seed: int
) -> None:
    """Train the student a little on pictures that don't belong to their questions."""
    _, tokenizer = shared_files(runs)
    model, optimiser = build("student"), optim.AdamW(rate, weight_decay=DECAY)
    model.load_weights(list(weights(runs / source / "last.safetensors").items()))
    if language_only:
        model.vision_tower.freeze()
    stream = batches("student", tokenizer, seed, 0, mismatched=share)
    held_out = examples("held_out", 512, style="student")
    for step, value in fit(model, optimiser, stream, 0, steps):
        if step % 5 == 0 or step == steps:
            report(runs, label, {"step": step, "loss": value} | score(model, tokenizer, held_out))
            save_checkpoint(runs / f"{label}-{step}", model, optimiser, step)


@main.command()
@runs_option
@click.option("--teacher", default="teacher", show_default=True, help="Run to ship as the teacher.")
@click.option("--student", default="unsettled-8", show_default=True, help="Run to ship as the student.")
@click.option("--output", type=click.Path(path_type=Path), default=TINY, show_default=True)
@click.option(
    "--rows", type=int, default=2000, show_default=True, help="Held-out rows to score the result on."
)
def ship(runs: Path, teacher: str, student: str, output: Path, rows: int) -> None:
    """Write both models in mlx-vlm's form, the teacher 4-bit, and score what stock mlx-vlm loads."""
    shared, tokenizer = shared_files(runs)
    for name, run in (("teacher", teacher), ("student", student)):
        save_model(
            name, weights(runs / run / "last.safetensors"), shared, output / name, quantise=name == "teacher"
        )
        card.write(output / name, name)
        size = sum(path.stat().st_size for path in (output / name).iterdir())
        scores = score_folder(output / name, tokenizer, rows)
        report(runs, f"shipped {name}", {"bytes": size} | scores)


@main.command("score")
@runs_option
@click.argument("name", type=click.Choice(["teacher", "student"]))
@click.argument("run")
@click.option("--rows", type=int, default=2000, show_default=True)
def score_run(runs: Path, name: str, run: str, rows: int) -> None:
    """Score a checkpoint in float32."""
    model = build(name)
    model.load_weights(list(weights(runs / run / "last.safetensors").items()))
    report(
        runs, f"{run} float32", score(model, shared_files(runs)[1], examples("held_out", rows, style=name))
    )


def check_prompts(processor, tokenizer: Tokenizer) -> None:
    """The processor makes of a question just what the models were trained on, in both views."""
    row = examples("held_out", 1)[0]
    for pictures in ([row.pictures[0].open()], []):
        content = [{"type": "image"}] * len(pictures) + [{"type": "text", "text": row.question}]
        messages = [{"role": "user", "content": content}]
        text = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        ids = processor(images=pictures or None, text=[text])["input_ids"].tolist()[0]
        assert ids == tokenizer.encode(prompt_text(row.question, bool(pictures))).ids, text


def score_folder(folder: Path, tokenizer: Tokenizer, rows: int) -> dict:
    """Score a folder as stock mlx-vlm loads it, with its weights dequantised and in float32 for speed."""
    model, processor = mlx_vlm.load(str(folder))
    check_prompts(processor, tokenizer)
    plain = {}
    for path, module in model.named_modules():
        if isinstance(module, nn.QuantizedLinear | nn.QuantizedEmbedding):
            size = {"group_size": module.group_size, "bits": module.bits}
            plain[f"{path}.weight"] = mx.dequantize(module.weight, module.scales, module.biases, **size)
    stored = {k: v for k, v in tree_flatten(model.parameters()) if v.dtype == mx.bfloat16}
    fresh = build(folder.name)
    wanted = dict(tree_flatten(fresh.parameters()))
    fresh.load_weights([(k, (plain.get(k, stored.get(k))).astype(mx.float32)) for k in wanted])
    return score(fresh, tokenizer, examples("held_out", rows, style=folder.name))


if __name__ == "__main__":
    main()
