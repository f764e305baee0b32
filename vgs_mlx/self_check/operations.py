"""Single operations at the sizes of real models, compared with NumPy in float64.

The embedded models' heads, widths and vocabulary are too small to reach the kernels that a GPU runs for real models.
Each function computes on the default device and returns a line for each operation; `kind` is how the device rounds
float32 products.
"""

from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from vgs_mlx.device import backend
from vgs_mlx.objective.compared import compare
from vgs_mlx.objective.terms import Options, Taken
from vgs_mlx.objective.visual import Views
from vgs_mlx.rollout.sample import Sampling, choose
from vgs_mlx.self_check.comparing import Kind, Line, distance
from vgs_mlx.self_check.numpy_truth import attention, attention_gradients, log_softmax, rms_norm, unpacked

DTYPES = (mx.float32, mx.bfloat16)
LIMITS: dict[Kind, float] = {"float32": 1e-5, "rounded": 3e-3, "stored": 1e-2}
"""Relative distances: of float32, whole or with products of about 10 bits (1e-3), and of bfloat16 (0.002 to 0.004)."""
PACKED_ON_CPU = 0.08  # of bfloat16 with packed weights: MLX sums such products in bfloat16 there (0.037)
LONG_SUM_LIMIT = 30 * LIMITS["float32"]  # for float32 sums over a vocabulary (7e-5 on a CPU)
VOCABULARY = 151_936
GROUP = 64


@dataclass(frozen=True)
class _Shape:
    """The sizes of an attention of 8 query heads."""

    name: str
    batch: int
    queries: int
    keys: int
    size: int  # of a head
    key_heads: int = 2
    causal: bool = True


ATTENTIONS = (
    _Shape("a prompt", 1, 200, 200, 128),
    _Shape("a completion after its prompt", 1, 33, 233, 128),
    _Shape("a token beside padding", 4, 1, 77, 128),
    _Shape("a picture", 1, 196, 196, 64, key_heads=8, causal=False),
)


def products(kind: Kind) -> list[Line]:
    """x Wᵀ of a layer, x W of its backward pass and xᵀ y of its weights' gradient; many rows, and one."""
    lines, random = [], np.random.RandomState(1)
    for dtype in DTYPES:
        weight = _array(random, dtype, 512, 2048)
        for rows in (1, 50):
            x, y = _array(random, dtype, rows, 2048), _array(random, dtype, rows, 512)
            made = {
                "x Wᵀ": (x @ weight.T, _true(x) @ _true(weight).T),
                "y W": (y @ weight, _true(y) @ _true(weight)),
                "yᵀ x": (y.T @ x, _true(y).T @ _true(x)),
            }
            limit = _limit(dtype, kind)
            lines += [_line(f"products: {name}, {_name(dtype)}, rows: {rows}", *pair, limit)
                      for name, pair in made.items()]  # fmt: skip
    return lines


def packed_products(kind: Kind) -> list[Line]:
    """Products with 4- and 8-bit weights: x Wᵀ as a layer makes it, y W as its backward pass does."""
    lines, random = [], np.random.RandomState(2)
    for dtype in DTYPES:
        coarse = dtype == mx.bfloat16 and backend() == "cpu"
        limit = PACKED_ON_CPU if coarse else _limit(dtype, kind)
        for bits in (4, 8):
            packed = mx.quantize(_array(random, dtype, 512, 1024), group_size=GROUP, bits=bits)
            weight = unpacked(
                *(_bits(each) if each.dtype == mx.uint32 else _true(each) for each in packed), bits
            )
            for rows in (1, 5, 50):
                for name, width, transpose in (("x Wᵀ", 1024, True), ("y W", 512, False)):
                    x = _array(random, dtype, rows, width)
                    made = mx.quantized_matmul(x, *packed, transpose=transpose, group_size=GROUP, bits=bits)
                    truth = _true(x) @ (weight.T if transpose else weight)
                    label = f"packed products: {name}, {bits}-bit, {_name(dtype)}, rows: {rows}"
                    lines.append(_line(label, made, truth, limit))
    return lines


def attentions(kind: Kind) -> list[Line]:
    """Attention as in runs, values and gradients: see ATTENTIONS."""
    lines, random = [], np.random.RandomState(3)
    for dtype in DTYPES:
        for shape in ATTENTIONS:
            given, mask, seen = _attended(random, dtype, shape)

            def run(*given: mx.array, mask=mask, scale=shape.size**-0.5) -> list[mx.array]:
                return [mx.fast.scaled_dot_product_attention(*given, scale=scale, mask=mask)]

            true = [_true(each) for each in given]
            pull = _array(random, dtype, *given[0].shape)
            [made], gradients = mx.vjp(run, given, [pull])
            truths = attention_gradients(*true, seen, _true(pull))
            label, limit = f"attention: {shape.name}, {_name(dtype)}", _limit(dtype, kind)
            lines.append(_line(label, made, attention(*true, seen), limit))
            lines += [_line(f"{label}, gradient of {which}", ours, truth, limit)
                      for which, ours, truth in zip("qkv", gradients, truths, strict=True)]  # fmt: skip
    return lines


def _attended(
    random: np.random.RandomState, dtype: mx.Dtype, shape: _Shape
) -> tuple[list[mx.array], mx.array | str | None, np.ndarray]:
    """Queries, keys and values, the mask as a run gives it, and the same as booleans (B, 1, Q, K)."""
    queries, keys = shape.queries, shape.keys
    given = [
        _array(random, dtype, shape.batch, 8, queries, shape.size),
        *(_array(random, dtype, shape.batch, shape.key_heads, keys, shape.size) for _ in range(2)),
    ]
    if not shape.causal:
        return given, None, np.ones((1, 1, queries, keys), bool)
    if shape.batch > 1:
        seen = np.arange(keys)[None] < np.array([[keys], [keys - 9], [40], [1]])
        return given, mx.array(seen)[:, None, None, :], seen[:, None, None, :]
    return given, "causal", np.tri(queries, keys, keys - queries, dtype=bool)[None, None]


def norms(kind: Kind) -> list[Line]:
    """RMS norms, which each layer has, at a real width."""
    lines, random = [], np.random.RandomState(4)
    for dtype in DTYPES:
        x, weight = _array(random, dtype, 40, 2560), _array(random, dtype, 2560)
        made = mx.fast.rms_norm(x, weight, 1e-6)
        truth = rms_norm(_true(x), _true(weight))
        lines.append(_line(f"norms: RMS, {_name(dtype)}", made, truth, _limit(dtype, kind)))
    return lines


def losses(_: Kind) -> list[Line]:
    """The terms and their gradients over a real vocabulary of which some ids may not be answered."""
    random, tokens = np.random.RandomState(5), 3
    logits = [2 * random.standard_normal((tokens, VOCABULARY)).astype(np.float32) for _ in range(4)]
    support = np.arange(VOCABULARY) % 1000 != 7
    student, teacher = (Views(*map(mx.array, logits[first : first + 2])) for first in (0, 2))
    weights = mx.ones(tokens)
    terms, pulls = compare(
        student, teacher, mx.array(support), Taken(mx.zeros(tokens, dtype=mx.int32)), Options(),
        {"standard": {"standard": weights}, "steering": {"visual": weights}},
    )  # fmt: skip
    ours, ours_text, theirs, theirs_text = (log_softmax(each, support) for each in logits)
    target = log_softmax(ours_text + theirs - theirs_text, support)
    p = np.exp(ours)
    lines = []
    for part, term, other in (("standard", "standard", theirs), ("steering", "visual", target)):
        value = (p * (ours - other)).sum(axis=-1)
        gradient = p * (ours - other - value[:, None])
        lines.append(_line(f"losses: {term}", terms[term], value, LONG_SUM_LIMIT))
        lines.append(_line(f"losses: gradient of {term}", pulls[part].with_image, gradient, LONG_SUM_LIMIT))
    dependency = (np.exp(theirs) * (theirs - theirs_text)).sum(axis=-1)
    return [*lines, _line("losses: VDS", terms["visual_dependency_score"], dependency, LONG_SUM_LIMIT)]


def draws(_: Kind) -> list[Line]:
    """The tokens chosen for given random numbers are those whose share of the probability holds the number."""
    random, rows = np.random.RandomState(6), 16
    logprobs = log_softmax(3 * random.standard_normal((rows, VOCABULARY)), np.ones(VOCABULARY, bool))
    uniforms = random.random_sample(rows)
    chosen = np.array(
        choose(mx.array(logprobs.astype(np.float32)), mx.array(uniforms.astype(np.float32)), Sampling(1))
    )
    ends = np.exp(logprobs).cumsum(axis=-1)
    row = np.arange(rows)
    above = ends[row, chosen]
    below = above - np.exp(logprobs[row, chosen])
    beyond = np.maximum(np.maximum(below - uniforms, uniforms - above), 0).max()
    name = "draws: distance of a number from its token's share"
    return [Line("operations", name, float(beyond), LONG_SUM_LIMIT)]


def _limit(dtype: mx.Dtype, kind: Kind) -> float:
    """The relative distance allowed for results of this dtype."""
    return LIMITS["stored" if dtype == mx.bfloat16 else kind]


def _line(name: str, made: mx.array, truth: np.ndarray, limit: float) -> Line:
    return Line("operations", name, distance(_true(made), truth), limit)


def _array(random: np.random.RandomState, dtype: mx.Dtype, *shape: int) -> mx.array:
    return mx.array(random.standard_normal(shape).astype(np.float32)).astype(dtype)


def _true(array: mx.array) -> np.ndarray:
    return np.array(array.astype(mx.float32)).astype(np.float64)


def _bits(array: mx.array) -> np.ndarray:
    return np.array(array)


def _name(dtype: mx.Dtype) -> str:
    return str(dtype).removeprefix("mlx.core.")
