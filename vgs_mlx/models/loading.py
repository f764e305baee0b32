"""Models as mlx-vlm loads them: a local folder, a Hub id, or one of the two embedded ones."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx_vlm.utils
from mlx.utils import tree_map
from mlx_vlm.trainer.peft import utils as peft

from vgs_mlx.errors import Refusal
from vgs_mlx.models import qwen3_vl
from vgs_mlx.models.base import Family, LoadedModel
from vgs_mlx.resources import tiny_model

FAMILIES: dict[str, Family] = {"qwen3_vl": qwen3_vl}
"""model_type -> the module that speaks it. A second family is one file and one line here."""

EMBEDDED = "embedded:"
QUANTISATION_GROUP = 64


def find_folder(path: str, option: str) -> Path:
    """The local folder of a model, downloaded from the Hub where `path` is an id. Raises `Refusal`."""
    if not path:
        raise Refusal(f"{option}: no model given: name a local folder or a Hub id")
    if path.startswith(EMBEDDED):
        return tiny_model(path.removeprefix(EMBEDDED))
    if Path(path).expanduser().is_dir():
        return Path(path).expanduser()
    if path.startswith(("/", ".", "~")) or path.count("/") != 1:
        raise Refusal(f"{option} {path}: no such folder, and no Hub id (owner/name) either")
    try:
        return mlx_vlm.utils.get_model_path(path)
    except Exception as error:  # huggingface_hub raises many kinds: missing, gated, offline
        reason = str(error).strip().splitlines()[0]
        raise Refusal(f"{option} {path}: no such folder, and the Hub says: {reason}") from error


def read_config(folder: Path, option: str) -> dict[str, Any]:
    """The model's config.json. Raises `Refusal` for a folder that is no model, or of a family not known here."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Refusal(f"{option} {folder}: no readable config.json there: give a model folder") from error
    if config.get("model_type") not in FAMILIES:
        known = ", ".join(sorted(FAMILIES))
        raise Refusal(f"{option} {folder}: model_type {config.get('model_type')!r} is not supported; supported: {known}")
    return config


def load_processor(folder: Path, option: str) -> Any:
    """The transformers processor of a model folder. Raises `Refusal`."""
    try:
        return mlx_vlm.utils.load_processor(folder, add_detokenizer=False)
    except Exception as error:  # transformers and tokenizers raise many kinds for damaged files
        reason = str(error).strip().splitlines()[0]
        raise Refusal(f"{option} {folder}: its tokenizer or processor can't be loaded: {reason}") from error


def load_model(
    path: str, option: str, *, bits: int | None = None, native: bool = False, say: Callable[[str], None] = print
) -> LoadedModel:
    """A frozen model in evaluation mode, its weights checked strictly. Raises `Refusal`.

    `bits` quantises the language model if the checkpoint isn't quantised yet. On the CPU, weights become
    float32 unless `native`: 4-bit and bfloat16 products are 30-80 times slower there.
    """
    folder = find_folder(path, option)
    config = read_config(folder, option)
    try:
        module = mlx_vlm.utils.load_model(folder, lazy=True)
    except (ValueError, FileNotFoundError, RuntimeError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise Refusal(f"{option} {path}: its weights don't fit its config.json: {reason}") from error
    if bits:
        _quantise(module, bits, config, f"{option} {path}", say)
    if not native and on_cpu():
        _to_float32(module, path, say)
    module.freeze()
    mx.eval(module.parameters())
    processor = load_processor(folder, option)
    return LoadedModel(
        name=path,
        folder=folder,
        family=FAMILIES[config["model_type"]],
        module=module,
        processor=processor,
        vocabulary=max(processor.tokenizer.get_vocab().values()) + 1,
        end_ids=_end_ids(module, processor),
    )


def on_cpu() -> bool:
    """True where MLX has no accelerator to run on."""
    return mx.default_device().type == mx.DeviceType.cpu


def is_quantised(module: nn.Module) -> bool:
    """True if any layer holds packed weights."""
    return any(isinstance(each, (nn.QuantizedLinear, nn.QuantizedEmbedding)) for each in module.modules())


def _to_float32(module: nn.Module, name: str, say: Callable[[str], None]) -> None:
    packed = is_quantised(module)
    peft.dequantize(module)
    before = {str(each.dtype).removeprefix("mlx.core.") for _, each in nn.utils.tree_flatten(module.parameters())}
    module.update(tree_map(lambda each: each.astype(mx.float32), module.parameters()))
    if packed or before != {"float32"}:
        kinds = " and ".join((["4/8-bit"] if packed else []) + sorted(before - {"float32"}))
        say(f"{name}: {kinds} weights run as float32 on the CPU (packed ones are up to 80 times slower there)")


def _quantise(module: nn.Module, bits: int, config: dict, where: str, say: Callable[[str], None]) -> None:
    """Pack the language model's weights; the vision tower is left alone."""
    if "quantization" in config or is_quantised(module):
        say(f"{where}: already quantised: teacher.bits={bits} changes nothing")
        return

    def eligible(_: str, layer: nn.Module) -> bool:
        return hasattr(layer, "to_quantized") and layer.weight.shape[-1] % QUANTISATION_GROUP == 0

    nn.quantize(module.language_model, group_size=QUANTISATION_GROUP, bits=bits, class_predicate=eligible)


def _end_ids(module: nn.Module, processor: Any) -> frozenset[int]:
    configured = module.config.eos_token_id
    found = configured if isinstance(configured, list) else [configured]
    return frozenset(each for each in [*found, processor.tokenizer.eos_token_id] if each is not None)
