"""Reads a checkpoint's layout, the headers of its weight files and its picture settings, before any weight.

A checkpoint that mlx-vlm can't load as it is, is refused here with the reason. mlx-vlm would report some of them as
damaged and misread the others.
"""

import dataclasses
import math
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open

from vgs_mlx.errors import Refusal
from vgs_mlx.formats import strict_json, texts
from vgs_mlx.machine.lazy import Lazy
from vgs_mlx.models import families

mlx_vlm = Lazy("mlx_vlm")

BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2, "U32": 4, "I32": 4, "F32": 4,
    "U64": 8, "I64": 8, "C64": 8,
}  # fmt: skip
"""The safetensors dtypes that MLX reads as numbers, with their bytes. MLX reads F8_E4M3 too, but as bare integers."""

PICTURE_SETTINGS = ("preprocessor_config.json", "processor_config.json")
"""A model folder has at least one of the two. Picture settings in the second win."""
SETTINGS = (*PICTURE_SETTINGS, "tokenizer_config.json", "generation_config.json", "special_tokens_map.json")
ANOTHER = "take the bfloat16 checkpoint, or an mlx-community conversion"
COPY_IT = "copy it from the original model"


@dataclass(frozen=True)
class Tensor:
    """One weight as a file holds it."""

    name: str
    dtype: str  # as safetensors names it: "BF16", "U32", ...
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.elements * BYTES[self.dtype]


def weight_files(folder: Path) -> list[Path]:
    """The weight files of a model folder, by name."""
    return sorted(folder.glob("*.safetensors"))


def read(folder: Path, where: str) -> list[Tensor]:
    """Every weight listed in a model folder's files; empty where there are no files. Raises `Refusal`."""
    tensors = [tensor for file in weight_files(folder) for tensor in listed(file, where)]
    refuse_dtypes(tensors, where)
    return tensors


def refuse_dtypes(tensors: list[Tensor], where: str) -> None:
    """Every weight must have a dtype that MLX reads. Raises `Refusal`."""
    for each in tensors:
        if each.dtype not in BYTES:
            raise Refusal(
                f"{where}: {each.name} is stored as {each.dtype}, which MLX can't compute with: {ANOTHER}"
            )


def refuse_layout(config: dict[str, Any], where: str) -> None:
    """The config.json of a known family must have the layout that mlx-vlm reads. Raises `Refusal`.

    mlx-vlm ignores unknown keys: a rotary base in its new place would silently become the default.
    """
    parts = {name: config.get(name) for name in ("text_config", "vision_config")}
    text, vision = (part if isinstance(part, dict) else {} for part in parts.values())
    packing = config.get("quantization_config") or text.get("quantization_config")
    if "quantization" not in config and isinstance(packing, dict) and "quant_method" in packing:
        method = packing["quant_method"]
        raise Refusal(f"{where}: its weights are packed by {method}, which is not MLX's packing: {ANOTHER}")
    declared = families.declared(config["model_type"])
    moved = "rope_parameters" in text and not set(declared.rope_keys) <= text.keys()
    if moved and "rope_parameters" not in _text_keys(config["model_type"]):
        raise Refusal(f"{where}: {_as_transformers_5(config)}")
    if vision.get("model_type") in declared.unread_vision:
        raise Refusal(f"{where}: {_as_transformers_5(config)}")
    if fault := declared.fault(config):
        raise Refusal(f"{where}: its config.json {fault}: {COPY_IT}")


def refuse_types(config: dict[str, Any], where: str) -> None:
    """Values in config.json must have the types that mlx-vlm declares but doesn't check. Raises `Refusal`."""
    model = _classes(config["model_type"])
    parts = {"": (model.ModelConfig, config)} | {
        f"{name}.": (kind, {} if config.get(name) is None else config[name])
        for name, kind in (("text_config", model.TextConfig), ("vision_config", model.VisionConfig))
    }
    for section, (kind, values) in parts.items():
        if not isinstance(values, dict):
            raise Refusal(f"{where}: its config.json has no keys below {section[:-1]}: {COPY_IT}")
        for field, type_ in get_type_hints(kind).items():
            if field not in values or dataclasses.is_dataclass(type_):
                continue
            asked = type_ | int if field == "eos_token_id" else type_  # a single id needs no list
            try:
                TypeAdapter(asked).validate_python(values[field], strict=True)
            except ValidationError as error:
                what = error.errors()[0]["msg"].lower()
                raise Refusal(
                    f"{where}: its config.json has {section}{field} {values[field]!r:.60} ({what}): {COPY_IT}"
                ) from error


def _text_keys(model_type: str) -> set[str]:
    """The keys of a text_config that mlx-vlm reads."""
    return {each.name for each in dataclasses.fields(_classes(model_type).TextConfig)}


def _classes(model_type: str) -> Any:
    """The module of mlx-vlm that defines the config classes of a family."""
    return mlx_vlm.utils.get_model_and_args({"model_type": model_type})[0]


def picture_limit(folder: Path, model_type: str, where: str) -> int:
    """The pixel limit to which a model folder's processor scales larger pictures down. Raises `Refusal`."""
    plain, nested = (_settings(folder / name, where) for name in PICTURE_SETTINGS)
    settings = plain | _object(nested.get("image_processor") or {}, f"{where}: {PICTURE_SETTINGS[1]}")
    for name in ("size", "max_image_size"):
        _object(settings.get(name) or {}, f"{where}: the {name} in its picture settings")
    limit = families.declared(model_type).picture_limit(settings)
    if type(limit) is not int or limit < 1:
        raise Refusal(f"{where}: its processor scales pictures to {limit!r} pixels: {COPY_IT}")
    return limit


def refuse_unreadable(folder: Path, where: str) -> None:
    """Each settings file in a model folder must be valid JSON without repeated keys. Raises `Refusal` with its name."""
    for name in SETTINGS:
        _settings(folder / name, where)


def _as_transformers_5(config: dict[str, Any]) -> str:
    return (
        f"its config.json is laid out as transformers 5 saves it, which mlx-vlm {version('mlx-vlm')} doesn't read "
        f"for {config['model_type']} (downloading it again changes nothing): take a checkpoint in the original "
        f"layout or an mlx-community conversion, or edit config.json: {families.declared(config['model_type']).edit}"
    )


def listed(file: Path, where: str, fix: str = "download the model again") -> list[Tensor]:
    """The weights listed in one file's header. safetensors checks the header and the length of the file."""
    if not file.is_file():
        raise Refusal(f"{where}: {file.name} is not a file: {fix}")
    try:
        with safe_open(file, framework="numpy") as opened:
            slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118 - it is not a mapping
            return [Tensor(name, each.get_dtype(), tuple(each.get_shape())) for name, each in slices.items()]
    except (SafetensorError, OSError) as error:
        reason = texts.one_line(error, 200)
        raise Refusal(f"{where}: {file.name}: its header is damaged ({reason}): {fix}") from error


def _settings(file: Path, where: str) -> dict[str, Any]:
    """What a processor's JSON file says; {} if the file is missing."""
    try:
        found = strict_json.load(file.read_bytes()) if file.is_file() else {}
    except (OSError, strict_json.Faulty) as error:
        raise Refusal(f"{where}: {file.name} can't be read ({error}): {COPY_IT}") from error
    return _object(found, f"{where}: {file.name}")


def _object(found: Any, where: str) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise Refusal(f"{where} has no keys: {COPY_IT}")
    return found
