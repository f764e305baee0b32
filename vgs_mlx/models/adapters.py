"""What the student trains: LoRA or DoRA through mlx-vlm's own functions and format, or full weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_map, tree_unflatten

from vgs_mlx.errors import Refusal
from vgs_mlx.machine.lazy import Lazy
from vgs_mlx.models import headers, precision
from vgs_mlx.models.base import LoadedModel
from vgs_mlx.recipe.options import Student

peft = Lazy("mlx_vlm.trainer.peft.utils")

Weights = dict[str, mx.array]

ADAPTER_FILE = "adapters.safetensors"  # names that `mlx_vlm.generate --adapter-path` looks for
ADAPTER_CONFIG = "adapter_config.json"
VISION_FILE = "vision.safetensors"  # full weights trained beside an adapter
FULL_FILE = "weights.safetensors"
RESUME = "it is damaged: delete it and resume the run"


def prepare(model: LoadedModel, student: Student, seed: int, *, lazy: bool = False) -> None:
    """Make the recipe's part of the student trainable, in place. Raises `Refusal`.

    Trainable weights are float32 whatever the model's dtype: at usual learning rates bfloat16 would round
    most updates away. `lazy`: compute nothing yet, see `load_model`.
    """
    module, seeing = model.module, list(model.family.media_modules(model.module).values())
    module.freeze()
    if student.train == "full":
        _unpack(module.language_model)
        module.language_model.unfreeze()
    else:
        _attach(module, student, seed)
    if any(tree_flatten(part.trainable_parameters()) for part in seeing):
        # picture features are computed once and shared, so nothing inside would ever get a gradient
        raise Refusal("student.targets: a layer of the vision tower: set student.train_vision=true instead")
    if student.train_vision:
        for part in seeing:
            _unpack(part)
            part.unfreeze()
    _refuse_packed(model)
    module.update(tree_map(lambda each: each.astype(mx.float32), module.trainable_parameters()))
    if not lazy:
        precision.compute(module)


def _unpack(part: nn.Module) -> None:
    """Unpack the packed layers of a part that trains: packed integers have no gradient. Plain layers stay."""
    if precision.is_quantised(part):
        precision.in_float32(part)


def _attach(module: nn.Module, student: Student, seed: int) -> None:
    """LoRA or DoRA beside the layers that the recipe names. Raises `Refusal`."""
    mx.random.seed(seed)  # lora_a starts random
    try:
        peft.get_peft_model(
            module,
            None if student.targets is None else list(student.targets),
            rank=student.rank,
            alpha=student.alpha,
            dropout=0.0,
            verbose=False,
            use_dora=student.train == "dora",
        )
    except ValueError as error:
        reason = str(error).split("Available")[0].strip()
        raise Refusal(f"student.targets: {reason} Names look like q_proj, v_proj, down_proj") from error


def _refuse_packed(model: LoadedModel) -> None:
    """A packing that `precision` doesn't know stays packed, and its integers would be trained as weights."""
    packed = [
        name
        for name, value in trainable_weights(model.module).items()
        if not mx.issubdtype(value.dtype, mx.floating)
    ]
    if packed:
        raise Refusal(
            f"{model.name}: {packed[0]} must be trained, but is packed in a way that can't be unpacked: "
            "take a checkpoint that is not quantised"
        )


def trainable_weights(module: nn.Module) -> Weights:
    """The trainable weights by dotted name, layer 2 before layer 10.

    The order matters: MLX evaluates the gradients of the first names last, each when it is needed. In layer
    order, a backward pass frees each layer before it reaches the next. With layer 10 before layer 2, it would
    keep layers 10 to 19 to the end, with their recomputed activations.
    """
    return dict(sorted(tree_flatten(module.trainable_parameters()), key=lambda each: _in_order(each[0])))


def _in_order(name: str) -> list[tuple[int, str]]:
    """A key that sorts numbers in dotted names by value."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in name.split(".")]


def set_weights(module: nn.Module, weights: Weights) -> None:
    """Put weights into the module. Their names are the module's own."""
    module.update(tree_unflatten(list(weights.items())))


def call_with(module: nn.Module, weights: Weights, function: Callable[[], Any]) -> Any:
    """`function()` with the module's weights replaced by `weights`, then put back: what `mx.vjp` traces."""
    everything = dict(tree_flatten(module.parameters()))
    kept = {name: everything[name] for name in weights}
    set_weights(module, weights)
    try:
        return function()
    finally:
        set_weights(module, kept)


def weight_files(weights: Weights, student: Student) -> dict[str, Weights]:
    """Which file of a checkpoint holds which of the trainable weights."""
    if student.train == "full":
        return {FULL_FILE: weights}
    adapter = {name: value for name, value in weights.items() if is_adapter_weight(name)}
    rest = {name: value for name, value in weights.items() if not is_adapter_weight(name)}
    return {ADAPTER_FILE: adapter, VISION_FILE: rest} if rest else {ADAPTER_FILE: adapter}


def is_adapter_weight(name: str) -> bool:
    """True for a weight that LoRA or DoRA added: lora_a, lora_b, or DoRA's magnitude m."""
    return name.rpartition(".")[2] in ("lora_a", "lora_b", "m")


def load_weights(module: nn.Module, folder: Path) -> None:
    """Load a checkpoint's trainable weights: no name may be missing or surplus. Lazy. Raises `Refusal`."""
    expected = trainable_weights(module)
    found: Weights = {}
    for file in (folder / name for name in (ADAPTER_FILE, VISION_FILE, FULL_FILE)):
        if file.exists():
            listed = headers.listed(file, str(folder), RESUME)
            if odd := next((each for each in listed if each.dtype != "F32"), None):
                raise Refusal(f"{folder}: {odd.name} is stored as {odd.dtype}, not as F32: {RESUME}")
            found |= mx.load(str(file))
    missing, surplus = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    if missing or surplus:
        count = f"{len(missing)} missing, {len(surplus)} surplus, such as {(missing or surplus)[0]}"
        raise Refusal(f"{folder}: its weights belong to another model: {count}")
    for name, value in found.items():
        if value.shape != expected[name].shape:
            raise Refusal(f"{folder}: {name} has shape {value.shape}, the model needs {expected[name].shape}")
    set_weights(module, found)


def adapter_config(module: nn.Module) -> dict[str, Any]:
    """The adapter's description in mlx-vlm's format, as `get_peft_model` recorded it."""
    return module._vlm_adapter_config
