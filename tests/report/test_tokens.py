"""A completion's pieces are its text, whole characters, and their colours follow the score."""

import numpy as np
import pytest

from vgs_mlx.report.tokens import LEVELS, Token, legend, pieces, tokens

EURO = "€".encode()


def decode(ids: list[int]) -> str:
    """One id a byte, as in a byte-level tokenizer."""
    return bytes(ids).decode("utf-8", errors="replace")


def shown(data: bytes, scores: list[float], end: int = 0) -> tuple[Token, ...]:
    halves = np.full(len(data), np.log(0.5))
    return tokens(decode, np.array(list(data)), frozenset({end}), np.array(scores), halves, 2 * halves)


def test_tokens_that_hold_a_part_of_a_character_are_joined():
    assert pieces(decode, list(b"a" + EURO + b"b")) == [
        ("a", slice(0, 1)),
        ("€", slice(1, 4)),
        ("b", slice(4, 5)),
    ]
    assert pieces(decode, list(EURO[:2])) == [("\ufffd", slice(0, 2))]  # cut off inside a character


def test_joined_tokens_show_the_largest_score_and_the_product_of_their_probabilities():
    (found,) = shown(EURO, [0.1, 1.6, 0.2])
    assert (found.text, found.score) == ("€", 1.6)
    assert (found.with_picture, found.text_only) == (pytest.approx(1 / 8), pytest.approx(1 / 64))


def test_a_score_that_rounding_left_below_0_is_0():
    assert shown(b"a", [-1e-7])[0].score == 0.0


def test_space_before_a_token_takes_no_colour_and_nothing_is_lost():
    decoded = {1: " big", 2: "  ", 3: "\n", 0: "<end>"}
    ids = np.array([1, 2, 3, 0])
    found = tokens(lambda ids: "".join(map(decoded.get, ids)), ids, frozenset({0}), *np.zeros((3, 4)))
    assert [(each.space, each.text) for each in found] == [(" ", "big"), ("", "  "), ("", "↵\n"), ("", "∎")]
    assert [each.is_end for each in found] == [False, False, False, True]


@pytest.mark.parametrize(("score", "level"), [(0.0, 0), (0.24, 0), (0.25, 1), (1.99, 7), (2.0, 8), (11.0, 8)])
def test_the_scale_goes_from_0_to_2_nats_and_more(score, level):
    assert Token("", "x", score, 1.0, 1.0).level == level


def test_the_legend_names_every_second_step():
    assert [label for _, label in legend()] == ["0", "", "0.5", "", "1", "", "1.5", "", "2+"]
    assert len(legend()) == LEVELS
