"""How big a model is, from its config.json and the headers of its weight files alone: no weight is read.

A config without weight files will do as well: bytes then follow from the shapes that the config implies.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import get_safetensors_metadata, hf_hub_download

from vgs_mlx.errors import Refusal
from vgs_mlx.formats import hub_names, strict_json
from vgs_mlx.formats.hub_names import HubId
from vgs_mlx.models import headers, hub
from vgs_mlx.models.headers import BYTES, Tensor
from vgs_mlx.models.loading import checked_config, find_folder, read_config
from vgs_mlx.models.precision import QUANTISATION_GROUP

DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
CONFIG_LIMIT = 16_777_216  # pixels that Qwen3-VL's published processor allows a picture
LARGEST = 10**6  # of any number in a config: a plan for more would say nothing


@dataclass(frozen=True)
class Weights:
    """A part of a model: how many numbers it is, and the bytes they take as stored."""

    elements: int  # unpacked
    stored: int  # bytes
    packable: int  # elements of layers that `teacher.bits` would pack; 0 where they are packed already


@dataclass(frozen=True)
class Text:
    """The language model's sizes."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int  # rows of the head


@dataclass(frozen=True)
class Vision:
    """The vision tower's sizes. A patch is `patch` pixels square; `merge` x `merge` patches make one token."""

    depth: int
    hidden: int
    intermediate: int
    heads: int
    patch: int
    merge: int
    pixel_values: int  # numbers a patch: channels x frames x patch x patch
    levels: int  # deepstack features that go to the language model beside the embeddings


@dataclass(frozen=True)
class ModelSize:
    """A model, as a plan sees it."""

    name: str
    source: Literal["header", "config"]
    text: Text
    vision: Vision
    language_weights: Weights
    vision_weights: Weights
    dtype_bytes: int  # of its activations where weights keep their type
    max_pixels: int  # the processor's own limit
    ids: int | None = None  # that its tokenizer has; the head may have more rows; None: unknown


def read_size(path: str, option: str) -> ModelSize:
    """The size of a local folder, a config file, an embedded model or a Hub id. Raises `Refusal`."""
    where, file = f"{option} {path}", Path(os.path.expanduser(path))
    if path.endswith(".json") and os.path.isfile(file):
        return parse(path, _config_file(file, where), None, where=where)
    id = hub_names.parse(path)
    if os.path.isdir(file) or id is None:
        folder = find_folder(path, option)
        config = read_config(folder, option)
        tensors = headers.read(folder, where)
        return parse(path, config, tensors or None, headers.picture_limit(folder, where), where)
    return _from_hub(id, where)


def parse(
    name: str,
    config: dict[str, Any],
    tensors: list[Tensor] | None,
    max_pixels: int = CONFIG_LIMIT,
    where: str | None = None,
) -> ModelSize:
    """The size that a config and, where there are any, its tensors describe. Raises `Refusal`, naming `where`."""
    try:
        text, vision = _text(config), _vision(config)
        group = _packing(config, "group_size", QUANTISATION_GROUP)
        listed = tensors or implied(config, text, vision)
    except ValueError as error:
        raise Refusal(f"{where or name}: its config.json {error}: give a complete model") from error
    # a tied head may be stored twice; it is loaded once
    tied = _tied(config)
    kept = [each for each in listed if not (tied and each.name.split(".")[0] == "lm_head")]
    is_vision = [("visual" in each.name or "vision_tower" in each.name) for each in kept]
    language = [each for each, here in zip(kept, is_vision, strict=True) if not here]
    floats = [each for each in language if each.dtype in DTYPES.values()]
    if not floats:
        raise Refusal(
            f"{where or name}: its weight files hold no floating-point weights: give a complete model"
        )
    return ModelSize(
        name=name,
        source="header" if tensors else "config",
        text=text,
        vision=vision,
        language_weights=_weights(language, group),
        vision_weights=_weights([each for each, here in zip(kept, is_vision, strict=True) if here], group),
        dtype_bytes=BYTES[max(floats, key=lambda each: each.nbytes).dtype],
        max_pixels=max_pixels,
    )


def linears(text: Text) -> dict[str, tuple[int, int]]:
    """A decoder layer's linear layers: name -> (inputs, outputs)."""
    queries, keys = text.heads * text.head_dim, text.kv_heads * text.head_dim
    return {
        "q_proj": (text.hidden, queries), "k_proj": (text.hidden, keys), "v_proj": (text.hidden, keys),
        "o_proj": (queries, text.hidden), "gate_proj": (text.hidden, text.intermediate),
        "up_proj": (text.hidden, text.intermediate), "down_proj": (text.intermediate, text.hidden),
    }  # fmt: skip


def implied(config: dict[str, Any], text: Text, vision: Vision) -> list[Tensor]:
    """The tensors that a config's shapes imply, the language model packed where the config says so."""
    named = config.get("dtype") or config.get("torch_dtype") or "bfloat16"
    if named not in list(DTYPES):
        raise ValueError(f"has the dtype {named!r}, not one of {', '.join(DTYPES)}")
    dtype, packed = DTYPES[named], _packing(config, "bits", None)
    head = [("embed_tokens", (text.vocabulary, text.hidden))] + (
        [] if _tied(config) else [("head", (text.vocabulary, text.hidden))]
    )
    layer = [*((name, (outputs, inputs)) for name, (inputs, outputs) in linears(text).items())]
    found = []
    for name, shape in [
        *head,
        *((f"layers.{n}.{name}", shape) for n in range(text.layers) for name, shape in layer),
    ]:
        found += _maybe_packed(f"language_model.{name}", shape, dtype, packed)
    norms = text.layers * (2 * text.hidden + 2 * text.head_dim) + text.hidden
    found.append(Tensor("language_model.norms", dtype, (norms,)))
    return [*found, Tensor("vision_tower", dtype, (_vision_elements(config, vision),))]


def _maybe_packed(name: str, shape: tuple[int, int], dtype: str, bits: int | None) -> list[Tensor]:
    rows, columns = shape
    if not bits or columns % QUANTISATION_GROUP:
        return [Tensor(f"{name}.weight", dtype, shape)]
    groups = (rows, columns // QUANTISATION_GROUP)
    packed = Tensor(f"{name}.weight", "U32", (rows, columns * bits // 32))
    return [packed, Tensor(f"{name}.scales", dtype, groups), Tensor(f"{name}.biases", dtype, groups)]


def _tied(config: dict[str, Any]) -> bool:
    return bool(config.get("tie_word_embeddings", config["text_config"].get("tie_word_embeddings", False)))


def _packing(config: dict[str, Any], key: str, usual: int | None) -> int | None:
    """A setting of the config's packed layers, such as their `bits`; `usual` where it says nothing."""
    return _count(config, "quantization", key, usual) if config.get("quantization") else usual


def _vision_elements(config: dict[str, Any], vision: Vision) -> int:
    """Weights and biases of the patch embedding, the blocks, and a merger for each level and the output."""
    hidden, inner, merged = vision.hidden, vision.intermediate, vision.hidden * vision.merge**2
    block = 4 * hidden * hidden + 4 * hidden + 2 * hidden * inner + inner + hidden + 4 * hidden
    out = _count(config, "vision_config", "out_hidden_size")
    merger = merged * merged + merged + merged * out + out
    norms = 2 * hidden + 2 * merged * vision.levels
    places = _count(config, "vision_config", "num_position_embeddings")
    embedding = vision.pixel_values * hidden + hidden + places * hidden
    return embedding + vision.depth * block + (1 + vision.levels) * merger + norms


def _weights(tensors: list[Tensor], group: int) -> Weights:
    """Packed layers count unpacked: each scale stands for a group of numbers, and scales and biases vanish."""
    scaled = {each.name.removesuffix(".scales") for each in tensors if each.name.endswith(".scales")}
    elements = packable = 0
    for each in tensors:
        owner, _, kind = each.name.rpartition(".")
        if owner in scaled:
            elements += each.elements * group if kind == "scales" else 0
            continue
        elements += each.elements
        if len(each.shape) == 2 and each.shape[-1] % QUANTISATION_GROUP == 0:
            packable += each.elements
    return Weights(elements, sum(each.nbytes for each in tensors), 0 if scaled else packable)


def _text(config: dict[str, Any]) -> Text:
    heads = _count(config, "text_config", "num_attention_heads")
    hidden = _count(config, "text_config", "hidden_size")
    return Text(
        layers=_count(config, "text_config", "num_hidden_layers"),
        hidden=hidden,
        intermediate=_count(config, "text_config", "intermediate_size"),
        heads=heads,
        kv_heads=_count(config, "text_config", "num_key_value_heads", heads),
        head_dim=_count(config, "text_config", "head_dim", hidden // heads),
        vocabulary=_count(config, "text_config", "vocab_size"),
    )


def _vision(config: dict[str, Any]) -> Vision:
    patch = _count(config, "vision_config", "patch_size")
    channels = _count(config, "vision_config", "in_channels", 3)
    frames = _count(config, "vision_config", "temporal_patch_size", 2)
    levels = config["vision_config"].get("deepstack_visual_indexes") or []
    if not isinstance(levels, list):
        raise ValueError(f"has vision_config.deepstack_visual_indexes {levels!r}, not a list of layers")
    return Vision(
        depth=_count(config, "vision_config", "depth"),
        hidden=_count(config, "vision_config", "hidden_size"),
        intermediate=_count(config, "vision_config", "intermediate_size"),
        heads=_count(config, "vision_config", "num_heads"),
        patch=patch,
        merge=_count(config, "vision_config", "spatial_merge_size", 2),
        pixel_values=channels * frames * patch * patch,
        levels=len(levels),
    )


def _count(config: dict[str, Any], section: str, key: str, usual: int | None = None) -> int:
    """A number of a config's section; `usual` where it has none. Raises `ValueError` with what the config does."""
    values = config.get(section)
    if not isinstance(values, dict):
        raise ValueError(f"lacks {section}" if values is None else f"has no keys below {section}")
    value = values.get(key)
    if value is None and usual is None:
        raise ValueError(f"lacks {section}.{key}")
    found = usual if value is None else value
    if type(found) is not int or not 0 < found <= LARGEST:
        raise ValueError(f"has {section}.{key} {found!r}, not a whole number from 1 to {LARGEST:,}")
    return found


def _config_file(file: Path, where: str) -> dict[str, Any]:
    try:
        config = strict_json.load(file.read_bytes())
    except (OSError, strict_json.Faulty) as error:
        raise Refusal(f"{where}: no readable config: {error}: give a model's config.json") from error
    return checked_config(config, where)


def _from_hub(id: HubId, where: str) -> ModelSize:
    """A Hub model's size: its config.json and the first kilobytes of its weight files are fetched."""
    try:
        file = hf_hub_download(id.name, "config.json", revision=id.revision)
        config = checked_config(strict_json.load(Path(file).read_bytes()), where)
        metadata = get_safetensors_metadata(id.name, revision=id.revision)
    except Refusal:
        raise
    except Exception as error:  # huggingface_hub and what it is built on raise many kinds
        raise Refusal(f"{where}: no such folder, and {hub.reason(error)}") from error
    tensors = [
        Tensor(name, info.dtype, tuple(info.shape))
        for file in metadata.files_metadata.values()
        for name, info in file.tensors.items()
    ]
    headers.refuse_dtypes(tensors, where)
    return parse(str(id), config, tensors, where=where)
