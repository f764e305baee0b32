"""Draws completions by prefix continuation: in batches, exact, with a separate seed for each row.

Prompts of equal length are prefilled together, once each. Completions share their prompt's cache. Where prompts differ
in length, caches are padded on the left, and mlx-vlm's batch caches hide the padding. So other rows don't change a row.
mlx-vlm's batch generator can't seed a row, and its batched prefill mixes up features.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from vgs_mlx.machine.lazy import Lazy
from vgs_mlx.models import caches, prefix
from vgs_mlx.models.base import LoadedModel
from vgs_mlx.models.prefix import Prefix
from vgs_mlx.models.rows import Encodings
from vgs_mlx.objective.divergence import restricted_logprobs, token_logprobs
from vgs_mlx.types import View

sampling_utilities = Lazy("mlx_lm.sample_utils")

CHECK_EVERY = 8  # tokens between checks for rows that have ended: each check waits for the device
LARGEST_UNIFORM = 1.0 - 2.0**-24  # the largest float32 below 1


@dataclass(frozen=True)
class Sampling:
    """How to draw. Temperature 0 takes the most likely token."""

    max_completion_length: int
    temperature: float = 1.0
    top_p: float = 1.0


@dataclass(frozen=True, eq=False)
class Completion:
    """One drawn completion; see `types.Rollout` for the fields."""

    ids: np.ndarray
    sampling_logprobs: np.ndarray
    ended: bool


@dataclass
class _Batch:
    """The rows still being drawn."""

    rows: np.ndarray  # (B,) each row's index in the whole request
    prefix: Prefix
    logits: mx.array  # (B, V) for the next token


@dataclass
class _Drawn:
    """The tokens drawn so far for R rows of at most T tokens."""

    tokens: np.ndarray  # (R, T) int32
    logprobs: np.ndarray  # (R, T) float32
    lengths: np.ndarray  # (R,) of the completions; T for those that haven't ended
    ended: np.ndarray  # (R,) bool

    @classmethod
    def of(cls, rows: int, longest: int) -> "_Drawn":
        shape = rows, longest
        return cls(
            np.zeros(shape, np.int32),
            np.zeros(shape, np.float32),
            np.full(rows, longest),
            np.zeros(rows, bool),
        )

    def add(
        self,
        rows: np.ndarray,
        block: slice,
        tokens: np.ndarray,
        logprobs: np.ndarray,
        end_ids: frozenset[int],
    ) -> None:
        """Record the tokens of a block of columns, and which rows reached their first end-of-sequence id in it."""
        self.tokens[rows, block], self.logprobs[rows, block] = tokens, logprobs
        hits = np.isin(tokens, list(end_ids))
        for row, hit in zip(rows, hits, strict=True):
            if hit.any() and not self.ended[row]:  # rows that ended earlier may still be in the batch
                self.ended[row] = True
                self.lengths[row] = block.start + int(hit.argmax()) + 1

    def completions(self) -> list[Completion]:
        rows = zip(self.tokens, self.logprobs, self.lengths, self.ended, strict=True)
        return [
            Completion(ids[:length], logprobs[:length], bool(ended)) for ids, logprobs, length, ended in rows
        ]


def sample(
    model: LoadedModel,
    views: Sequence[View],
    seeds: Sequence[Sequence[Sequence[int]]],
    encodings: Encodings,
    sampling: Sampling,
) -> list[list[Completion]]:
    """Completions for each view, one per seed: `seeds[i][j]` is a tuple of integers for completion j of view i.

    Each row draws from its own generator, so its completion doesn't depend on the batch around it. Stops at
    an end-of-sequence id, which stays in the completion, or at `max_completion_length`.
    """
    support = model.support()
    flat_seeds = [seed for row in seeds for seed in row]
    uniforms = np.stack([_uniforms(seed, sampling.max_completion_length) for seed in flat_seeds])
    batch = _prefill(model, views, [len(row) for row in seeds], encodings)
    drawn = _Drawn.of(*uniforms.shape)
    done = 0
    while done < sampling.max_completion_length and len(batch.rows):
        count = min(CHECK_EVERY, sampling.max_completion_length - done)
        block = slice(done, done + count)
        tokens, logprobs = _draw_block(model, batch, uniforms[batch.rows, block], support, sampling)
        drawn.add(batch.rows, block, tokens, logprobs, model.end_ids)
        done += count
        _keep(batch, ~drawn.ended[batch.rows])
    completions = iter(drawn.completions())
    return [[next(completions) for _ in row] for row in seeds]


def _uniforms(seed: Sequence[int], count: int) -> np.ndarray:
    return np.minimum(np.random.default_rng(tuple(seed)).random(count, dtype=np.float32), LARGEST_UNIFORM)


def _prefill(
    model: LoadedModel, views: Sequence[View], copies: Sequence[int], encodings: Encodings
) -> _Batch:
    """Run each prompt once, those of equal length together. Repeat its cache for each of its completions."""
    order = sorted(range(len(views)), key=lambda number: len(views[number].ids))
    begun = []
    for _, numbers in itertools.groupby(order, key=lambda number: len(views[number].ids)):
        begun.append(prefix.start(model, [views[number] for number in numbers], encodings, decoding=True))
        mx.eval(begun[-1].last, caches.arrays(begun[-1].cache))
    place = {number: row for row, number in enumerate(order)}
    repeat = [place[number] for number, count in enumerate(copies) for _ in range(count)]
    joined = prefix.joined(begun)
    logits = model.logits(joined.last)
    batch = _Batch(np.arange(len(repeat)), joined, logits)
    _take(batch, repeat)
    return batch


def _draw_block(
    model: LoadedModel, batch: _Batch, uniforms: np.ndarray, support: mx.array, sampling: Sampling
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the next tokens of every row, (B, count), and feed them; returns them with their log-probs."""
    tokens, logprobs = [], []
    for column in range(uniforms.shape[1]):
        distribution = _distribution(batch.logits, support, sampling)
        token = choose(distribution, mx.array(uniforms[:, column]), sampling)
        tokens.append(token)
        logprobs.append(token_logprobs(distribution, token))
        hidden = prefix.states(model, batch.prefix, token[:, None])[:, 0]
        batch.prefix, batch.logits = prefix.advanced(batch.prefix, hidden), model.logits(hidden)
        mx.async_eval(batch.logits, token)
    return np.array(mx.stack(tokens, axis=1)), np.array(mx.stack(logprobs, axis=1))


def _distribution(logits: mx.array, support: mx.array, sampling: Sampling) -> mx.array:
    """Log-probabilities (B, V) of the distribution that tokens are sampled from."""
    scaled = logits.astype(mx.float32) / (sampling.temperature or 1.0)
    logprobs = restricted_logprobs(scaled, support)
    if sampling.top_p < 1.0:
        kept = sampling_utilities.apply_top_p(logprobs, sampling.top_p)
        logprobs = kept - mx.logsumexp(kept, axis=-1, keepdims=True)
    return logprobs


def choose(logprobs: mx.array, uniforms: mx.array, sampling: Sampling) -> mx.array:
    """The first token at which the cumulative probability exceeds the row's uniform number, int32 (B,).

    Its probability must be above 0: rounding in a parallel scan may raise the sum at a token of probability 0. If
    rounding leaves no token, the most likely one is taken.
    """
    if sampling.temperature == 0:
        return mx.argmax(logprobs, axis=-1).astype(mx.int32)
    probabilities = mx.exp(logprobs)
    cumulative = mx.cumsum(probabilities, axis=-1)
    reached = (cumulative > uniforms[:, None] * cumulative[:, -1:]) & (probabilities > 0)
    return mx.argmax(mx.where(reached, 2.0, probabilities), axis=-1).astype(mx.int32)


def _keep(batch: _Batch, alive: np.ndarray) -> None:
    """Drop ended rows once they are at least a quarter of the batch: each drop copies the caches."""
    if alive.any() and alive.mean() > 0.75:
        return
    chosen = np.flatnonzero(alive)
    batch.rows = batch.rows[chosen]
    if len(chosen):
        _take(batch, chosen.tolist())


def _take(batch: _Batch, chosen: Sequence[int]) -> None:
    batch.prefix, batch.logits = prefix.fork(batch.prefix, chosen), batch.logits[mx.array(chosen)]
    mx.eval(caches.arrays(batch.prefix.cache))
