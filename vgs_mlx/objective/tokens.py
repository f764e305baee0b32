"""Which positions predict which tokens, and how much each token counts. The only place that shifts by one.

The tokens of a batch's completions lie end to end in flat arrays (N,): there is no padding inside the
objective, so there is nothing to mask.
"""

from collections.abc import Sequence
from typing import Literal

import mlx.core as mx
import numpy as np


def predicting_positions(prompt_length: int, completion_length: int) -> np.ndarray:
    """Where, in prompt + completion, the hidden states stand that predict each completion token, (T,).

    The state at position i predicts token i + 1, so the first answer token is predicted by the prompt's last.
    """
    return np.arange(prompt_length - 1, prompt_length - 1 + completion_length)


def packed_predicting_positions(prompt_length: int, completion_lengths: Sequence[int]) -> np.ndarray:
    """The same for a row that holds a prompt and then several completions, each of which follows the prompt, (N,).

    Every completion's first token is predicted by the prompt's last, the rest by their own completion.
    """
    starts = prompt_length + np.cumsum([0, *completion_lengths[:-1]])
    return np.concatenate(
        [
            np.concatenate([[prompt_length - 1], np.arange(start, start + length - 1)])
            for start, length in zip(starts, completion_lengths, strict=True)
        ]
    )


def token_weights(lengths: Sequence[int], reduction: Literal["token", "sequence"]) -> mx.array:
    """The weight of every token of the update batch in the batch's loss, (N,); they sum to 1.

    `token`: the mean over all tokens. `sequence`: the mean over completions of each one's mean (Eq. 4).
    Fixed for the whole batch before it is split, so sums over micro-batches are exact.
    """
    if reduction == "token":
        total = sum(lengths)
        return mx.full((total,), 1.0 / total)
    return mx.array(np.concatenate([np.full(n, 1.0 / (len(lengths) * n), dtype=np.float32) for n in lengths]))
