"""What counts as the right answer to a benchmark, beyond what grading/ says."""

import pytest

from vgs_mlx.evaluation.suites.benchmark import (
    TEXT_SYSTEM_PROMPT,
    choice,
    lettered,
    numbers_in_order,
)
from vgs_mlx.grading import compare


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
        ("Option B. 45", "B", True),
        ("b. 45", "B", True),
        ("(\\text{B})", "B", True),
        ("\\text{(B)}", "B", True),
        ("B) 45", "B", True),
        ("B\\quad", "B", True),
        ("B. a circle", "B", True),
        ("B. A circle and a square", "B", True),
        ("B. AC", "B", True),
        ("B. f(a)", "B", True),
        ("B. I and II", "B", True),
        ("B. (i) and (ii)", "B", True),
        ("B. 45^\\circ\\text{ C}", "B", True),
        ("B. since B is larger", "B", True),
        ("A. 5 or 6", "A", True),
        ("(A)(B)(C)(D)", "A", False),
        ("(a)(b)(c)(d)", "A", False),
        ("(B), (C)", "B", False),
        ("A. or B.", "A", False),
        ("a. or b.", "A", False),
        ("A) or B)", "A", False),
        ("b), c)", "B", False),
        ("C: not sure, maybe A", "C", False),
        ("A. 5 B. 6", "A", False),
        ("B. A and C", "B", False),
        ("B. A and C", "B. A and C", True),  # so says the option itself
        ("(B) A and C", "B. A and D", False),
        ("B", "B. A and C", True),
        ("B. 45 degrees", "B. 45°", True),
        ("C. 45°", "B. 45°", False),
        ("45°", "B. 45°", False),
    ],
)
def test_an_option_is_its_letter_with_or_without_its_text(given, right, same):
    assert compare(given, right).right is same


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
        ("(B), (C)", "B", False),
        ("(B)(C)", "B", False),
        ("b. 45", "B", True),
        ("3", "3", True),  # a row whose answer is a digit
    ],
)
def test_several_letters_are_a_set(given, right, same):
    assert compare(given, right).right is same


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
    assert compare(numbers_in_order(given), numbers_in_order(right)).right is same


def test_options_are_listed_with_their_letters():
    lines = lettered(" Which? ", ["one", "two"]).split("\n")
    assert lines[:3] == ["Which?", "A. one", "B. two"] and "letter" in lines[3]


@pytest.mark.parametrize(
    ("question", "options"),
    [
        (lettered("Which?", ["one", "A and B"]), ("one", "A and B")),
        ("Which?\nA:5\nB:6", ("5", "6")),
        ("Which?\nB.\nC. 5", ()),
        ("Given:\nA. x > 0\nWhich?\nA. 1\nB. 2", ("1", "2")),
        ("Which of A. and B.?", ()),
    ],
)
def test_the_options_are_known_where_the_question_lists_them(question, options):
    assert choice(question, "A") == (question, "A", options)


def test_no_picture_is_spoken_of_where_there_is_none():
    assert "picture" not in TEXT_SYSTEM_PROMPT and TEXT_SYSTEM_PROMPT.startswith("Reason step by step")
