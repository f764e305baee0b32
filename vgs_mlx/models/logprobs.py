"""Teacher forcing: hidden states and log-probabilities of given completions after given prompts."""

from collections.abc import Iterator, Sequence

import mlx.core as mx
import numpy as np

from vgs_mlx.models.base import LoadedModel
from vgs_mlx.models.packing import build_packed
from vgs_mlx.models.rows import Continued, Encodings, build, encode, flat_positions
from vgs_mlx.objective.divergence import restricted_logprobs, token_logprobs


def completion_hidden(model: LoadedModel, sequences: Sequence[Continued], encodings: Encodings) -> mx.array:
    """The hidden states that predict the completions' tokens, (N, D), the completions end to end.

    Padding and prompts are left behind here: whatever follows sees completion tokens only.
    """
    if model.packs:
        rows, predicting = build_packed(model, sequences, encodings)
    else:
        rows = build(model, sequences, encodings)
        predicting = flat_positions(sequences, rows.ids.shape[1])
    hidden = model.family.hidden_states(model.module, rows)
    return hidden.reshape(-1, hidden.shape[-1])[predicting]


def compute_logprobs(
    model: LoadedModel, sequences: Sequence[Continued], *, chunk_size: int = 64
) -> tuple[mx.array, mx.array]:
    """Log-probabilities over the vocabulary (N, V) and of the tokens taken (N,), nats, at temperature 1.

    For probes, tests and small comparisons: the whole (N, V) exists at once in the result.
    """
    encodings = encode(model, [view for view, _ in sequences])
    logprobs = mx.concatenate([each for _, each in chunks(model, sequences, encodings, chunk_size)])
    return logprobs, token_logprobs(logprobs, _tokens(sequences))


def taken_logprobs(
    model: LoadedModel, sequences: Sequence[Continued], encodings: Encodings, *, chunk_size: int = 64
) -> mx.array:
    """The log-probabilities of the completions' tokens (N,), nats; the vocabulary exists for a chunk at a time."""
    tokens, found = _tokens(sequences), []
    for window, logprobs in chunks(model, sequences, encodings, chunk_size):
        found.append(token_logprobs(logprobs, tokens[window]))
        mx.eval(found[-1])
    return mx.concatenate(found)


def chunks(
    model: LoadedModel, sequences: Sequence[Continued], encodings: Encodings, size: int
) -> Iterator[tuple[slice, mx.array]]:
    """Log-probabilities (size, V), computed now, of one stretch of the completions' tokens after another."""
    hidden = completion_hidden(model, sequences, encodings)
    for start in range(0, hidden.shape[0], size):
        window = slice(start, start + size)
        logprobs = restricted_logprobs(model.logits(hidden[window]), model.support())
        mx.eval(logprobs)
        yield window, logprobs


def _tokens(sequences: Sequence[Continued]) -> mx.array:
    return mx.array(np.concatenate([completion for _, completion in sequences]))
