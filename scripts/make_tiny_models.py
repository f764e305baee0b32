"""Makes the two tiny Qwen3-VL models that the package ships, by supervised training on `shapes`.

    python scripts/make_tiny_models.py train teacher
    python scripts/make_tiny_models.py train student
    python scripts/make_tiny_models.py unsettle
    python scripts/make_tiny_models.py ship

Every command can be interrupted and repeated: training goes on from its last checkpoint in --runs.
"""

import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import vgs_mlx  # noqa: F401  (before mlx: it loads a fast BLAS)

# isort: split
import click
import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import mlx_vlm
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten
from tokenizers import Tokenizer

from tiny import fast
from tiny.files import END, PAD, build, save_model, write_shared_files
from tiny.forward import hidden_states, logits, patches, see
from tiny.look import look
from tiny.score import prompt_text, score
from vgs_mlx.data.shapes import example, examples

BATCH, BUCKET = 64, 4  # rows of a step; steps whose rows are sorted by length together
TEXT_ONLY = 0.1  # share of the training rows that lose their picture
WARMUP, DECAY, CLIP = 100, 0.01, 1.0
LOOK, LOOK_PEAK = 400, 3e-3  # steps of the vision tower alone, and their learning rate
PEAK = {"teacher": 1.5e-3, "student": 2e-3}
TINY = Path(__file__).parent.parent / "vgs_mlx" / "tiny"


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows with a picture come first. The token after each of `places`, flat in (B, L), is in `targets`."""

    ids: np.ndarray  # (B, L), right-padded
    pixels: np.ndarray  # (rows with a picture, 36, 864)
    places: np.ndarray
    targets: np.ndarray


def batches(
    name: str, tokenizer: Tokenizer, seed: int, first: int, mismatched: float = 0.0
) -> Iterator[Batch]:
    """Batches from step `first` on, a pure function of the arguments; no example comes twice.

    `mismatched` is the share of pictures that are swapped with those of other rows.
    """
    for bucket in range(first // BUCKET, 1 << 30):
        rng = random.Random(f"{name} {seed} {bucket}")
        rows = [
            example("train", bucket * BATCH * BUCKET + i, seed=seed, style=name)
            for i in range(BATCH * BUCKET)
        ]
        seen = [rng.random() >= TEXT_ONLY for _ in rows]
        prompts = tokenizer.encode_batch(
            [prompt_text(row.question, s) for row, s in zip(rows, seen, strict=True)]
        )
        answers = tokenizer.encode_batch([row.solution for row in rows])
        lengths = [len(p.ids) + len(a.ids) for p, a in zip(prompts, answers, strict=True)]
        order = sorted(range(len(rows)), key=lambda i: lengths[i])
        parts = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]
        rng.shuffle(parts)
        for step, part in enumerate(parts, bucket * BUCKET):
            part.sort(key=lambda i: not seen[i])
            if step >= first:
                images = [np.asarray(rows[i].pictures[0].open()) for i in part if seen[i]]
                yield _batch([(prompts[i].ids, answers[i].ids) for i in part], _swap(images, mismatched, rng))


def _swap(images: list[np.ndarray], share: float, rng: random.Random) -> list[np.ndarray]:
    chosen = [i for i in range(len(images)) if rng.random() < share]
    swapped = dict(zip(chosen, chosen[1:] + chosen[:1], strict=True))
    return [images[swapped.get(i, i)] for i in range(len(images))]


def _batch(rows: list[tuple[list[int], list[int]]], images: list[np.ndarray]) -> Batch:
    full = [prompt + answer + [END] for prompt, answer in rows]
    length = max(map(len, full)) - 1  # the last token is only a target
    ids = np.full((len(full), length), PAD)
    places, targets = [], []
    for row, (tokens, (prompt, _)) in enumerate(zip(full, rows, strict=True)):
        ids[row, : len(tokens) - 1] = tokens[:-1]
        places += range(row * length + len(prompt) - 1, row * length + len(tokens) - 1)
        targets += tokens[len(prompt) :]
    return Batch(ids, patches(images), np.array(places), np.array(targets))


def loss(model, batch: Batch) -> mx.array:
    """Mean cross-entropy over the tokens of the answers, in nats."""
    h = hidden_states(model, batch.ids, see(model, mx.array(batch.pixels)))
    h = h.reshape(-1, h.shape[-1])[mx.array(batch.places)]
    return fast.cross_entropy(logits(model, h), mx.array(batch.targets))


def fit(model, optimiser, stream: Iterator[Batch], first: int, last: int) -> Iterator[tuple[int, float]]:
    """Train and yield (steps done, loss)."""
    step_loss = nn.value_and_grad(model, loss)
    for step in range(first, last):
        value, gradients = step_loss(model, next(stream))
        gradients, _ = optim.clip_grad_norm(gradients, CLIP)
        optimiser.update(model, gradients)
        mx.eval(model.parameters(), optimiser.state, value)
        yield step + 1, value.item()


def first_look(model, seed: int, label: str) -> None:
    """Train the vision tower alone."""
    started, shares = time.time(), []
    for step, share in look(model, LOOK, LOOK_PEAK, seed):
        shares.append(share)
        if step % 50 == 0:
            seen, seconds = np.mean(shares[-50:]), time.time() - started
            print(f"{label} look {step}/{LOOK} cells seen {seen:.3f} {seconds:.0f} s", flush=True)


def optimiser_for(peak: float, steps: int, warmup: int) -> optim.AdamW:
    rise = optim.linear_schedule(peak / warmup, peak, warmup)
    fall = optim.cosine_decay(peak, max(steps - warmup, 1), 0.02 * peak)
    return optim.AdamW(optim.join_schedules([rise, fall], [warmup]), weight_decay=DECAY)


def save_checkpoint(folder: Path, model, optimiser, step: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"model.{k}": v for k, v in tree_flatten(model.parameters())}
    tensors |= {f"optim.{k}": v for k, v in tree_flatten(optimiser.state)}
    mx.save_safetensors(str(folder / "new.safetensors"), tensors, metadata={"step": str(step)})
    (folder / "new.safetensors").rename(folder / "last.safetensors")


def load_checkpoint(folder: Path, model, optimiser) -> int:
    """Steps done; 0 and nothing changed where there is no checkpoint."""
    path = folder / "last.safetensors"
    if not path.exists():
        return 0
    tensors, metadata = mx.load(str(path), return_metadata=True)
    model.load_weights([(k[6:], v) for k, v in tensors.items() if k.startswith("model.")])
    optimiser.state = tree_unflatten([(k[6:], v) for k, v in tensors.items() if k.startswith("optim.")])
    return int(metadata["step"])


def report(runs: Path, label: str, record: dict) -> None:
    """Print a record and append it to the log."""
    line = json.dumps({"run": label} | record)
    print(line, flush=True)
    with (runs / "log.jsonl").open("a") as log:
        log.write(line + "\n")


def shared_files(runs: Path) -> tuple[Path, Tokenizer]:
    folder = runs / "shared"
    if not (folder / "tokenizer.json").exists():
        write_shared_files(folder)
    return folder, Tokenizer.from_file(str(folder / "tokenizer.json"))


def weights(path: Path) -> dict[str, mx.array]:
    return {k[6:]: v for k, v in mx.load(str(path)).items() if k.startswith("model.")}


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
def train(
    name: str, runs: Path, steps: int, peak: float | None, seed: int, every: int, label: str | None
) -> None:
    """Train a model from scratch: first its vision tower on cells, then all on answers in its own wording."""
    label = label or name
    _, tokenizer = shared_files(runs)
    mx.random.seed(seed)
    model, optimiser = build(name), optimiser_for(peak or PEAK[name], steps, WARMUP)
    done = load_checkpoint(runs / label, model, optimiser)
    if not (runs / label).exists():
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
@click.option("--steps", type=int, default=20, show_default=True)
@click.option(
    "--share", type=float, default=1.0, show_default=True, help="Share of pictures that are swapped."
)
@click.option("--rate", type=float, default=3e-4, show_default=True)
@click.option("--seed", type=int, default=7, show_default=True)
def unsettle(runs: Path, source: str, label: str, steps: int, share: float, rate: float, seed: int) -> None:
    """Train the student a little on pictures that don't belong to their questions."""
    _, tokenizer = shared_files(runs)
    model, optimiser = build("student"), optim.AdamW(rate, weight_decay=DECAY)
    model.load_weights(list(weights(runs / source / "last.safetensors").items()))
    stream = batches("student", tokenizer, seed, 0, mismatched=share)
    held_out = examples("held_out", 512, style="student")
    for step, value in fit(model, optimiser, stream, 0, steps):
        if step % 5 == 0 or step == steps:
            report(runs, label, {"step": step, "loss": value} | score(model, tokenizer, held_out))
            save_checkpoint(runs / f"{label}-{step}", model, optimiser, step)


@main.command()
@runs_option
@click.option("--teacher", default="teacher", show_default=True, help="Run to ship as the teacher.")
@click.option("--student", default="unsettled-20", show_default=True, help="Run to ship as the student.")
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


def score_folder(folder: Path, tokenizer: Tokenizer, rows: int) -> dict:
    """Score a folder as stock mlx-vlm loads it, with its weights dequantised and in float32 for speed."""
    model, _ = mlx_vlm.load(str(folder))
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
