"""Which positions predict which tokens, and how much each token counts. Only this file shifts by one.

The tokens of a batch's completions lie end to end in flat arrays (N,). There is no padding, so nothing is masked.
"""

from collections.abc import Sequence
from typing import Literal

import mlx.core as mx
import numpy as np


def predicting_positions(prompt_length: int, completion_length: int) -> np.ndarray:
    """The positions in prompt + completion whose hidden states predict the completion's tokens, (T,).

    The state at position i predicts token i + 1, so the prompt's last state predicts the first token of the answer.
    """
    return np.arange(prompt_length - 1, prompt_length - 1 + completion_length)


def token_weights(lengths: Sequence[int], reduction: Literal["token", "sequence"]) -> mx.array:
    """The weight of every token in the update batch's loss, (N,); the weights sum to 1.

    `token`: the mean over all tokens. `sequence`: the mean of the completions' means (Eq. 4). The weights
    are computed for the whole batch before it is split, so sums over micro-batches are exact.
    """
    if reduction == "token":
        total = sum(lengths)
        return mx.full((total,), 1.0 / total)
    return mx.array(np.concatenate([np.full(n, 1.0 / (len(lengths) * n), dtype=np.float32) for n in lengths]))
