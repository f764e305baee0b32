"""How well a tiny model answers `shapes`: greedy answers in batches of equal prompts, graded by kind."""

from collections import defaultdict

import mlx.core as mx
import numpy as np
from mlx_vlm.models.cache import KVCache
from mlx_vlm.models.qwen3_vl import Model
from tokenizers import Tokenizer

from tiny.files import END, IMAGE, PAD
from tiny.forward import TOKENS, hidden_states, logits, patches, run_layers, see
from vgs_mlx.data.shapes import scene_f1
from vgs_mlx.types import Example

BATCH, MOST_TOKENS = 128, 56
PROMPT = "<|im_start|>user\n{picture}{question}<|im_end|>\n<|im_start|>assistant\n"
PICTURE = "<|vision_start|>" + "<|image_pad|>" * TOKENS + "<|vision_end|>"


def prompt_text(question: str, with_picture: bool) -> str:
    """What the processor makes of the chat template; a test of the shipped models compares both."""
    return PROMPT.format(picture=PICTURE if with_picture else "", question=question)


def score(model: Model, tokenizer: Tokenizer, rows: list[Example]) -> dict:
    """Greedy accuracy (overall, by kind), scene F1, share of answers in the format, and blind accuracy."""
    answers = answer(model, tokenizer, rows, with_picture=True)
    blind = answer(model, tokenizer, rows, with_picture=False)
    by_kind = defaultdict(list)
    for row, text in zip(rows, answers, strict=True):
        by_kind[row.kind].append(is_right(text, row))
    return {
        "accuracy": _mean(right for kind in by_kind.values() for right in kind),
        "by_kind": {kind: _mean(by_kind[kind]) for kind in sorted(by_kind)},
        "blind": _mean(is_right(text, row) for row, text in zip(rows, blind, strict=True)),
        "scene_f1": _mean(scene_f1(text, row.facts) for row, text in zip(rows, answers, strict=True)),
        "boxed": _mean("\\boxed{" in text and text.endswith("}") for text in answers),
        "rows": len(rows),
    }


def is_right(text: str, row: Example) -> bool:
    return text.endswith(f"\\boxed{{{row.answer}}}")


def answer(model: Model, tokenizer: Tokenizer, rows: list[Example], *, with_picture: bool) -> list[str]:
    """Greedy completions. Prompts of one length are decoded together, so nothing is padded."""
    groups = defaultdict(list)
    for index, row in enumerate(rows):
        ids = tokenizer.encode(prompt_text(row.question, with_picture)).ids
        groups[len(ids)].append((index, ids))
    texts = [""] * len(rows)
    for group in groups.values():
        for first in range(0, len(group), BATCH):
            indices, prompts = zip(*group[first : first + BATCH], strict=True)
            images = [np.asarray(rows[i].pictures[0].open()) for i in indices] if with_picture else []
            done = decode(model, np.array(prompts), images)
            for index, text in zip(indices, tokenizer.decode_batch(done.tolist()), strict=True):
                texts[index] = text
    return texts


def decode(model: Model, prompts: np.ndarray, images: list[np.ndarray]) -> np.ndarray:
    """Greedy tokens (B, T); the end and what follows are padding."""
    cache = [KVCache() for _ in model.language_model.model.layers]
    visual = see(model, mx.array(patches(images))) if images else None
    h = hidden_states(model, prompts, visual, cache)[:, -1:]
    next_position = prompts.shape[1] - (TOKENS - int(TOKENS**0.5) if (prompts == IMAGE).any() else 0)
    ended, tokens = np.zeros(len(prompts), bool), []
    for step in range(MOST_TOKENS):
        token = np.array(mx.argmax(logits(model, h)[:, -1], axis=-1))
        ended |= token == END
        tokens.append(np.where(ended, PAD, token))
        if ended.all():
            break
        place = mx.full((3, len(prompts), 1), next_position + step)
        embedded = model.language_model.model.embed_tokens(mx.array(token)[:, None])
        h = run_layers(model, embedded, place, [], cache)
    return np.stack(tokens, axis=1)


def _mean(values) -> float:
    return round(float(np.mean(list(values))), 4)
