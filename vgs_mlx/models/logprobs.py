"""Teacher forcing: hidden states and log-probabilities of given completions after given prompts."""

import itertools
from collections.abc import Iterator, Sequence

import mlx.core as mx
import numpy as np

from vgs_mlx.models import prefix
from vgs_mlx.models.base import LoadedModel
from vgs_mlx.models.rows import Continued, Encodings, encode, flat_positions, separate
from vgs_mlx.objective.divergence import restricted_logprobs, token_logprobs


def completion_hidden(model: LoadedModel, sequences: Sequence[Continued], encodings: Encodings) -> mx.array:
    """The hidden states that predict the completions' tokens, (N, D), the completions end to end.

    Padding and prompts are dropped here, so later code sees completion tokens only. Completions of one view share
    its forward pass. If each completion continues a different view, separate rows are faster and give the same.
    """
    views = {view.key for view, _ in sequences}
    if not model.shares_prefix or len(views) == len(sequences):
        return separate_hidden(model, sequences, encodings)
    by_length = itertools.groupby(sequences, key=lambda each: len(each.view.ids))
    return mx.concatenate([_continued_hidden(model, list(group), encodings) for _, group in by_length])


def separate_hidden(model: LoadedModel, sequences: Sequence[Continued], encodings: Encodings) -> mx.array:
    """The same with a row for each completion: each layer runs once. The reference for tests and probes."""
    rows = separate(model, sequences, encodings)
    hidden = model.family.hidden_states(model.module, rows)
    return hidden.reshape(-1, hidden.shape[-1])[flat_positions(sequences, rows.ids.shape[1])]


def _continued_hidden(model: LoadedModel, sequences: Sequence[Continued], encodings: Encodings) -> mx.array:
    """The same for prompts of equal length: each prompt's last state predicts the completion's first token."""
    views = list({each.view.key: each.view for each in sequences}.values())
    numbers = {view.key: number for number, view in enumerate(views)}
    begun = prefix.start(model, views, encodings)
    forked = prefix.fork(begun, [numbers[each.view.key] for each in sequences])
    lengths = [len(each.completion) for each in sequences]
    hidden, width = forked.last[:, None], max(lengths)
    if width > 1:
        given = np.stack([np.pad(each.completion, (0, width - len(each.completion))) for each in sequences])
        hidden = mx.concatenate([hidden, prefix.states(model, forked, given[:, :-1])], axis=1)
    wanted = np.flatnonzero(np.arange(width) < np.array(lengths)[:, None])
    return hidden.reshape(-1, hidden.shape[-1])[mx.array(wanted.astype(np.int32))]


def compute_logprobs(
    model: LoadedModel, sequences: Sequence[Continued], *, chunk_size: int = 64
) -> tuple[mx.array, mx.array]:
    """Log-probabilities over the vocabulary (N, V) and of the chosen tokens (N,), nats, at temperature 1.

    For probes, tests and small comparisons: the whole (N, V) exists at once in the result.
    """
    encodings = encode(model, [view for view, _ in sequences])
    logprobs = mx.concatenate([each for _, each in chunks(model, sequences, encodings, chunk_size)])
    return logprobs, token_logprobs(logprobs, _tokens(sequences))


def taken_logprobs(
    model: LoadedModel, sequences: Sequence[Continued], encodings: Encodings, *, chunk_size: int = 64
) -> mx.array:
    """The log-probabilities of the completions' tokens (N,), nats; only one chunk's vocabulary exists at a time."""
    tokens, found = _tokens(sequences), []
    for window, logprobs in chunks(model, sequences, encodings, chunk_size):
        found.append(token_logprobs(logprobs, tokens[window]))
        mx.eval(found[-1])
    return mx.concatenate(found)


def chunks(
    model: LoadedModel, sequences: Sequence[Continued], encodings: Encodings, size: int
) -> Iterator[tuple[slice, mx.array]]:
    """Log-probabilities (size, V) of the completions' tokens, chunk by chunk, each computed before it is returned."""
    hidden = completion_hidden(model, sequences, encodings)
    for start in range(0, hidden.shape[0], size):
        window = slice(start, start + size)
        logprobs = restricted_logprobs(model.logits(hidden[window]), model.support())
        mx.eval(logprobs)
        yield window, logprobs


def _tokens(sequences: Sequence[Continued]) -> mx.array:
    return mx.array(np.concatenate([completion for _, completion in sequences]))
