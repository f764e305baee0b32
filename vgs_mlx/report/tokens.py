"""A completion as pieces of text, each with its visual dependency score and its step on the colour scale."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

STEP, LEVELS = 0.25, 9  # nats a step; the last step has no upper end
END_SIGN, NEWLINE_SIGN = "∎", "↵"
UNFINISHED = "\ufffd"  # what decoding gives for part of a character


@dataclass(frozen=True)
class Token:
    """One token as shown, or the few tokens that make up one character."""

    space: str  # white space before it, which has no colour
    text: str
    score: float  # VDS, nats (Eq. 12)
    with_picture: float  # the teacher's probability of it, with the picture and without
    text_only: float
    is_end: bool = False

    @property
    def level(self) -> int:
        """0 … LEVELS - 1: the step of the colour scale."""
        return min(LEVELS - 1, int(self.score / STEP))


def legend() -> list[tuple[int, str]]:
    """Each level of the scale with the score at which it begins; only every second one has a label."""
    last = LEVELS - 1
    return [
        (level, f"{level * STEP:g}" + ("+" if level == last else "") if level % 2 == 0 else "")
        for level in range(LEVELS)
    ]


def pieces(decode: Callable[[list[int]], str], ids: Sequence[int]) -> list[tuple[str, slice]]:
    """The text of each token. Tokens that hold only part of a character are joined until it is complete.

    Each window is decoded alone: byte-level tokenizers, which all supported families use, need no context.
    """
    texts, start = [], 0
    for stop in range(1, len(ids) + 1):
        text = decode(list(ids[start:stop]))
        if text.endswith(UNFINISHED) and stop < len(ids):
            continue
        texts.append((text, slice(start, stop)))
        start = stop
    return texts


def tokens(
    decode: Callable[[list[int]], str],
    ids: np.ndarray,
    end_ids: frozenset[int],
    scores: np.ndarray,
    with_picture: np.ndarray,
    text_only: np.ndarray,
) -> tuple[Token, ...]:
    """A completion's tokens. The arrays are (T,): VDS in nats, and the teacher's token log-probabilities.

    Joined tokens show the largest score among them and the product of their probabilities.
    """
    shown = []
    for text, window in pieces(decode, ids.tolist()):
        is_end = ids[window].tolist()[-1] in end_ids
        word = text.lstrip(" ")
        shown.append(
            Token(
                space=text[: len(text) - len(word)] if word else "",
                text=END_SIGN if is_end else (word or text).replace("\n", f"{NEWLINE_SIGN}\n"),
                score=max(0.0, float(scores[window].max())),  # rounding may leave a little less than 0
                with_picture=float(np.exp(with_picture[window].sum())),
                text_only=float(np.exp(text_only[window].sum())),
                is_end=is_end,
            )
        )
    return tuple(shown)
