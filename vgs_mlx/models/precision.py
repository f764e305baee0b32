"""The number formats of a model's weights (packed 4- or 8-bit, 16-bit, float32) and conversions between them."""

import copy
import math
from collections.abc import Mapping
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten, tree_map

from vgs_mlx.machine.lazy import Lazy

peft = Lazy("mlx_vlm.trainer.peft.utils")

QUANTISATION_GROUP = 64
WHOLE = 1e-5  # the largest relative error of a product of full float32 matrices


def rounds_float32() -> bool:
    """Whether products of float32 matrices keep about 10 bits of their factors on the default device (TF32).

    MLX allows this on GPUs with matrix units (CUDA, Apple's from the M5 on) unless MLX_ENABLE_TF32=0. Measured here,
    because no API reports it: the product's error is 1e-7 in full float32, and 3e-4 to 1e-3 in TF32.
    """
    random = np.random.RandomState(0)
    left, right = (random.standard_normal((64, 64)).astype(np.float32) for _ in range(2))
    true = left.astype(np.float64) @ right
    apart = np.array(mx.array(left) @ mx.array(right)) - true
    return bool(np.linalg.norm(apart) > WHOLE * np.linalg.norm(true))


def is_quantised(module: nn.Module) -> bool:
    """True if any layer holds packed weights."""
    return any(isinstance(each, (nn.QuantizedLinear, nn.QuantizedEmbedding)) for each in module.modules())


def stored_as(module: nn.Module) -> list[str]:
    """The number formats of a model's weights, for readers: "4/8-bit", "bfloat16", "float32"."""
    dtypes = {each.dtype for _, each in tree_flatten(module.parameters())}
    names = sorted(str(each).removeprefix("mlx.core.") for each in dtypes if mx.issubdtype(each, mx.floating))
    return (["4/8-bit"] if is_quantised(module) else []) + names


def in_float32(module: nn.Module) -> None:
    """Unpack every layer, all weights float32, in place. Scales are widened first, so nothing is rounded."""
    module.update(tree_map(_widened, module.parameters()))
    peft.dequantize(module)


def widened(module: nn.Module) -> nn.Module:
    """A copy of a model that computes in float32, whatever its weights are stored as. Lazy: nothing is computed here.

    A weight of the copy is made from the model's own when it is needed. If the copy is released before that, each
    weight exists only while it is used, however large the model is. Weights that are float32 already are shared.
    """
    copied = _copied(module)
    in_float32(copied)
    return copied


def _copied(part: Any) -> Any:
    """A copy of a tree of modules, down to its arrays, which are shared."""
    if isinstance(part, nn.Module):
        found = copy.copy(part)
        for name, each in part.items():
            found[name] = _copied(each)
        return found
    if isinstance(part, dict):
        return {name: _copied(each) for name, each in part.items()}
    if isinstance(part, (list, tuple)):
        return type(part)(_copied(each) for each in part)
    return part


def compute(module: nn.Module) -> None:
    """Compute all weights that are still lazy, one after another.

    Computed together, weights that are unpacked, packed or converted would all exist in both forms at once: a
    bfloat16 checkpoint widened to float32 would peak at 1.5 times its float32 size.
    """
    for _, value in tree_flatten(module.parameters()):
        mx.eval(value)


def not_a_number(module: nn.Module) -> str | None:
    """The name of the first weight outside packed layers that holds whole numbers, or None."""
    packed = (nn.QuantizedLinear, nn.QuantizedEmbedding)
    layers = {name for name, each in module.named_modules() if isinstance(each, packed)}
    for name, value in tree_flatten(module.parameters()):
        if not mx.issubdtype(value.dtype, mx.floating) and name.rpartition(".")[0] not in layers:
            return name
    return None


def not_finite(weights: Mapping[str, mx.array]) -> str | None:
    """The name of the first weight that holds NaN or infinity, or None. Makes no array as large as a weight."""
    for name, value in weights.items():
        if value.size and mx.issubdtype(value.dtype, mx.floating):
            looks = [each(value).item() for each in (mx.min, mx.max, mx.sum)]  # a sum alone may overflow
            if math.isnan(looks[2]) or not all(map(math.isfinite, looks[:2])):
                return name
    return None


def quantise_language(module: nn.Module, bits: int) -> None:
    """Pack the language model's plain layers, in place. The vision tower stays as it is."""

    def eligible(_: str, layer: nn.Module) -> bool:
        return hasattr(layer, "to_quantized") and layer.weight.shape[-1] % QUANTISATION_GROUP == 0

    nn.quantize(module.language_model, group_size=QUANTISATION_GROUP, bits=bits, class_predicate=eligible)


def _widened(weight: mx.array) -> mx.array:
    return weight.astype(mx.float32) if mx.issubdtype(weight.dtype, mx.floating) else weight
