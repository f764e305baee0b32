"""What holds for every answer: it is right itself, however it is set; with another digit it is wrong."""

import random
import re
from fractions import Fraction

import pytest

from grader_cases import BY_KIND
from vgs_mlx.grading import MEANINGS, compare, expressions
from vgs_mlx.grading.numbers import read_number
from vgs_mlx.grading.plain import canonical

ANSWERS = sorted(
    {
        case["answer"]
        for cases in BY_KIND.values()
        for case in cases
        if isinstance(case["answer"], str) and "boxed" not in case["answer"]
    }
)
SETTINGS = (
    "${}$", r"\({}\)", "  {}\n", r"\text{{{}}}", r"\mathbf{{{}}}", "{{{}}}", r"\displaystyle {}", r"{{\rm {}}}", "{}.",
    r"\textbf{{\textit{{{}}}}}", r"\,{}\;", "\u200b{}\u2009", "**{}**",
)  # fmt: skip
SAME_VALUE = {r"\{1,1,2\}"}  # another digit may leave a set as it was


@pytest.fixture
def text_alone(monkeypatch):
    """Without the checker of expressions: quick, and what is found equal is found so by the rules."""
    monkeypatch.setattr(expressions.Comparisons, "same", lambda self, given, right: False)


def test_every_answer_is_right_itself(text_alone):
    assert [answer for answer in ANSWERS if not compare(answer, answer).right] == []


@pytest.mark.parametrize("setting", SETTINGS)
def test_styles_and_spaces_change_nothing(setting, text_alone):
    wrong = [answer for answer in ANSWERS if not compare(setting.format(answer), answer).right]
    assert wrong == []


def test_another_digit_is_another_answer():
    rng = random.Random(0)
    passed = []
    for answer in rng.sample(ANSWERS, 400):
        places = [found.start() for found in re.finditer(r"[0-9]", answer)]
        if not places or answer in SAME_VALUE or re.fullmatch(r"\w_\{?\d+\}?", answer):
            continue
        place = rng.choice(places)
        digit = rng.choice([each for each in "123456789" if each != answer[place]])
        given = answer[:place] + digit + answer[place + 1 :]
        if compare(given, answer).right:
            passed.append((given, answer))
    assert passed == []


def spellings(value: Fraction, rng: random.Random) -> list[str]:
    """The ways to write a fraction of few digits."""
    sign, size = "-" if value < 0 else "", abs(value)
    above, below = size.numerator, size.denominator
    written = [
        f"{sign}{above}/{below}",
        rf"{sign}\frac{{{above}}}{{{below}}}",
        rf"\frac{{{sign}{above}}}{{{below}}}",
    ]
    whole, rest = divmod(size, 1)
    if whole and rest:
        written += [rf"{sign}{whole}\frac{{{rest.numerator}}}{{{rest.denominator}}}"]
    if 10**6 % below == 0:
        decimal = f"{size * 10**6 // 1 // 10**6}.{size * 10**6 // 1 % 10**6:06d}".rstrip("0").rstrip(".")
        written += [sign + decimal, rf"{sign}{above * 10**6 // below}\times10^{{-6}}", f"{sign}{size * 100}%"]
    return written


def test_a_number_is_right_in_every_spelling_and_no_other_number_is(text_alone):
    rng = random.Random(1)
    for _ in range(300):
        value = Fraction(rng.randint(-400, 400), rng.choice([1, 2, 3, 4, 5, 7, 8, 25, 40]))
        other = value + Fraction(rng.choice([-1, 1]), rng.choice([1, 10, 1000, 10**6]))
        for written in spellings(value, rng):
            if "%" not in written:
                assert read_number(canonical(written)) == value, written
            for right in spellings(value, rng)[:2]:
                assert compare(written, right).right, (written, right)
        for written in spellings(other, rng):
            for right in spellings(value, rng):
                assert not compare(written, right).right, (written, right)


def test_no_text_is_too_odd_to_be_graded(text_alone):
    rng = random.Random(2)
    signs = [
        *"{}()[]^_$|,.;-+/*=<>!&~'\"",
        *"±≤°½²√∪∈…\u0304\u200b",
        " ",
        "\\",
        r"\frac",
        r"\text{",
        r"\sqrt",
        r"\left",
    ]
    signs += [
        r"\right",
        r"\begin{pmatrix}",
        r"\end{pmatrix}",
        r"\\",
        r"\pm",
        "and",
        "or",
        "1",
        "a",
        "cm",
        "10",
        "😀",
    ]
    for _ in range(2_000):
        texts = ["".join(rng.choices(signs, k=rng.choice([2, 5, 20, 60]))) for _ in range(2)]
        texts = [rng.choice(ANSWERS) if rng.random() < 0.2 else text for text in texts]
        texts = [text * 40 if rng.random() < 0.1 else text for text in texts]
        assert compare(*texts).rule in MEANINGS
        assert compare(texts[0], texts[0]).rule in MEANINGS
