"""Supervised training on `shapes`: batches, the loss over the answers' tokens, checkpoints."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import vgs_mlx  # noqa: F401  (before mlx: it loads a fast BLAS)

# isort: split
import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten
from tokenizers import Tokenizer

from tiny import fast
from tiny.files import END, PAD
from tiny.forward import hidden_states, logits, patches, see
from tiny.score import prompt_text
from vgs_mlx.data.shapes import example

BATCH, BUCKET = 32, 8  # rows of a step; steps whose rows are sorted by length together
TEXT_ONLY = 0.1  # share of the training rows that lose their picture
WARMUP, DECAY, CLIP = 60, 0.01, 1.0


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows with a picture come first. The token after each of `places`, flat in (B, L), is in `targets`."""

    ids: np.ndarray  # (B, L), right-padded
    pixels: np.ndarray  # (rows with a picture, 36, 864)
    places: np.ndarray
    targets: np.ndarray


def batches(
    name: str, tokenizer: Tokenizer, seed: int, first: int, *, mismatched: float = 0.0
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
                pairs = [(prompts[i].ids, answers[i].ids) for i in part]
                yield _batch(pairs, _swap(images, mismatched, rng))


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
