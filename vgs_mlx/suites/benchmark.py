r"""What a declaration of a benchmark says, and the few ways in which their rows are asked and graded.

A model is asked as its recipe's system prompt has it, so the final answer is expected in \boxed{}: a benchmark's
own instructions for other formats ("end with Answer: X") are not used.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from vgs_mlx.data.answers import extract_answer, same_answer
from vgs_mlx.errors import Refusal
from vgs_mlx.recipe import SYSTEM_PROMPT

# For rows that have no picture, where the recipe keeps to the default
TEXT_SYSTEM_PROMPT = SYSTEM_PROMPT.replace("Look at the picture and reason", "Reason")

LETTER = "Answer with the letter of the right option."
# "B", "(B) 45°", "Option B. 45°"; "B 45" is none, for "A or B" begins like that
LED_BY_LETTER = re.compile(
    r"(?:(?:option|choice|answer)\s*:?\s*)?[(\[]?\s*([A-J])\s*(?:[)\].:]+\s*(.*))?", re.IGNORECASE | re.DOTALL
)
# A letter that stands for an option: "B", "(b)", "or b", but not "a circle", "AB", "f(a)", "I and II", "45° C"
OPTION_NAMED = re.compile(
    r"(?![Aa]\s+(?!or\b|and\b)[a-z])(?:(?<![A-Za-z\d°])(?<!circ )[A-HJ](?![A-Za-z\d])"
    r"|(?<=\()(?<![A-Za-z\d]\()[a-hj](?=\))|(?<=\bor )[a-hj]\b|(?<=\band )[a-hj]\b|(?<=, )[a-hj](?=[).:]))"
)
KEY = re.compile(r"([A-J])(?:\. (.*))?", re.DOTALL)  # "B", "B. 45°"
STYLED = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox)\b|[{}$\\]")
FILLER = {"and", "or", "option", "options", "answer", "answers", "choice", "choices"}


class Asked(NamedTuple):
    """A row's question, options listed in it, and its right final answer."""

    question: str
    answer: str


@dataclass(frozen=True)
class Benchmark:
    """One benchmark: where its rows are, how a row becomes a question, how an answer is graded."""

    name: str
    source: str  # the Hub id
    config: str | None
    split: str
    columns: tuple[str, ...]  # that `ask` reads; each must be there
    ask: Callable[[Mapping[str, Any]], Asked | None]  # None: a row of another benchmark; may raise a Refusal
    pictures: tuple[str, ...] = ()  # columns that hold a picture, several or none; each must be there
    kind: str = ""  # the column by which accuracy is also reported, where it is there
    same: Callable[[str, str], bool] = same_answer  # (given, right) -> whether they say the same

    def correct(self, completion: str, answer: str) -> bool:
        """Whether the completion's last box holds the right answer."""
        given = extract_answer(completion)
        return given is not None and self.same(given, answer)


def lettered(question: str, options: Sequence[str] = ()) -> str:
    """A question of choice: the options below it, with their letters, and how to answer.

    Without options, the question or its picture lists them already. Raises a Refusal for an empty question.
    """
    if not isinstance(question, str) or not question.strip():
        raise Refusal("an empty question")
    lines = [f"{chr(ord('A') + place)}. {option}" for place, option in enumerate(options)]
    return "\n".join([question.strip(), *lines, LETTER])


def choice(question: str, letter: str) -> Asked:
    """A question of choice and its right letter, with its text where the question lists it: "B. 45°"."""
    listed = re.findall(rf"^{letter}[).:] *(\S.*)$", question, re.MULTILINE) if KEY.fullmatch(letter) else ()
    return Asked(question, f"{letter}. {listed[-1]}" if listed else letter)


def same_option(given: str, right: str) -> bool:
    """Whether the right letter is given; where `right` is none, as `same_answer`.

    The option's text may follow, "B. 45°", or other words that name no further option: "B. A and C" is right
    only where it is what option B says, `right` being "B. A and C" then.
    """
    key = KEY.fullmatch(right)
    if not key:
        return same_answer(given, right)
    letter, text = key.groups("")
    led = LED_BY_LETTER.fullmatch(_unstyled(given))
    if not led:
        return same_answer(given, letter)
    remainder = led[2] or ""
    named = {found[0].upper() for found in OPTION_NAMED.finditer(remainder)}
    return led[1].upper() == letter and (named <= {letter} or same_answer(remainder, _unstyled(text)))


def _unstyled(text: str) -> str:
    return STYLED.sub("", text).strip()


def same_letters(given: str, right: str) -> bool:
    """Whether the same options are chosen, in any order: "C, A" and "A and C" are A, C."""
    wanted = set(re.findall(r"[A-Z]", right))
    if len(wanted) < 2:
        return same_option(given, right)
    words = re.findall(r"[A-Za-z]+", STYLED.sub(" ", given))
    letters = [word.upper() if len(word) == 1 else word for word in words if word.casefold() not in FILLER]
    return all(word.isupper() for word in letters) and set("".join(letters)) == wanted


def same_numbers(given: str, right: str) -> bool:
    """Whole numbers in their order, whatever stands between them: "rows={5} columns={6}" is 5,6. Else words."""
    numbers = re.findall(r"\d+", right)
    plain = STYLED.sub(" ", given)
    if numbers:
        return list(map(int, re.findall(r"\d+", plain))) == list(map(int, numbers))
    return same_answer(plain.strip(), STYLED.sub(" ", right).strip())
