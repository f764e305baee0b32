"""How big a model is, from its config.json and the headers of its weight files alone: no weight is read.

A config without weight files will do as well: bytes then follow from the shapes that the config implies.
"""

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import get_safetensors_metadata, hf_hub_download

from vgs_mlx import hub_names
from vgs_mlx.errors import Refusal
from vgs_mlx.hub_names import HubId
from vgs_mlx.models import hub
from vgs_mlx.models.loading import FAMILIES, find_folder, read_config
from vgs_mlx.models.precision import QUANTISATION_GROUP

BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "U32": 4, "I32": 4, "U8": 1, "I8": 1, "I64": 8, "BOOL": 1}
DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
CONFIG_LIMIT = 16_777_216  # pixels that Qwen3-VL's own processor allows a picture


@dataclass(frozen=True)
class Tensor:
    """One weight as a file holds it."""

    name: str
    dtype: str  # safetensors' word: "BF16", "U32", ...
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        count = 1
        for side in self.shape:
            count *= side
        return count

    @property
    def nbytes(self) -> int:
        return self.elements * BYTES[self.dtype]


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
    folder = Path(path).expanduser()
    if path.endswith(".json") and folder.is_file():
        return parse(path, _config_file(folder, option), None)
    id = hub_names.parse(path)
    if folder.is_dir() or id is None:
        folder = find_folder(path, option)
        config = read_config(folder, option)
        files = sorted(folder.glob("*.safetensors"))
        tensors = [tensor for file in files for tensor in _header(file, option)]
        return parse(path, config, tensors or None, _own_limit(folder))
    return _from_hub(id, option)


def parse(
    name: str, config: dict[str, Any], tensors: list[Tensor] | None, max_pixels: int = CONFIG_LIMIT
) -> ModelSize:
    """The size that a config and, where there are any, its tensors describe. Raises `Refusal`."""
    try:
        text, vision = _text(config["text_config"]), _vision(config["vision_config"])
        listed = tensors or implied(config, text, vision)
    except (KeyError, TypeError, ValueError) as error:
        raise Refusal(f"{name}: its config.json lacks {error}: give a complete model") from error
    # a tied head may be stored twice; it is loaded once
    tied = bool(config.get("tie_word_embeddings", config["text_config"].get("tie_word_embeddings", False)))
    kept = [each for each in listed if not (tied and each.name.split(".")[0] == "lm_head")]
    is_vision = [("visual" in each.name or "vision_tower" in each.name) for each in kept]
    group = (config.get("quantization") or {}).get("group_size", QUANTISATION_GROUP)
    language = [each for each, here in zip(kept, is_vision, strict=True) if not here]
    floats = [each for each in language if each.dtype in ("F32", "F16", "BF16")]
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
    dtype = DTYPES[config.get("dtype") or config.get("torch_dtype") or "bfloat16"]
    packed = (config.get("quantization") or {}).get("bits")
    tied = config.get("tie_word_embeddings", False)
    head = [("embed_tokens", (text.vocabulary, text.hidden))] + (
        [] if tied else [("head", (text.vocabulary, text.hidden))]
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
    return [*found, Tensor("vision_tower", dtype, (_vision_elements(config["vision_config"], vision),))]


def _maybe_packed(name: str, shape: tuple[int, int], dtype: str, bits: int | None) -> list[Tensor]:
    rows, columns = shape
    if not bits or columns % QUANTISATION_GROUP:
        return [Tensor(f"{name}.weight", dtype, shape)]
    groups = (rows, columns // QUANTISATION_GROUP)
    packed = Tensor(f"{name}.weight", "U32", (rows, columns * bits // 32))
    return [packed, Tensor(f"{name}.scales", dtype, groups), Tensor(f"{name}.biases", dtype, groups)]


def _vision_elements(config: dict[str, Any], vision: Vision) -> int:
    """Weights and biases of the patch embedding, the blocks, and a merger for each level and the output."""
    hidden, inner, merged = vision.hidden, vision.intermediate, vision.hidden * vision.merge**2
    block = 4 * hidden * hidden + 4 * hidden + 2 * hidden * inner + inner + hidden + 4 * hidden
    out = config["out_hidden_size"]
    merger = merged * merged + merged + merged * out + out
    norms = 2 * hidden + 2 * merged * vision.levels
    embedding = vision.pixel_values * hidden + hidden + config["num_position_embeddings"] * hidden
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
    heads = config["num_attention_heads"]
    return Text(
        layers=config["num_hidden_layers"],
        hidden=config["hidden_size"],
        intermediate=config["intermediate_size"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_dim=config.get("head_dim") or config["hidden_size"] // heads,
        vocabulary=config["vocab_size"],
    )


def _vision(config: dict[str, Any]) -> Vision:
    patch = config["patch_size"]
    return Vision(
        depth=config["depth"],
        hidden=config["hidden_size"],
        intermediate=config["intermediate_size"],
        heads=config["num_heads"],
        patch=patch,
        merge=config.get("spatial_merge_size", 2),
        pixel_values=config.get("in_channels", 3) * config.get("temporal_patch_size", 2) * patch * patch,
        levels=len(config.get("deepstack_visual_indexes") or []),
    )


def _config_file(file: Path, option: str) -> dict[str, Any]:
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Refusal(f"{option} {file}: no readable config: {error}") from error
    return _of_known_family(config, f"{option} {file}")


def _of_known_family(config: Any, where: str) -> dict[str, Any]:
    found = config.get("model_type") if isinstance(config, dict) else None
    if found not in FAMILIES:
        known = ", ".join(sorted(FAMILIES))
        raise Refusal(f"{where}: model_type {found!r} is not supported; supported: {known}")
    return config


def _header(file: Path, option: str) -> list[Tensor]:
    """A safetensors file's list of tensors: 8 bytes of length, then that much JSON."""
    try:
        with file.open("rb") as opened:
            (length,) = struct.unpack("<Q", opened.read(8))
            listed = json.loads(opened.read(length))
    except (OSError, ValueError, struct.error, MemoryError, OverflowError) as error:
        raise Refusal(f"{option} {file}: its header is damaged: download the model again") from error
    return [
        Tensor(name, each["dtype"], tuple(each["shape"]))
        for name, each in listed.items()
        if name != "__metadata__"
    ]


def _own_limit(folder: Path) -> int:
    """The largest picture, in pixels, that the folder's processor lets through."""
    file = folder / "preprocessor_config.json"
    if not file.is_file():
        return CONFIG_LIMIT
    settings = json.loads(file.read_text(encoding="utf-8"))
    return settings.get("max_pixels") or (settings.get("size") or {}).get("longest_edge") or CONFIG_LIMIT


def _from_hub(id: HubId, option: str) -> ModelSize:
    """A Hub model's size: its config.json and the first kilobytes of its weight files are fetched."""
    try:
        file = hf_hub_download(id.name, "config.json", revision=id.revision)
        config = json.loads(Path(file).read_text(encoding="utf-8"))
        config = _of_known_family(config, f"{option} {id}")
        metadata = get_safetensors_metadata(id.name, revision=id.revision)
    except Refusal:
        raise
    except Exception as error:  # huggingface_hub and what it is built on raise many kinds
        raise Refusal(f"{option} {id}: no such folder, and {hub.reason(error)}") from error
    tensors = [
        Tensor(name, info.dtype, tuple(info.shape))
        for file in metadata.files_metadata.values()
        for name, info in file.tensors.items()
    ]
    return parse(str(id), config, tensors)
