"""From a trained student to a plain model: what training changed, put into the checkpoint it started from.

Fused weights are computed in float32 and left unpacked: a small update disappears when its layer is packed
again (with an update of 1 % of the weight, 4 bits leave it off by 350 %), and bfloat16 already rounds off much.
"""

from collections import Counter
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_map, tree_unflatten
from mlx_vlm.trainer.peft import utils as peft
from mlx_vlm.trainer.peft.dora_layers import DoRALinear
from mlx_vlm.trainer.peft.lora_layers import LoRALinear

from vgs_mlx.models.adapters import Weights, is_adapter_weight, set_weights
from vgs_mlx.models.loading import QUANTISATION_GROUP

PACKED = (nn.QuantizedLinear, nn.QuantizedEmbedding)


def in_float32(module: nn.Module) -> None:
    """Unpack every layer and make all weights float32, in place. Scales are widened first, so nothing is rounded."""
    module.update(tree_map(_widened, module.parameters()))
    peft.dequantize(module)


def changed_weights(module: nn.Module) -> Weights:
    """The weights that training changed, float32, named as in a model without adapters; lazy.

    `module` is a trained student in float32 (`in_float32`), with its adapters.
    """
    adapted = {path: layer for path, layer in module.named_modules() if isinstance(layer, (LoRALinear, DoRALinear))}
    changed = {f"{path}.weight": fused_weight(layer) for path, layer in adapted.items()}
    for name, value in tree_flatten(module.trainable_parameters()):
        if not is_adapter_weight(name):
            owner, _, last = name.rpartition(".")
            plain = owner.removesuffix(".linear")  # the layer inside an adapted one, trained as well
            changed.setdefault(f"{plain if plain in adapted else owner}.{last}", value)
    return dict(sorted(changed.items()))


def fused_weight(layer: LoRALinear | DoRALinear) -> mx.array:
    """The weight (out, in) of the plain linear layer that computes the same as an adapted one.

    LoRA: W + s (AB)ᵀ. DoRA scales each row of that to the learned length m. The bias stays as it is.
    """
    weight = layer.linear.weight + layer.scale * (layer.lora_b.T @ layer.lora_a.T)
    if isinstance(layer, DoRALinear):
        weight = (layer.m / mx.linalg.norm(weight, axis=1))[:, None] * weight
    return weight


def put(module: nn.Module, weights: Weights, dtype: mx.Dtype) -> None:
    """Put dense `weights` into a model, in place, as `dtype`. A packed layer that gets one becomes a plain one."""
    layers = dict(module.named_modules())
    unpacked = {path: _plain(layers[path], weights[f"{path}.weight"]) for path in packed_layers(module) & _owners(weights)}
    module.update_modules(tree_unflatten(sorted(unpacked.items())))
    set_weights(module, {name: value.astype(dtype) for name, value in weights.items()})


def quantise_language(module: nn.Module, bits: int) -> None:
    """Pack the language model's plain layers, in place. The vision tower is left alone, as is what is packed already."""

    def eligible(_: str, layer: nn.Module) -> bool:
        return hasattr(layer, "to_quantized") and layer.weight.shape[-1] % QUANTISATION_GROUP == 0

    nn.quantize(module.language_model, group_size=QUANTISATION_GROUP, bits=bits, class_predicate=eligible)


def packed_layers(module: nn.Module) -> set[str]:
    """The paths of the layers with packed weights."""
    return {path for path, layer in module.named_modules() if isinstance(layer, PACKED)}


def own_dtype(module: nn.Module) -> mx.Dtype:
    """The float dtype that most of a checkpoint's weights are stored in; of packed ones, their scales."""
    sizes: Counter[mx.Dtype] = Counter()
    for _, value in tree_flatten(module.parameters()):
        if mx.issubdtype(value.dtype, mx.floating):
            sizes[value.dtype] += value.size
    return sizes.most_common(1)[0][0]


def fused_config(config: dict[str, Any], module: nn.Module) -> dict[str, Any]:
    """A checkpoint's config.json made true for `module`: which layers are packed, and how.

    mlx-vlm packs the layers for which the file holds scales, with the settings given for all, or for the
    layer's path where it is named. Settings named for a layer that is plain now would break loading.
    """
    fused = {key: value for key, value in config.items() if key not in ("quantization", "quantization_config")}
    fused["text_config"] = {
        key: value for key, value in config.get("text_config", {}).items() if key != "quantization_config"
    }
    layers = dict(module.named_modules())
    settings = {path: _settings(layers[path]) for path in sorted(packed_layers(module))}
    if settings:
        usual = Counter(settings.values()).most_common(1)[0][0]
        named = {path: dict(each) for path, each in settings.items() if each != usual}
        fused["quantization"] = fused["quantization_config"] = dict(usual) | named
        if not any(path.startswith("vision") for path in settings):
            fused["vision_config"] = config["vision_config"] | {"skip_vision": True}
    return fused


def _widened(weight: mx.array) -> mx.array:
    return weight.astype(mx.float32) if mx.issubdtype(weight.dtype, mx.floating) else weight


def _owners(weights: Weights) -> set[str]:
    return {name.removesuffix(".weight") for name in weights if name.endswith(".weight")}


def _plain(layer: nn.Module, weight: mx.array) -> nn.Module:
    """A plain layer with `weight` in the place of a packed one."""
    rows, columns = weight.shape
    if isinstance(layer, nn.QuantizedEmbedding):
        return nn.Embedding(rows, columns)
    plain = nn.Linear(columns, rows, bias="bias" in layer)
    if "bias" in layer:
        plain.bias = layer.bias
    return plain


def _settings(layer: nn.Module) -> tuple[tuple[str, Any], ...]:
    return ("group_size", layer.group_size), ("bits", layer.bits), ("mode", layer.mode)
