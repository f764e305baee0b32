"""Ways in which a file of a run or a model is damaged: as bytes, as JSON, as YAML, as a template, as tensors."""

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from torture.damaged_tensors import tensors
from torture.fuzzing import cut, flipped

Draw = random.Random

VALUES = (
    None, True, False, 0, 1, -1, 3, 2.5, -0.0, 1e308, 10**12, 10**400, "", "x", "3", "\ud800", "\0", [], {}, [[]],
    [{}], [1, "x", None],
    {"a": {"b": []}}, float("nan"), float("inf"),
)  # fmt: skip
WHOLE = (
    b"", b"\n", b"{", b"[]", b"{}", b"null", b"3", b'"text"', b"\xff\xfe\0", b"[" * 100_000, b'{"a":' * 5_000,
    b"\0" * 64, b"NaN",
    b"{}\n[]\n", b'{"step": 3}\n', b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 2432760\n",
    b"<html>404</html>",
    b"9" * 6_000,
)  # fmt: skip
YAML = (
    "train:\n  steps: many\n", "a: &a [*a]\n", "train: {steps: 1e999}\n", "train:\n\tsteps: 3\n", "? [a]\n: b\n",
    "!!python/object:os.system x\n",
    "train: [1, 2]\n", "- 1\n", "seed: 99999999999999999999\n", "seed: -1\n",
    "train: {steps: 3}\ntrain: {steps: 4}\n", "%YAML 9.9\n---\n",
    "student: {path: 3}\n", "student: {path: '\\ud800'}\n", "a: " + "[" * 500, "x: &x {a: 1}\ny: {<<: *x}\n",
    "--- 1\n--- 2\n", "train: null\n",
    "student:\n  targets: [q_proj, 3]\n", "data: {columns: [a]}\n", "data: {held_out: .nan}\n",
    "train: {learning_rate: .inf}\n", "cells: []\n",
    "train: {steps: 0}\n", "rollout: {temperature: -1}\n", "data: {source: ''}\n", "data: {source: 'shapes:0'}\n",
    "data: {held_out: true}\n",
    "data: {template_options: {a: {b: 1}}}\n", "grpo: {reward: 'none.py:f'}\nobjective: {name: grpo}\n",
    "student: {path: none/none}\n",
)  # fmt: skip
TEMPLATES = (
    "", "{{", "{% for m in messages %}", "{{ 1/0 }}", "{{ messages[99].role }}", "{{ raise_exception('no') }}",
    "{% for i in range(10**7) %}x{% endfor %}",
    "{{ 'a' * 10**6 }}", "{{ messages }}", "{{ none.x.y }}", "{% include 'x' %}", "{% extends 'x' %}",
    "{{ [1][5] }}", "{{ 'a' + 1 }}", "{{ x() }}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "plain text", "{{ messages[0].content[1].text }}",
    "{{ ''.__class__.__mro__ }}",
    "{% set ns = namespace(n=0) %}{{ ns.n.m }}", "{{ '%d' % 'x' }}", "{{ messages|map('nope')|list }}",
    "{{ messages[-1].content[-1].text }}",
)  # fmt: skip


def harm(draw: Draw, file: Path, others: list[Path]) -> str:
    """Damage a file in some way that its kind allows; what was done, in words. `others` may be put in its place."""
    kind = draw.random()
    if kind < 0.5:
        special = SPECIAL.get(file.suffix)
        if special and (said := special(draw, file)):
            return said
    return draw.choice(GENERAL)(draw, file, others)


def _flip(draw: Draw, file: Path, _: list[Path]) -> str:
    content = file.read_bytes()
    last = draw.choice([None, 200, 4_000])
    file.write_bytes(flipped(content, draw, 0, last))
    return f"bits flipped{f' in the first {last} bytes' if last else ''}"


def _cut(draw: Draw, file: Path, _: list[Path]) -> str:
    file.write_bytes(cut(file.read_bytes(), draw))
    return f"cut to {file.stat().st_size:,} bytes"


def _other_whole(draw: Draw, file: Path, _: list[Path]) -> str:
    content = draw.choice(WHOLE)
    file.write_bytes(content)
    return f"now {content[:20]!r}, {len(content):,} bytes"


def _swapped(draw: Draw, file: Path, others: list[Path]) -> str:
    other = draw.choice(others)
    file.write_bytes(other.read_bytes())
    return f"now a copy of {other.parent.name}/{other.name}"


def _gone(_: Draw, file: Path, __: list[Path]) -> str:
    file.unlink()
    return "gone"


def _folder(_: Draw, file: Path, __: list[Path]) -> str:
    file.unlink()
    file.mkdir()
    return "now a folder"


def _longer(draw: Draw, file: Path, _: list[Path]) -> str:
    more = draw.choice([b"\0" * 8, b"x", b"\n", b" \n\n", file.read_bytes()])
    file.write_bytes(file.read_bytes() + more)
    return f"with {len(more):,} bytes more at its end"


GENERAL: tuple[Callable[[Draw, Path, list[Path]], str], ...] = (
    _flip, _flip, _cut, _cut, _other_whole, _swapped, _gone, _folder, _longer,
)  # fmt: skip


def places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """The path of everything in a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield (*path, key)
        yield from places(each, (*path, key))


def _put(value: Any, path: tuple, change: Callable[[Any, Any], None]) -> None:
    """Do `change(container, key)` at a path of a value."""
    for key in path[:-1]:
        value = value[key]
    change(value, path[-1])


def _json(draw: Draw, file: Path) -> str | None:
    """Another value, a key gone, renamed, twice or unknown; other white space."""
    whole = file.read_text(encoding="utf-8")
    value = json.loads(whole)
    said, value = change_json(draw, value)
    written = json.dumps(value, indent=draw.choice([None, 1]), ensure_ascii=True)
    if said is None and isinstance(value, dict) and value:
        key = draw.choice(list(value))
        other = json.dumps(draw.choice(VALUES))
        written = draw.choice(
            [
                f"{{{json.dumps(key)}: {other}, {written[1:]}",
                f"{written.rstrip()[:-1]}, {json.dumps(key)}: {other}}}",
            ]
        )
        said = f"{key} twice"
    file.write_text(written)
    return said or "the same, written anew"


def change_json(draw: Draw, value: Any) -> tuple[str | None, Any]:
    """A JSON value with something in it changed, and what; None where a key should stand twice."""
    found = list(places(value))
    if not found:
        return "the same, written anew", value
    # near the top more often: that is where the keys are that somebody reads
    found = [path for path in found if len(path) <= draw.choice([1, 2, 3, 9])] or found
    path = draw.choice(found)
    kind, name = draw.random(), ".".join(map(str, path))
    if kind < 0.6:
        new = draw.choice(VALUES)
        _put(value, path, lambda container, key: container.__setitem__(key, new))
        return f"{name} is {str(new)[:20]!r} of type {type(new).__name__}", value
    if kind < 0.75:
        _put(value, path, lambda container, key: container.__delitem__(key))
        return f"without {name}", value
    if kind < 0.85:
        _put(
            value,
            path,
            lambda container, key: (
                container.update({f"{key}_": container.pop(key)})
                if isinstance(container, dict)
                else container.reverse()
            ),
        )
        return f"{name} renamed, or its list turned round", value
    if kind < 0.92:
        _put(
            value,
            path,
            lambda container, key: (
                container.update(unknown_key="x")
                if isinstance(container, dict)
                else container.append(draw.choice(VALUES))
            ),
        )
        return f"something unknown beside {name}", value
    return (None, value) if kind < 0.96 else ("the same, written anew", value)


def _json_lines(draw: Draw, file: Path) -> str | None:
    """One row changed as JSON, gone, twice, in another place, or cut in half."""
    lines = file.read_text(encoding="utf-8").split("\n")[:-1]
    if not lines:
        return None
    place, kind = draw.randrange(len(lines)), draw.random()
    if kind < 0.7:
        said, value = change_json(draw, json.loads(lines[place]))
        lines[place], said = json.dumps(value), f"row {place + 1}: {said or 'the same'}"
    elif kind < 0.8:
        said = f"row {place + 1} cut"
        lines[place] = lines[place][: draw.randrange(len(lines[place]))]
    else:
        said, lines = draw.choice(
            [
                ("a row twice", [*lines, lines[place]]),
                ("a row gone", lines[:place] + lines[place + 1 :]),
                ("rows in another order", lines[::-1]),
            ]
        )
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return said


def _yaml(draw: Draw, file: Path) -> str | None:
    """A line changed; or lines of another recipe after it or in its place."""
    lines, more = file.read_text(encoding="utf-8").splitlines(), draw.choice(YAML)
    kind = draw.random()
    if kind < 0.4:
        place = draw.randrange(len(lines))
        key, _, value = lines[place].partition(": ")
        new = draw.choice(
            [
                "",
                "~",
                "x",
                "3",
                "-1",
                "[]",
                "{}",
                ".nan",
                "1e999",
                "'\\0'",
                "true",
                "*a",
                "!!int 3",
                "'",
                "0x10",
                "1_000",
                value + "0",
            ]
        )
        lines[place] = f"{key}: {new}"
        said, content = f"{key.strip()}: {new}", "\n".join(lines) + "\n"
    else:
        said, content = (
            (f"with {more[:30]!r} at its end", "\n".join(lines) + "\n" + more)
            if kind < 0.7
            else (f"now {more[:30]!r}", more)
        )
    file.write_text(content, encoding="utf-8")
    return said


def _template(draw: Draw, file: Path) -> str | None:
    """Lines gone, or a template of one line in its place or at its end."""
    lines, new = file.read_text(encoding="utf-8").splitlines(keepends=True), draw.choice(TEMPLATES)
    kind = draw.random()
    if kind < 0.4:
        del lines[draw.randrange(len(lines))]
        file.write_text("".join(lines))
        return "a line gone"
    file.write_text(new if kind < 0.8 else "".join(lines) + new)
    return f"{'now' if kind < 0.8 else 'followed by'} {new[:40]!r}"


SPECIAL: dict[str, Callable[[Draw, Path], str | None]] = {
    ".json": _json, ".jsonl": _json_lines, ".yaml": _yaml, ".jinja": _template, ".safetensors": tensors,
}  # fmt: skip
