"""From a trained student to a plain model: what training changed, put into the checkpoint it started from.

Fused weights are computed in float32 and left unpacked: a small update disappears when its layer is packed
again (an update of 1 % of the weight is off by 350 % in 4 bits), and bfloat16 already rounds off much of it.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_map, tree_unflatten

from vgs_mlx.machine.lazy import Lazy
from vgs_mlx.models import precision
from vgs_mlx.models.adapters import Weights, is_adapter_weight, set_weights, trainable_weights
from vgs_mlx.planning.work import FILE_GIB

mlx_vlm = Lazy("mlx_vlm")
lora, dora = Lazy("mlx_vlm.trainer.peft.lora_layers"), Lazy("mlx_vlm.trainer.peft.dora_layers")

PACKED = (nn.QuantizedLinear, nn.QuantizedEmbedding)


def changed_weights(module: nn.Module) -> Weights:
    """The weights that training changed, float32, named as in a model without adapters; lazy.

    `module` is a trained student with its adapters, in whatever precision it is stored.
    """
    whole = {name: value for name, value in trainable_weights(module).items() if not is_adapter_weight(name)}
    adapted = {
        f"{path}.weight": fused_weight(layer)
        for path, layer in module.named_modules()
        if isinstance(layer, (lora.LoRALinear, dora.DoRALinear))
    }
    return dict(sorted((whole | adapted).items()))


def fused_weight(layer: nn.Module) -> mx.array:
    """The weight (out, in) of the plain linear layer that computes the same as an adapted one.

    LoRA: W + s (AB)ᵀ. DoRA scales each row of that to the learned length m. The bias stays as it is. Computed in
    float32 from whatever the layer stores; lazy.
    """
    layer = precision.widened(layer)
    weight = layer.linear.weight + layer.scale * (layer.lora_b.T @ layer.lora_a.T)
    if isinstance(layer, dora.DoRALinear):
        weight = (layer.m / mx.linalg.norm(weight, axis=1))[:, None] * weight
    return weight


def put(module: nn.Module, weights: Weights, dtype: mx.Dtype) -> None:
    """Put dense `weights` into a model, in place, as `dtype`. A packed layer that gets one becomes plain."""
    layers = dict(module.named_modules())
    packed = sorted(path for path in packed_layers(module) if f"{path}.weight" in weights)
    plain = [(path, _plain(layers[path], weights[f"{path}.weight"])) for path in packed]
    module.update_modules(tree_unflatten(plain))
    set_weights(module, {name: value.astype(dtype) for name, value in weights.items()})


def save(module: nn.Module, folder: Path) -> None:
    """Write a model's weights with their index, as mlx-vlm and transformers read them. The module is empty afterwards.

    Lazy weights are computed one after another and let go with their file: what is in memory of a lazily loaded
    model is one file and, at most, the float32 form of one weight.
    """
    weights = dict(tree_flatten(module.parameters()))
    module.update(tree_map(lambda _: mx.array(0), module.parameters()))
    files = [weights for weights in mlx_vlm.utils.make_shards(weights, FILE_GIB) if weights]
    size = sum(each.nbytes for each in weights.values())
    del weights
    index: dict[str, str] = {}
    for number in range(len(files)):
        held, files[number] = files[number], {}
        name = f"model-{number + 1:05d}-of-{len(files):05d}" if len(files) > 1 else "model"
        for each in held.values():
            mx.eval(each)
        mx.save_safetensors(str(folder / f"{name}.safetensors"), held, metadata={"format": "mlx"})
        index |= dict.fromkeys(held, f"{name}.safetensors")
    content = {"metadata": {"total_size": size}, "weight_map": dict(sorted(index.items()))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(content, indent=4), encoding="utf-8")


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
    fused = _without_packing(config)
    if isinstance(config.get("text_config"), dict):
        fused["text_config"] = _without_packing(config["text_config"])
    layers = dict(module.named_modules())
    settings = {path: _settings(layers[path]) for path in sorted(packed_layers(module))}
    if settings:
        usual = Counter(settings.values()).most_common(1)[0][0]
        named = {path: dict(each) for path, each in settings.items() if each != usual}
        fused["quantization"] = fused["quantization_config"] = dict(usual) | named
    return fused


def _without_packing(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in ("quantization", "quantization_config")}


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
