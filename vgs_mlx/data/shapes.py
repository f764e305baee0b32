"""The built-in data set `shapes`: pictures drawn by seeded code, and questions that only the pictures answer.

A picture has 72 × 72 pixels and shows 2-4 objects (6 colours × 4 shapes, small or large) in a 3 × 3 grid of
cells. Every example is a pure function of (split, seed, index), the same in every process; a picture is drawn
when it is opened. Answers are balanced, so that guessing without the picture scores about 0.2.
"""

import functools
import random
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw

from vgs_mlx.data.shapes_words import COLOURS, SHAPES, SIZES, STYLES, scene_f1, solution
from vgs_mlx.errors import Refusal
from vgs_mlx.types import Example, Picture

__all__ = ["KINDS", "Thing", "draw", "example", "examples", "scene", "scene_f1"]

SPLITS = ("train", "held_out")
KINDS = {"count": 20, "shape": 16, "beside": 24, "size": 20, "touch": 20}  # shares

SIDE, CELL, SCALE = (
    72,
    24,
    2,
)  # pixels of a picture and of a cell; how much larger it is drawn before averaging
RADIUS = {"small": 5.0, "large": 8.5}
RGB = {
    "red": (214, 40, 40), "blue": (45, 85, 215), "green": (40, 160, 70),
    "yellow": (235, 205, 40), "purple": (140, 60, 170), "orange": (240, 130, 30),
}  # fmt: skip
STEPS = {"left": (0, -1), "right": (0, 1), "above": (-1, 0), "below": (1, 0)}  # (rows, columns)
SIDES = {"left": "left of", "right": "right of", "above": "above", "below": "below"}

Pair = tuple[str, str]  # colour, shape
Cell = tuple[int, int]  # row, column
PAIRS = [(colour, shape) for colour in COLOURS for shape in SHAPES]
CELLS = [(row, column) for row in range(3) for column in range(3)]


@dataclass(frozen=True)
class Thing:
    """An object in a picture; x and y are its centre, in pixels."""

    colour: str
    shape: str
    size: str
    cell: Cell
    x: float
    y: float

    @property
    def name(self) -> str:
        return f"{self.colour} {self.shape}"


@dataclass(frozen=True)
class Task:
    """A scene with a question about it; `slots` are the names that the conclusion mentions."""

    things: tuple[Thing, ...]
    question: str
    answer: str
    slots: dict[str, str]


def examples(split: str, count: int, *, seed: int = 0, style: str = "teacher") -> list[Example]:
    """The first `count` examples of a split ("train" or "held_out"); `style` affects only the solutions' wording."""
    if split not in SPLITS:
        raise Refusal(f"shapes has no split {split!r}: use one of {', '.join(SPLITS)}")
    if style not in STYLES:
        raise Refusal(f"shapes has no wording style {style!r}: use one of {', '.join(STYLES)}")
    return [example(split, index, seed=seed, style=style) for index in range(count)]


def example(split: str, index: int, *, seed: int = 0, style: str = "teacher") -> Example:
    """One example, a pure function of its arguments. Picture, question and answer don't depend on `style`."""
    kind, task, rng = _task(split, index, seed)
    name = f"shapes/{split}/{index}" if seed == 0 else f"shapes-{seed}/{split}/{index}"
    things = tuple(sorted(task.things, key=lambda thing: thing.cell))
    noise = rng.getrandbits(32)
    return Example(
        id=name,
        question=task.question,
        answer=task.answer,
        pictures=(Picture(name, functools.partial(draw, things, noise), size=(SIDE, SIDE)),),
        kind=kind,
        solution=solution(things, kind, task.slots, task.answer, style, random.Random(f"{style} {noise}")),
        facts=tuple(thing.name for thing in things),
    )


def scene(split: str, index: int, *, seed: int = 0) -> tuple[Thing, ...]:
    """The objects in an example's picture."""
    return _task(split, index, seed)[1].things


def _task(split: str, index: int, seed: int) -> tuple[str, Task, random.Random]:
    rng = random.Random(f"shapes {split} {seed} {index}")  # a str seeds by SHA-512: the same in every process
    kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
    return kind, TASKS[kind](rng), rng


def draw(things: tuple[Thing, ...], noise: int) -> Image.Image:
    """The picture of these objects, with a slightly varying background and light noise seeded by `noise`."""
    rng = np.random.default_rng(noise)
    grey = int(rng.integers(222, 246))
    image = Image.new("RGB", (SIDE * SCALE, SIDE * SCALE), (grey, grey, grey))
    pen = ImageDraw.Draw(image)
    for thing in things:
        tint = tuple(int(c) for c in np.clip(np.array(RGB[thing.colour]) + rng.integers(-10, 11, 3), 0, 255))
        _draw_thing(pen, thing, tint)
    pixels = np.asarray(image.reduce(SCALE), np.float32)
    pixels = pixels + rng.standard_normal(pixels.shape, np.float32) * 5
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _draw_thing(pen: ImageDraw.ImageDraw, thing: Thing, tint: tuple[int, ...]) -> None:
    x, y, r = thing.x * SCALE, thing.y * SCALE, RADIUS[thing.size] * SCALE
    if thing.shape == "circle":
        pen.ellipse((x - r, y - r, x + r, y + r), fill=tint)
    elif thing.shape == "square":
        pen.rectangle((x - 0.9 * r, y - 0.9 * r, x + 0.9 * r, y + 0.9 * r), fill=tint)
    elif thing.shape == "triangle":
        pen.polygon(((x, y - r), (x - r, y + r), (x + r, y + r)), fill=tint)
    else:
        arm = 0.36 * r
        pen.rectangle((x - r, y - arm, x + r, y + arm), fill=tint)
        pen.rectangle((x - arm, y - r, x + arm, y + r), fill=tint)


def _place(
    rng: random.Random, pairs: list[Pair], cells: list[Cell], sizes: list[str] | None = None
) -> list[Thing]:
    """Objects in their cells, each up to 2 pixels off the centre, and at least 3 pixels apart."""
    sizes = sizes or [rng.choice(list(SIZES)) for _ in pairs]
    return [
        Thing(colour, shape, size, cell, *(CELL * (axis + 0.5) + rng.uniform(-2, 2) for axis in cell[::-1]))
        for (colour, shape), cell, size in zip(pairs, cells, sizes, strict=True)
    ]


def _pairs(rng: random.Random, first: Pair | None = None, *, without: str = "") -> list[Pair]:
    """2-4 different (colour, shape) pairs, `first` in front; the others don't contain the word `without`."""
    first = first or rng.choice(PAIRS)
    others = [pair for pair in PAIRS if pair != first and without not in pair]
    return [first, *rng.sample(others, rng.choice((2, 3, 4)) - 1)]


def _cells(rng: random.Random, count: int, first: tuple[Cell, ...] = ()) -> list[Cell]:
    return [*first, *rng.sample([cell for cell in CELLS if cell not in first], count - len(first))]


def _count(rng: random.Random) -> Task:
    """How many objects of a colour there are (0-3); a quarter of the questions ask about all objects."""
    if rng.random() < 0.25:
        pairs, of, word = _pairs(rng), "objects", ""
        number = len(pairs)
    else:
        word = rng.choice(list(COLOURS))
        number = rng.choice((0, 1, 2, 3))
        total = rng.choice([n for n in (2, 3, 4) if n >= number])
        pairs = rng.sample([pair for pair in PAIRS if word in pair], number)
        pairs += rng.sample([pair for pair in PAIRS if word not in pair], total - number)
        of = f"{word} objects"
    question = rng.choice(("How many {} are there?", "Count the {}.", "How many {} do you see?")).format(of)
    things = _anywhere(rng, pairs)
    same = [thing.name for thing in sorted(things, key=lambda thing: thing.cell) if thing.colour == word]
    return Task(things, question, str(number), {"of": of, "found": ", ".join(same) or f"{word} none"})


def _shape(rng: random.Random) -> Task:
    target = rng.choice(PAIRS)
    pairs = _pairs(rng, target, without=target[0])
    question = rng.choice(
        ("What shape is the {} object?", "Which shape is {}?", "Name the shape of the {} object.")
    )
    return Task(
        _anywhere(rng, pairs), question.format(target[0]), target[1], {"found": f"{target[0]} {target[1]}"}
    )


def _beside(rng: random.Random) -> Task:
    """The colour or shape of the object in the cell next to another object, on a given side."""
    side, (first, second) = _adjacent(rng)
    pairs = _pairs(rng)
    things = _place(rng, pairs, _cells(rng, len(pairs), (first, second)))
    question, answer = _ask(rng, things[0], f"directly {SIDES[side]} the {things[1].name}")
    slots = {"side": SIDES[side], "ref": things[1].name, "found": things[0].name}
    return Task(tuple(things), question, answer, slots)


def _size(rng: random.Random) -> Task:
    """The colour or shape of the object that is larger, or smaller, than all others."""
    pairs, (one, rest) = _pairs(rng), rng.sample(list(SIZES), 2)
    things = _place(rng, pairs, _cells(rng, len(pairs)), [one] + [rest] * (len(pairs) - 1))
    question, answer = _ask(rng, things[0], f"that is the {'smallest' if one == 'small' else 'largest'}")
    return Task(tuple(things), question, answer, {})


def _touch(rng: random.Random) -> Task:
    """The colour or shape of the object that touches another; in a fifth of the questions none does.

    The two objects differ in colour: in the same colour they would look like one object.
    """
    side, (first, second) = _adjacent(rng)
    none = rng.random() < 0.2
    toucher = rng.choice(PAIRS)
    pairs = _pairs(rng, toucher, without=toucher[0])
    things = _place(rng, pairs, _cells(rng, len(pairs), (first, second)))
    ref = 1
    if not none:
        things[:2] = _pushed_together(things[0], things[1], side)
    elif len(things) > 2 and rng.random() < 0.5:  # others touch, but not the one asked about
        things[:2] = _pushed_together(things[0], things[1], side)
        ref = 2
    question, answer = _ask(rng, things[0], f"touching the {things[ref].name}")
    slots = {"ref": things[ref].name, "found": "none" if none else things[0].name}
    return Task(tuple(things), question, "none" if none else answer, slots)


def _anywhere(rng: random.Random, pairs: list[Pair]) -> tuple[Thing, ...]:
    return tuple(_place(rng, pairs, _cells(rng, len(pairs))))


def _ask(rng: random.Random, thing: Thing, which: str) -> tuple[str, str]:
    """A question about the colour or the shape of the object `which`, and its answer."""
    asked = rng.choice(("colour", "shape"))
    form = rng.choice(("What {} is the object {}?", "Name the {} of the object {}."))
    return form.format(asked, which), thing.colour if asked == "colour" else thing.shape


def _adjacent(rng: random.Random) -> tuple[str, tuple[Cell, Cell]]:
    """A side, and two cells: the first lies directly on that side of the second."""
    side = rng.choice(list(STEPS))
    rows, columns = STEPS[side]
    row, column = rng.choice([(r, c) for r, c in CELLS if (r + rows, c + columns) in CELLS])
    return side, ((row + rows, column + columns), (row, column))


def _pushed_together(first: Thing, second: Thing, side: str) -> list[Thing]:
    """Both objects moved towards the border between their cells, until they overlap by 2 pixels."""
    rows, columns = STEPS[side]
    reach = [_reach(thing, horizontal=columns != 0) for thing in (first, second)]
    border_x = CELL * (first.cell[1] + second.cell[1] + 1) / 2
    border_y = CELL * (first.cell[0] + second.cell[0] + 1) / 2
    apart = (reach[0] + reach[1] - 2) / 2
    if columns:
        middle = (first.y + second.y) / 2
        return [
            replace(first, x=border_x + columns * apart, y=middle),
            replace(second, x=border_x - columns * apart, y=middle),
        ]
    middle = (first.x + second.x) / 2
    return [
        replace(first, x=middle, y=border_y + rows * apart),
        replace(second, x=middle, y=border_y - rows * apart),
    ]


def _reach(thing: Thing, *, horizontal: bool) -> float:
    """From the centre to the edge along an axis, in pixels; halfway up, a triangle is half as wide."""
    share = {"square": 0.9, "triangle": 0.5 if horizontal else 1.0}.get(thing.shape, 1.0)
    return RADIUS[thing.size] * share


TASKS = {
    "count": _count,
    "shape": _shape,
    "beside": _beside,
    "size": _size,
    "touch": _touch,
}
