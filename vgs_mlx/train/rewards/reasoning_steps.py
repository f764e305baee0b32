"""Splits a completion into the steps of its reasoning: lines or sentences, as spans of tokens."""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

REASONING_END = "</reason>"
BOX = re.compile(r"\\boxed")
STEP_END = re.compile(r"\n|[.!?](?=\s|$)")


@dataclass(frozen=True)
class Steps:
    """The steps of one completion: consecutive spans [start, stop) of tokens, from the first token on."""

    spans: tuple[tuple[int, int], ...]
    length: int  # tokens of the completion
    closing: str  # text that ends the reasoning and opens the answer's box


def cut(tokenizer: Any, completion: np.ndarray, ended: bool) -> Steps:
    """Steps end at a newline or at the end of a sentence; the rest of the reasoning is the last step.

    The reasoning ends at `</reason>`, or where the answer's box begins. `ended`: the last token is the end of the
    sequence, which belongs to no step.
    """
    said = completion[:-1] if ended else completion
    pieces = [tokenizer.decode([token]) for token in said.tolist()]
    edges = np.cumsum([len(piece) for piece in pieces])
    text = "".join(pieces)
    end = text.find(REASONING_END)
    boxes = [match.start() for match in BOX.finditer(text)]
    end = end if end >= 0 else (boxes[-1] if boxes else len(text))
    stops = [match.end() for match in STEP_END.finditer(text, 0, end)] + [end]
    places = sorted({_tokens_within(edges, stop) for stop in stops} - {0})
    return Steps(
        spans=tuple(itertools.pairwise([0, *places])),
        length=len(completion),
        closing=(f"{REASONING_END}\n" if "<reason>" in text else " ") + "\\boxed{",
    )


def _tokens_within(edges: Sequence[int], characters: int) -> int:
    """How many tokens it takes to reach `characters`."""
    return int(np.searchsorted(edges, characters, side="left")) + 1 if characters else 0
