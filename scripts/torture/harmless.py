"""Which damage must be refused: an oracle of its own, which reads the damaged file with nothing of the package.

A command that succeeds on a damaged file is right where the damage is harmless: white space, the order of keys,
unknown keys, metadata, a file that this command does not read. It is wrong, whatever it printed, where

- a weight file lists other names, shapes or kinds of numbers than before, doesn't hold what it lists, or holds a number
  that isn't finite; and every file of a checkpoint that the command goes on from, if a byte of it differs;
- a JSON file of a model says something of another type than before, says it twice, or is no JSON;
- a file that a run has a fingerprint of says something else than it did when the run began.

Nobody can tell from one file that a value of the right type is not the right value: another learning rate, a weight of
1.5 instead of 1.25 in a file without a checksum, a key that is left to its default. Such damage may be accepted.
"""

import json
import math
import struct
from typing import Any

import numpy as np

FLOATS = {"F32": np.float32, "F16": np.float16}
WIDTHS = {"F32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2, "I32": 4, "U32": 4, "F8_E4M3": 1, "F64": 8}
GOES_ON = {"resume": "open", "train on": "run"}
READS_NEWEST = {**GOES_ON, "evaluate an unfinished run": "open"}
RECOGNISES = {
    "evaluate", "evaluate an unfinished run", "evaluate a step", "export", "analyze", "resume", "train on",
    "dry run from a run",
}  # fmt: skip
"""The commands that compare a run's student with its fingerprints."""
UNREAD = {
    ".architectures", ".pad_token_id", ".dtype", ".text_config.dtype", ".text_config.mrope_interleaved",
    ".text_config.rope_scaling.mrope_interleaved", ".vision_config.hidden_act", ".image_processor_type",
}  # fmt: skip
"""Keys of config.json and preprocessor_config.json of which no number depends."""
OPTIONAL = {".eos_token_id", ".text_config.rope_scaling", ".text_config.num_key_value_heads"}
"""Keys that null leaves to their default, as their absence does."""
_TEXT = "num_attention_heads hidden_size num_hidden_layers intermediate_size num_key_value_heads head_dim vocab_size"
_VISION = (
    "depth hidden_size intermediate_size num_heads patch_size spatial_merge_size in_channels temporal_patch_size "
    "out_hidden_size num_position_embeddings deepstack_visual_indexes"
)
PLAN_READ = {
    ".model_type", ".text_config", ".vision_config", ".max_pixels", ".size", ".size.longest_edge",
    *(f".text_config.{key}" for key in _TEXT.split()), *(f".vision_config.{key}" for key in _VISION.split()),
}  # fmt: skip
"""Keys of which the memory that a plan counts depends: it reads no others."""
BYTES = {"config.json", "tokenizer.json", "chat_template.jinja", "preprocessor_config.json"}
"""Files of a student that a run has the digest of. Of config.json it is of the bytes too."""


class Broken(Exception):
    """The file is not of its kind."""


def reason(command: str, file: str, before: bytes, after: bytes | None) -> str | None:
    """Why the command must refuse the damage to the file (named within the scene); None where it may accept it."""
    part, name = file.split("/")[0], file.rsplit("/")[-1]
    if after == before or command.startswith("report"):  # a page says itself what it leaves out
        return None
    if part == "student" and command in RECOGNISES and name in BYTES:
        return "the run has a fingerprint of it"
    if "/checkpoints/" in file:
        return _of_checkpoint(command, part, file, before, after)
    if file in ("student/model.safetensors", "teacher/model.safetensors"):
        return _of_weights(before, after) if command != "plan" else None  # which needs none
    if file == "run/final/adapters.safetensors" and command in (
        "evaluate",
        "export",
        "analyze",
        "dry run from a run",
    ):
        return _of_weights(before, after)
    if (
        part in ("student", "teacher")
        and name in ("config.json", "preprocessor_config.json")
        and after is not None
    ):
        return _of_json(command, before, after)
    return None


def _of_checkpoint(command: str, part: str, file: str, before: bytes, after: bytes | None) -> str | None:
    """The newest one is that of step 2; a whole file there has its checksum in state.json, which has its own."""
    read = "step-000001" if command == "evaluate a step" else "step-000002"
    if (READS_NEWEST.get(command) != part and command != "evaluate a step") or read not in file:
        return None
    if file.endswith("state.json") and after is not None and _same(before, after):
        return None
    return "its checkpoint has a checksum of it"


def _same(before: bytes, after: bytes) -> bool:
    """Whether two JSON files say the same, strictly read."""
    try:
        return strict(before) == strict(after)
    except Broken:
        return False


def _of_weights(before: bytes, after: bytes | None) -> str | None:
    if after is None:
        return "there are no weights"
    try:
        old, new = listed(before), listed(after)
    except Broken as broken:
        return str(broken)
    if old.keys() != new.keys():
        return f"other names: {sorted(old.keys() ^ new.keys())[:2]}"
    for name, (dtype, shape, _) in new.items():
        if shape != old[name][1]:
            return f"{name} has the shape {shape}, and had {old[name][1]}"
        if dtype[0] != old[name][0][0] and "BF16" not in (dtype, old[name][0]):
            return f"{name} is {dtype}, and was {old[name][0]}"
        if dtype[0] in "IU" and dtype != old[name][0]:
            return f"{name} is {dtype}, and was {old[name][0]}"
    return next(
        (f"{name} is not finite" for name, found in new.items() if not finite(found[0], found[2])), None
    )


def listed(content: bytes) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Every tensor of safetensors' bytes: dtype, shape, bytes. Raises `Broken`."""
    if len(content) < 8:
        raise Broken("no header")
    size = struct.unpack("<Q", content[:8])[0]
    if size > len(content) - 8:
        raise Broken("its header is longer than the file")
    header, body = strict(content[8 : 8 + size]), content[8 + size :]
    if not isinstance(header, dict):
        raise Broken("its header is not an object")
    header.pop("__metadata__", None)
    found, end = {}, 0
    for name, said in sorted(header.items(), key=_start):
        try:
            dtype, shape, (first, last) = said["dtype"], said["shape"], said["data_offsets"]
            expected = WIDTHS[dtype] * math.prod(shape)
        except (KeyError, TypeError, ValueError) as error:
            raise Broken(f"{name} is described wrongly ({error})") from error
        if first != end or last - first != expected or min(shape, default=0) < 0:
            raise Broken(f"{name} is not where and as long as it should be")
        found[name], end = (dtype, tuple(shape), body[first:last]), last
    if end != len(body):
        raise Broken(f"{len(body):,} bytes follow a header that describes {end:,}")
    return found


def _start(item: tuple[str, Any]) -> float:
    try:
        return float(item[1]["data_offsets"][0])
    except (KeyError, TypeError, IndexError, ValueError):
        return -1.0


def finite(dtype: str, content: bytes) -> bool:
    """Whether all numbers are."""
    if dtype == "BF16":
        return bool(
            np.isfinite((np.frombuffer(content, np.uint16).astype(np.uint32) << 16).view(np.float32)).all()
        )
    return dtype not in FLOATS or bool(np.isfinite(np.frombuffer(content, FLOATS[dtype])).all())


def _of_json(command: str, before: bytes, after: bytes) -> str | None:
    try:
        values = [strict(before), strict(after)]
        return _other_types(*(map(_planned, values) if command == "plan" else values), "", UNREAD)
    except Broken as broken:
        return str(broken)


def _planned(value: Any, where: str = "") -> Any:
    """What a plan reads of a JSON file."""
    if not isinstance(value, dict):
        return value
    there = {key: f"{where}.{key}" for key in value}
    return {key: _planned(value[key], place) for key, place in there.items() if place in PLAN_READ}


def strict(content: bytes) -> Any:
    """JSON without a key twice and without NaN. Raises `Broken`."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise Broken("a key stands twice")
        return dict(pairs)

    def no_constant(name: str) -> None:
        raise Broken(f"{name} is no JSON")

    try:
        return json.loads(content, object_pairs_hook=once, parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        raise Broken(f"is no JSON ({error})") from error


def _other_types(before: Any, after: Any, where: str, unread: set[str]) -> str | None:
    """Where a value is of another type than before. Keys that are gone or new may be, as may another value."""
    if where in unread or (after is None and where in OPTIONAL):
        return None
    if isinstance(before, dict) and isinstance(after, dict):
        both = ((key, before[key], after[key]) for key in before.keys() & after.keys())
        return _first(
            _other_types(old, new, f"{where}.{key}", unread)
            for key, old, new in sorted(both, key=lambda each: each[0])
        )
    if isinstance(before, list) and isinstance(after, list):
        kinds = {_kind(each) for each in before}
        return _first(None if _kind(each) in kinds else f"{where} holds {each!r}" for each in after)
    if _kind(before) != _kind(after):
        return f"{where} is {str(after)[:20]!r}, and was {str(before)[:20]!r}"
    return None


def _first(found: Any) -> str | None:
    return next((each for each in found if each), None)


def _kind(value: Any) -> str:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return "number" if number else type(value).__name__
