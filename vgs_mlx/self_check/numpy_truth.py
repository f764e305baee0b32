"""The right results of single operations, in NumPy and float64."""

import numpy as np


def log_softmax(logits: np.ndarray, support: np.ndarray) -> np.ndarray:
    """Log-probabilities of logits (..., V) over the ids in `support`; of the others about -10,000."""
    masked = np.where(support, logits.astype(np.float64), -1e4)
    top = masked.max(axis=-1, keepdims=True)
    return masked - top - np.log(np.exp(masked - top).sum(axis=-1, keepdims=True))


def rms_norm(x: np.ndarray, weight: np.ndarray, epsilon: float = 1e-6) -> np.ndarray:
    """x over its root mean square, times the weight."""
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + epsilon) * weight


def unpacked(packed: np.ndarray, scales: np.ndarray, biases: np.ndarray, bits: int) -> np.ndarray:
    """The weights (rows, columns) that 32-bit words hold, lowest bits first: scale * integer + bias by group."""
    places = np.arange(0, 32, bits, dtype=np.uint32)
    integers = ((packed[..., None] >> places) & np.uint32(2**bits - 1)).reshape(len(packed), -1)
    group = integers.shape[1] // scales.shape[1]
    return np.repeat(scales, group, axis=1) * integers + np.repeat(biases, group, axis=1)


def attention(queries: np.ndarray, keys: np.ndarray, values: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Attention (B, heads, Q, d) over the keys that `seen` (B, 1, Q, K) allows; heads may share keys and values."""
    keys, values = _for_each_head(queries, keys, values)
    return _shares(queries, keys, seen) @ values


def attention_gradients(
    queries: np.ndarray, keys: np.ndarray, values: np.ndarray, seen: np.ndarray, pull: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The gradients of Σ pull · attention in queries, keys and values."""
    shared = keys.shape[1]
    keys, values = _for_each_head(queries, keys, values)
    shares = _shares(queries, keys, seen)
    of_shares = pull @ values.swapaxes(-1, -2)
    of_scores = shares * (of_shares - (of_shares * shares).sum(axis=-1, keepdims=True))
    of_scores *= queries.shape[-1] ** -0.5
    of_keys, of_values = of_scores.swapaxes(-1, -2) @ queries, shares.swapaxes(-1, -2) @ pull
    return of_scores @ keys, _by_shared(of_keys, shared), _by_shared(of_values, shared)


def _shares(queries: np.ndarray, keys: np.ndarray, seen: np.ndarray) -> np.ndarray:
    scores = queries @ keys.swapaxes(-1, -2) * queries.shape[-1] ** -0.5
    scores = np.where(seen, scores, -np.inf)
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return shares / shares.sum(axis=-1, keepdims=True)


def _for_each_head(queries: np.ndarray, *shared: np.ndarray) -> list[np.ndarray]:
    return [np.repeat(each, queries.shape[1] // each.shape[1], axis=1) for each in shared]


def _by_shared(gradients: np.ndarray, shared: int) -> np.ndarray:
    batch, heads, *rest = gradients.shape
    return gradients.reshape(batch, shared, heads // shared, *rest).sum(axis=2)
