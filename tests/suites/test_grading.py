"""What counts as the right answer to a benchmark, beyond what data/answers.py says."""

import pytest

from vgs_mlx.suites.benchmark import TEXT_SYSTEM_PROMPT, lettered, same_letters, same_numbers, same_option


@pytest.mark.parametrize(
    ("given", "right", "same"),
    [
        ("B", "B", True),
        ("(B)", "B", True),
        ("\\text{B}", "B", True),
        ("B. 45°", "B", True),
        ("(B) 45°", "B", True),
        ("\\text{B. 45}", "B", True),
        ("C. 45°", "B", False),
        ("45°", "B", False),  # the letter is asked for
        ("A or B", "B", False),
        ("Bears", "B", False),
        ("2\\sqrt{2}", "\\sqrt{8}", True),  # a free answer
        ("A. 3", "3", False),
    ],
)
def test_an_option_is_its_letter_with_or_without_its_text(given, right, same):
    assert same_option(given, right) is same


@pytest.mark.parametrize(
    ("given", "right", "same"),
    [
        ("A, C", "A, C", True),
        ("C, A", "A, C", True),
        ("A and C", "A, C", True),
        ("AC", "A, C", True),
        ("a, c", "A, C", True),
        ("\\text{A}, \\text{C}", "A, C", True),
        ("A", "A, C", False),
        ("A, B, C", "A, C", False),
        ("Act", "A, C", False),
        ("B. the second", "B", True),
        ("B, C", "B", False),
        ("3", "3", True),  # a row whose answer is a digit
    ],
)
def test_several_letters_are_a_set(given, right, same):
    assert same_letters(given, right) is same


@pytest.mark.parametrize(
    ("given", "right", "same"),
    [
        ("5", "5", True),
        ("{5}", "5", True),
        ("\\{5\\}", "5", True),
        ("rows={5} columns={6}", "5,6", True),
        ("5 \\times 6", "5,6", True),
        ("6, 5", "5,6", False),
        ("5", "5,6", False),
        ("56", "5,6", False),
        ("15", "5", False),
        ("\\{Yes\\}", "Yes", True),
        ("yes", "Yes", True),
        ("No", "Yes", False),
        ("\\{g\\}", "g", True),
        ("G", "g", True),
        ("q", "g", False),
    ],
)
def test_numbers_count_in_their_order_and_words_as_words(given, right, same):
    assert same_numbers(given, right) is same


def test_options_are_listed_with_their_letters():
    lines = lettered(" Which? ", ["one", "two"]).split("\n")
    assert lines[:3] == ["Which?", "A. one", "B. two"] and "letter" in lines[3]


def test_no_picture_is_spoken_of_where_there_is_none():
    assert "picture" not in TEXT_SYSTEM_PROMPT and TEXT_SYSTEM_PROMPT.startswith("Reason step by step")
