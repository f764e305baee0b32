"""How answers about `shapes` are worded: two habits ("teacher", "student") for the same content.

The habits differ in how often they use which synonyms. This difference is the language prior, which a distillation
has to move separately from what is seen. Both habits use all words and all sentences, as two real models would: a
teacher that never uses the student's words has nothing to say about them. An answer lists all objects in reading
order up to the first full stop, then concludes. The boxed answer is the same in both habits.
"""

import random
import re
from collections import Counter

COLOURS = {
    "red": "crimson",
    "blue": "azure",
    "green": "emerald",
    "yellow": "golden",
    "purple": "violet",
    "orange": "amber",
}
SHAPES = {"circle": "disc", "square": "box", "triangle": "wedge", "cross": "plus"}
SIZES = {"small": "tiny", "large": "big"}
STYLES = ("teacher", "student")

SYNONYM_SHARE = {"teacher": 0.8, "student": 0.2}  # how often a habit takes the second word of a pair
OWN_SHARE = 0.5  # how often a habit uses its own sentences; otherwise it uses the other's

OPENINGS = {
    "teacher": ("I see {}.", "I can see {}.", "Looking closely, I see {}."),
    "student": ("There is {}.", "The picture shows {}.", "Shown: {}."),
}

CONCLUSIONS = {
    "teacher": {
        "total": ("Counting {of}, I get", "My count of {of} is"),
        "count": ("Counting {of}, I note {found}, so", "My {of} are {found}, hence"),
        "shape": ("Looking at {found}, I say", "I find {found}, hence"),
        "beside": (
            "Directly {side} the {ref} I find the {found}, so",
            "What is {side} the {ref} is the {found}, hence",
        ),
        "size": ("By size, it's", "Comparing them, I pick"),
        "touch": (
            "In contact with the {ref} is the {found}, so",
            "What meets the {ref} is the {found}, hence",
        ),
    },
    "student": {
        "total": ("So {of} number", "Thus the total for {of} is"),
        "count": ("So {of}: {found}, total", "Thus {of} being {found}, in all"),
        "shape": ("So the {found},", "Thus there: {found}, answer"),
        "beside": ("So {side} the {ref}: {found},", "Thus the one {side} the {ref}: {found}, answer"),
        "size": ("So the size tells", "Thus of these sizes:"),
        "touch": ("So the {ref} touches: {found},", "Thus touching the {ref}: {found}, answer"),
    },
}

_COLOUR_OF = {word: plain for plain, other in COLOURS.items() for word in (plain, other)}
_SHAPE_OF = {word: plain for plain, other in SHAPES.items() for word in (plain, other)}
_OBJECT = re.compile(rf"\b({'|'.join(_COLOUR_OF)})\s+({'|'.join(_SHAPE_OF)})\b")


def solution(
    things: tuple, kind: str, slots: dict[str, str], answer: str, style: str, rng: random.Random
) -> str:
    """A worked answer: the objects seen, the conclusion, the boxed answer.

    A conclusion names what it found ("purple square") before it boxes one word of it: a tiny model learns this much
    sooner than it learns to look up the boxed word alone.
    """
    words = _vocabulary(style, rng)
    listed = [_say(f"{thing.size} {thing.colour} {thing.shape}", words) for thing in things]
    form = style if rng.random() < OWN_SHARE else STYLES[style == "teacher"]
    if form == "teacher":
        seen = ", ".join(f"a {each}" for each in listed[:-1]) + f" and a {listed[-1]}"
    else:
        seen = "; ".join(f"one {each}" for each in listed)
    opening = rng.choice(OPENINGS[form]).format(seen)
    said = {name: _say(text, words) for name, text in slots.items()}
    template = CONCLUSIONS[form]["total" if slots.get("of") == "objects" else kind]
    return f"{opening} {rng.choice(template).format(**said)} \\boxed{{{answer}}}"


def scene_f1(text: str, facts: tuple[str, ...]) -> float:
    """How well the objects that `text` describes match those in the picture.

    F1 over the multiset of (colour, shape). Only the first sentence counts as a description; synonyms count as the
    same. 1 for the right objects in any order, 0 if none is right.
    """
    pairs = _OBJECT.findall(text.split(".")[0].lower())
    described = Counter((_COLOUR_OF[colour], _SHAPE_OF[shape]) for colour, shape in pairs)
    present = Counter(tuple(fact.split()) for fact in facts)
    total = described.total() + present.total()
    return 2 * (described & present).total() / total if total else 1.0


def _vocabulary(style: str, rng: random.Random) -> dict[str, str]:
    """The words of one answer: in each family either all plain words or all synonyms."""
    words: dict[str, str] = {}
    for family in (COLOURS, SHAPES, SIZES):
        if rng.random() < SYNONYM_SHARE[style]:
            words |= family
    return words


def _say(text: str, words: dict[str, str]) -> str:
    return re.sub(r"\w+", lambda match: words.get(match[0], match[0]), text)
