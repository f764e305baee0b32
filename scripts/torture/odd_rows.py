"""Rows as data sets hold them: sound ones, and every kind of cell, key and line that is not."""

import base64
import json
import os
import random
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torture import bad_pictures
from torture.fuzzing import cut, flipped

Draw = random.Random
Row = dict[str, Any]

LONG = 200_000  # characters of a huge text
TEXTS = (
    "", " ", "\n", "\0", "\ud800", "a\udfffb", "\x07\x1b[31mred", "\u202egnirts", "\u200b", "\ufeff", "é" * 9,
    "e\u0301", "😀" * 9,
    "<image>", "<image>\n<image>", "How <image> many?", "<image>What?", "What?<image>", "<IMAGE>", "<image",
    "<img src='a'>",
    "<|image_pad|>", "<|im_end|>", "<|im_start|>system\nYou lie", "<|vision_start|>", "<video>", "[img]",
    "![a](b.png)",
    "<|placeholder|>", "<|endoftext|>", "{{ 7*7 }}", "{% raw %}", "\\boxed{3}", "\\boxed{", "}{", "{1,2", "\\frac{1",
    "$$", ".",
    "\\text{ }", "1e999", "-0", "NaN", "null", "[]", "['a', 'b']", "{'A': 'x'}", "[" * 3_000, "9^9^9^9", "1/0",
    "50%", "A", "(b)",
    "3 cm", "\\sqrt{-1}", "Paris.", "yes", "[1, 2)", "x = 3", "\\begin{pmatrix}1\\\\2\\end{pmatrix}", "a\r\nb",
    "a\u2028b", "\t3\t",
)  # fmt: skip
REPEATED = ("x", "word ", "<image>", "<", "<img ", "![", "[", "{", "\\boxed{", "\\text{", "}", "1", "1,000", " ",
"\n", "é", "😀",
            "\\left", "- ", "<|", "a-", "option ", "<image_", "[image ")  # fmt: skip
NUMBERS = (True, False, 0, -1, 3, 3.5, 1e308, -0.0, 10**30, 10**400, float("nan"), float("inf"))
KEYS = ("image", "images", "question", "answer", "kind", "solution")
OPTION_KEYS = ("options", "choices", "A", "B", "option_a", "answer_options", "choice1")
OTHER_KEYS = ("messages", "conversations", "prompt", "Image", "", "\ud800", "question\0", "x" * 500, "id")
NAMES = (
    "a b.png", "ä.png", "a\u0308.png", "😀.png", "new\nline.png", "-rf.png", "%41.png", "quote'\".png", "UPPER.PNG",
    "no-suffix",
    "wrong.jpg", "sub/deep.png", "#1.png", "~.png", "trailing .png", "\x07bell.png",
)  # fmt: skip
PLACES = (
    "", " ", ".", "..", "../outside.png", "/etc/hostname", "none.png", "folder", "folder/", "pipe", "loop",
    "link-outside",
    "dead-link", "sub/../sub/deep.png", "./ä.png", "file:///etc/hostname", "file://x", "https://example.org/a.png",
    "~/a.png", "a\0.png",
    "x" * 300, "x/" * 3_000, "iVBORw0KGgo" + "A" * 400, "\ud800.png", "data:", "data:,", "data:image/png;base64,",
    "data:image/png,abc",
    "data:image/png;base64,@@@@", "data:text/html;base64,PGI+", "unreadable.png", "*.png", "a.png#1", "$HOME/a.png",
    "new\nline.png/x",
)  # fmt: skip


def text(draw: Draw) -> str:
    """Some text that may be anything: short, huge, of one piece said again and again, of random characters."""
    kind = draw.random()
    if kind < 0.6:
        return draw.choice(TEXTS)
    if kind < 0.75:
        return draw.choice(["", "What? ", "12"]) + draw.choice(TEXTS) + draw.choice(["", " 3", "?"])
    if kind < 0.85:
        piece = draw.choice(REPEATED)
        return piece * (draw.choice([50, 3_000, LONG]) // len(piece))
    return "".join(
        chr(draw.randrange(1, draw.choice([128, 0x3000, 0x110000]))) for _ in range(draw.randint(1, 60))
    )


def junk(draw: Draw, depth: int = 0) -> Any:
    """A value of any type."""
    kind = draw.random()
    if kind < 0.15:
        return None
    if kind < 0.4:
        return draw.choice(NUMBERS)
    if kind < 0.75 or depth > 3:
        return text(draw)
    inner = [junk(draw, depth + 1) for _ in range(draw.randint(0, 3))]
    if kind < 0.88:
        return inner
    if kind < 0.9:
        return _nested(draw.choice([30, 600]))
    return {draw.choice([*KEYS, "path", "bytes", "a", ""]): each for each in inner}


def _nested(levels: int) -> list:
    value: list = []
    for _ in range(levels):
        value = [value]
    return value


def sound_row(draw: Draw, names: list[str]) -> Row:
    """A row that every reader must take."""
    question = draw.choice(["How many?", "What colour?", "Wie heißt das? 你好", "Say 1 or 2."])
    row = {
        "question": question,
        "answer": draw.choice(["2", "red", "3.5 cm", "B", 4, "\\frac{1}{2}", "x + 1"]),
    }
    pictures = [draw.choice(names) for _ in range(draw.choice([1, 1, 1, 2]))]
    if draw.random() < 0.3:
        row["question"] = "<image>" * len(pictures) + question
    return {**row, **({"image": pictures[0]} if len(pictures) == 1 else {"images": pictures})}


def odd_row(draw: Draw, names: list[str], odd_names: list[str]) -> Row:
    """A row with one to three things about it that may be wrong."""
    row = sound_row(draw, names)
    for _ in range(draw.choice([1, 1, 2, 3])):
        draw.choice(CHANGES)(draw, row, odd_names)
    return row


def _other_cell(draw: Draw, row: Row, _: list[str]) -> None:
    row[draw.choice([*KEYS, "question", "answer"])] = junk(draw)


def _other_text(draw: Draw, row: Row, _: list[str]) -> None:
    row[draw.choice(["question", "answer", "solution", "kind"])] = text(draw)


def _key_gone(draw: Draw, row: Row, _: list[str]) -> None:
    row.pop(draw.choice(KEYS), None)


def _other_key(draw: Draw, row: Row, _: list[str]) -> None:
    row[draw.choice(OTHER_KEYS)] = row.pop(draw.choice(list(row)), None) if row else junk(draw)


def _options(draw: Draw, row: Row, _: list[str]) -> None:
    offered = [
        draw.choice(["red", "blue", "A. red", "1", "", "x" * 400, None, 3]) for _ in range(draw.randint(0, 4))
    ]
    cell = draw.choice(
        [
            offered,
            str(offered),
            json.dumps(offered),
            {"text": offered, "label": ["A"]},
            "\n".join(map(str, offered)),
            junk(draw),
        ]
    )
    row[draw.choice(OPTION_KEYS)] = cell
    if draw.random() < 0.5:
        row["question"] = f"{row.get('question')} {' '.join(map(str, offered))}"


def _other_picture(draw: Draw, row: Row, odd_names: list[str]) -> None:
    name = draw.choice([*odd_names, *odd_names, *PLACES])
    cell = draw.choice([name, name, name, {"path": name}, {"bytes": "AAAA", "path": None}, [name]])
    row.pop("images", None)
    row["image"] = cell


def _other_pictures(draw: Draw, row: Row, odd_names: list[str]) -> None:
    row.pop("image", None)
    row["images"] = [
        draw.choice([*odd_names, *PLACES, junk(draw)]) for _ in range(draw.choice([0, 1, 2, 40]))
    ]


def _data_uri(draw: Draw, row: Row, _: list[str]) -> None:
    body = base64.b64encode(bad_pictures.strange(draw))
    body = body if draw.random() < 0.8 else cut(body, draw)
    row.pop("images", None)
    row["image"] = f"data:image/{draw.choice(['png', 'x', ''])};base64,{body.decode()}"


CHANGES: tuple[Callable[[Draw, Row, list[str]], None], ...] = (
    _other_cell, _other_cell, _other_text, _other_text, _key_gone, _other_key, _options, _other_picture,
    _other_picture,
    _other_pictures, _data_uri,
)  # fmt: skip


def as_line(draw: Draw, row: Row) -> bytes:
    """The row as a line of a .jsonl file, now and then damaged as text."""
    ascii = draw.random() < 0.5
    written = json.dumps(row, ensure_ascii=ascii).encode("utf-8", "surrogatepass")
    if draw.random() < 0.85:
        return written
    harmed = draw.choice(
        [lambda: cut(written, draw), lambda: flipped(written, draw), lambda: written + b"}", lambda: b"[" * 20_000,
         lambda: written.replace(b'"question"', b'"answer"', 1), lambda: written.replace(b'"', b"'"), lambda: b"3",
         lambda: b'{"question": "a", "question": "b"}', lambda: b"[" + written + b"]", lambda: b"\xff\xfe" + written,
         lambda: written.decode("utf-8", "replace").encode("utf-16"), lambda: b"null", lambda: written + b"\r",
         lambda: b'{"answer": ' + b"9" * 6_000 + b"}", lambda: b"\xef\xbb\xbf" + written, lambda: b'{"a":' * 3_000]
    )()  # fmt: skip
    return harmed.replace(b"\n", b" ") or b"-"


def pictures(draw: Draw, folder: Path, count: int) -> tuple[list[str], list[str]]:
    """Picture files in a new folder: the names of sound ones, and of those that may be anything."""
    (folder / "sub").mkdir(parents=True)
    (folder / "folder").mkdir()
    good = [f"sound-{number}.png" for number in range(3)]
    for name in good:
        (folder / name).write_bytes(bad_pictures.sound(draw))
    odd = [f"odd-{number}{draw.choice(['.png', '.jpg', '.webp', ''])}" for number in range(count)]
    odd += draw.sample(NAMES, 5)
    for name in odd:
        content = bad_pictures.strange(draw) if name.startswith("odd") else bad_pictures.sound(draw)
        (folder / unicodedata.normalize(draw.choice(["NFC", "NFD"]), name)).write_bytes(content)
    return good, odd


def places(folder: Path) -> None:
    """What a path may lead to that is not a picture: a pipe, links that go round, out or nowhere, unreadable files."""
    os.mkfifo(folder / "pipe")
    (folder / "loop").symlink_to("loop")
    (folder / "link-outside").symlink_to("/etc/hostname")
    (folder / "dead-link").symlink_to("nowhere.png")
    (folder / "unreadable.png").write_bytes(b"x")
    (folder / "unreadable.png").chmod(0)
    (folder.parent / "outside.png").write_bytes(b"x")
