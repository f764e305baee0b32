"""Ways in which a file of safetensors is damaged so that most of it still looks right."""

import json
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

Draw = random.Random


def header_of(content: bytes) -> tuple[dict[str, Any], bytes]:
    """The header of safetensors' bytes, and what follows it."""
    size = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def tensors(draw: Draw, file: Path) -> str | None:
    """A weight renamed, gone, of another shape, dtype or place; a number that is none; the header's length."""
    content = file.read_bytes()
    header, body = header_of(content)
    names = sorted(name for name in header if name != "__metadata__")
    said, header, body = draw.choice(TENSORS)(draw, header, body, draw.choice(names))
    more = {names[0]: header[names[-1]]} if said.endswith("twice") else {}
    wrong = draw.choice([-8, 8, 2**40, 2**62]) if said == "the header's length" else 0
    file.write_bytes(joined(header, body, more, wrong))
    return said


def joined(header: dict[str, Any], body: bytes, more: dict[str, Any] | None = None, wrong: int = 0) -> bytes:
    """The bytes of a file; `more` is added to the header, names that are there already too, whose length is wrong."""
    added = (f", {json.dumps(name)}: {json.dumps(each)}" for name, each in (more or {}).items())
    text = f"{json.dumps(header)[:-1]}{''.join(added)}}}".encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text) + wrong) + text + body


Header, Harmed = dict[str, Any], tuple[str, dict[str, Any], bytes]


def renamed(draw: Draw, header: Header, body: bytes, name: str) -> Harmed:
    others = [name + "_", name.replace("layers.1", "layers.9"), name.replace("lora_a", "lora_b"), "x", ""]
    new = draw.choice([each for each in others if each != name])
    return (
        f"{name} renamed {new}",
        {new if each == name else each: value for each, value in header.items()},
        body,
    )


def dropped(_: Draw, header: Header, body: bytes, name: str) -> Harmed:
    """The weight with its bytes: the file stays a good one."""
    start, end = header.pop(name)["data_offsets"]
    for each in header:
        if each != "__metadata__" and header[each]["data_offsets"][0] >= end:
            header[each]["data_offsets"] = [place - (end - start) for place in header[each]["data_offsets"]]
    return f"without {name}", header, body[:start] + body[end:]


def reshaped(draw: Draw, header: Header, body: bytes, name: str) -> Harmed:
    shape = header[name]["shape"]
    size = 1
    for side in shape:
        size *= side
    header[name]["shape"] = draw.choice(
        [
            shape[::-1],
            [size],
            [1, *shape],
            [*shape, 1],
            [2, size // 2],
            [],
            [0],
            [-1],
            [2**62, 2**62],
            shape[1:],
            "x",
        ]
    )
    return f"{name} of shape {header[name]['shape']}", header, body


def retyped(draw: Draw, header: Header, body: bytes, name: str) -> Harmed:
    old = header[name]["dtype"]
    header[name]["dtype"] = draw.choice(
        ["F32", "F16", "BF16", "I16", "U16", "I32", "U32", "F8_E4M3", "F64", "X", 3]
    )
    return f"{name} {header[name]['dtype']} instead of {old}", header, body


def moved(draw: Draw, header: Header, body: bytes, name: str) -> Harmed:
    start, end = header[name]["data_offsets"]
    header[name]["data_offsets"] = draw.choice(
        [
            [end, start],
            [start + 2, end + 2],
            [0, end - start],
            [start, end - 2],
            [-1, 3],
            [start, 2**63],
            [],
            None,
        ]
    )
    return f"{name} at {header[name]['data_offsets']}", header, body


def not_finite(draw: Draw, header: Header, body: bytes, name: str) -> Harmed:
    start, end = header[name]["data_offsets"]
    width = {"F32": 4}.get(header[name]["dtype"], 2)
    value = draw.choice([b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\0\0\x80\xff"])[4 - width :]
    place = start + draw.randrange((end - start) // width) * width
    return f"{name} with a number that isn't finite", header, body[:place] + value + body[place + width :]


def metadata(draw: Draw, header: Header, body: bytes, _: str) -> Harmed:
    header["__metadata__"] = draw.choice([{}, {"format": "pt"}, {"x": "y"}, {"format": 3}, [], None])
    return f"metadata {header['__metadata__']}", header, body


def surplus(_: Draw, header: Header, body: bytes, name: str) -> Harmed:
    header["surplus.weight"] = {"dtype": "F32", "shape": [2], "data_offsets": [len(body), len(body) + 8]}
    return "a weight more", header, body + bytes(8)


TENSORS: tuple[Callable[[Draw, Header, bytes, str], Harmed], ...] = (
    renamed, dropped, reshaped, retyped, moved, not_finite, metadata, surplus,
    lambda draw, header, body, name: ("a name twice", header, body),
    lambda draw, header, body, name: ("the header's length", header, body),
    lambda draw, header, body, name: ("its end gone", header, body[: -draw.choice([1, 2, 4, 4_000])]),
)  # fmt: skip
