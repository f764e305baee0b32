"""How big a model is, from its config.json and the headers of its weight files: no weight is read.

A config without weight files is enough: the bytes then follow from the shapes that the config implies.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import get_safetensors_metadata, hf_hub_download

from vgs_mlx.errors import Refusal
from vgs_mlx.formats import hub_names, strict_json
from vgs_mlx.formats.hub_names import HubId
from vgs_mlx.models import families, headers, hub
from vgs_mlx.models.families.architecture import Architecture, Text, Vision, count
from vgs_mlx.models.headers import BYTES, Tensor
from vgs_mlx.models.loading import checked_config, find_folder, read_config
from vgs_mlx.models.precision import QUANTISATION_GROUP

VISION = "vision_tower"  # the name of a tower whose weights are not listed
DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


@dataclass(frozen=True)
class Weights:
    """The numbers in a part of a model, and their bytes as stored."""

    elements: int  # unpacked
    stored: int  # bytes
    packable: int  # elements of layers that `teacher.bits` would pack; 0 if they are packed already


@dataclass(frozen=True)
class ModelSize:
    """What a plan needs to know about a model."""

    name: str
    source: Literal["header", "config"]
    text: Text
    vision: Vision
    language_weights: Weights
    vision_weights: Weights
    dtype_bytes: int  # of its activations, if weights keep their type
    max_pixels: int  # the processor's own limit
    ids: int | None = None  # ids of its tokenizer; the head may have more rows; None: unknown


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
        limit = headers.picture_limit(folder, config["model_type"], where)
        return parse(path, config, tensors or None, limit, where)
    return _from_hub(id, where)


def parse(
    name: str,
    config: dict[str, Any],
    tensors: list[Tensor] | None,
    max_pixels: int | None = None,
    where: str | None = None,
) -> ModelSize:
    """The size that a config and its tensors, if any, describe. Raises `Refusal`, naming `where`.

    `max_pixels`: None for the limit of the family's published processor.
    """
    declared = families.declared(config["model_type"])
    try:
        found = declared.architecture(config)
        group = _packing(config, "group_size", QUANTISATION_GROUP)
        listed = tensors or implied(config, found)
    except ValueError as error:
        raise Refusal(f"{where or name}: its config.json {error}: give a complete model") from error
    # a tied head may be stored twice, but it is loaded once
    kept = [each for each in listed if not (found.tied and each.name.split(".")[0] == "lm_head")]
    seeing = (VISION, *declared.vision_names)
    is_vision = [any(part in each.name for part in seeing) for each in kept]
    language = [each for each, here in zip(kept, is_vision, strict=True) if not here]
    floats = [each for each in language if each.dtype in DTYPES.values()]
    if not floats:
        raise Refusal(
            f"{where or name}: its weight files hold no floating-point weights: give a complete model"
        )
    return ModelSize(
        name=name,
        source="header" if tensors else "config",
        text=found.text,
        vision=found.vision,
        language_weights=_weights(language, group),
        vision_weights=_weights([each for each, here in zip(kept, is_vision, strict=True) if here], group),
        dtype_bytes=BYTES[max(floats, key=lambda each: each.nbytes).dtype],
        max_pixels=max_pixels or found.max_pixels,
    )


def linears(text: Text) -> dict[str, tuple[int, int]]:
    """A decoder layer's linear layers: name -> (inputs, outputs)."""
    queries, keys = text.heads * text.head_dim, text.kv_heads * text.head_dim
    return {
        "q_proj": (text.hidden, queries), "k_proj": (text.hidden, keys), "v_proj": (text.hidden, keys),
        "o_proj": (queries, text.hidden), "gate_proj": (text.hidden, text.intermediate),
        "up_proj": (text.hidden, text.intermediate), "down_proj": (text.intermediate, text.hidden),
    }  # fmt: skip


def implied(config: dict[str, Any], found: Architecture) -> list[Tensor]:
    """The tensors that a config's shapes imply, with a packed language model if the config says so."""
    text = found.text
    named = config.get("dtype") or config.get("torch_dtype") or "bfloat16"
    if named not in list(DTYPES):
        raise ValueError(f"has the dtype {named!r}, not one of {', '.join(DTYPES)}")
    dtype, packed = DTYPES[named], _packing(config, "bits", None)
    head = [("embed_tokens", (text.vocabulary, text.hidden))] + (
        [] if found.tied else [("head", (text.vocabulary, text.hidden))]
    )
    layer = [*((name, (outputs, inputs)) for name, (inputs, outputs) in linears(text).items())]
    listed = []
    for name, shape in [
        *head,
        *((f"layers.{n}.{name}", shape) for n in range(text.layers) for name, shape in layer),
    ]:
        listed += _maybe_packed(f"language_model.{name}", shape, dtype, packed)
    norms = text.layers * (2 * text.hidden + 2 * text.head_dim * text.norms_heads) + text.hidden
    listed.append(Tensor("language_model.norms", dtype, (norms,)))
    return [*listed, Tensor(VISION, dtype, (found.vision_elements,))]


def _maybe_packed(name: str, shape: tuple[int, int], dtype: str, bits: int | None) -> list[Tensor]:
    rows, columns = shape
    if not bits or columns % QUANTISATION_GROUP:
        return [Tensor(f"{name}.weight", dtype, shape)]
    groups = (rows, columns // QUANTISATION_GROUP)
    packed = Tensor(f"{name}.weight", "U32", (rows, columns * bits // 32))
    return [packed, Tensor(f"{name}.scales", dtype, groups), Tensor(f"{name}.biases", dtype, groups)]


def _packing(config: dict[str, Any], key: str, usual: int | None) -> int | None:
    """A setting of the config's packed layers, such as their `bits`; `usual` if there is none."""
    return count(config, "quantization", key, usual) if config.get("quantization") else usual


def _weights(tensors: list[Tensor], group: int) -> Weights:
    """Counts packed layers as unpacked: each scale represents a group of numbers; scales and biases don't count."""
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
    except Exception as error:  # huggingface_hub and its dependencies raise many kinds of error
        raise Refusal(f"{where}: no such folder, and {hub.reason(error)}") from error
    tensors = [
        Tensor(name, info.dtype, tuple(info.shape))
        for file in metadata.files_metadata.values()
        for name, info in file.tensors.items()
    ]
    headers.refuse_dtypes(tensors, where)
    return parse(str(id), config, tensors, where=where)
