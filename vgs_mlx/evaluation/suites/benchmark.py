r"""The declaration of a benchmark, and the few ways in which rows of benchmarks are asked and graded.

A model is asked with its recipe's system prompt, so the final answer is expected in \boxed{}: a benchmark's
own instructions for other formats ("end with Answer: X") are not used.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from vgs_mlx.errors import Refusal
from vgs_mlx.grading import Verdict, grade_example
from vgs_mlx.grading.options import listed
from vgs_mlx.recipe.options import SYSTEM_PROMPT
from vgs_mlx.types import Example

# for rows without a picture, where the recipe has the default prompt
TEXT_SYSTEM_PROMPT = SYSTEM_PROMPT.replace("Look at the picture and reason", "Reason")

LETTER = "Answer with the letter of the right option."
STYLED = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox)\b|[{}$\\]")


class Asked(NamedTuple):
    """A row's question, its right final answer, and the texts of the options A, B, C, ... that it lists."""

    question: str
    answer: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Benchmark:
    """One benchmark: where its rows are, how a row becomes a question, how an answer is graded."""

    name: str
    source: str  # the Hub id
    config: str | None
    split: str
    columns: tuple[str, ...]  # that `ask` reads; all must exist
    ask: Callable[
        [Mapping[str, Any]], Asked | None
    ]  # None for a row of another benchmark; may raise `Refusal`
    pictures: tuple[str, ...] = ()  # columns that hold a picture, several or none; all must exist
    kind: str = ""  # the column by which accuracy is also reported, where it exists
    tidy: Callable[[str], str] = str  # rewrites the text in the box before it is graded

    def grade(self, completion: str, example: Example) -> Verdict:
        """The verdict on the answer in the completion's last box."""
        return grade_example(completion, example, self.tidy)


def lettered(question: str, options: Sequence[str] = ()) -> str:
    """A multiple-choice question: the options below it, with their letters, and how to answer.

    Without options, the question or its picture lists them already. Raises `Refusal` for an empty question.
    """
    if not isinstance(question, str) or not question.strip():
        raise Refusal("an empty question")
    lines = [f"{chr(ord('A') + place)}. {option}" for place, option in enumerate(options)]
    return "\n".join([question.strip(), *lines, LETTER])


def choice(question: str, letter: str) -> Asked:
    """A multiple-choice question, its right letter, and the options that it lists."""
    return Asked(question, letter, listed(question))


def numbers_in_order(given: str) -> str:
    """Whole numbers in their order, whatever is between them: "rows={5} columns={6}" is (5, 6). Other text as it is."""
    plain = STYLED.sub(" ", given).strip()
    numbers = re.findall(r"\d+", plain)
    return f"({', '.join(numbers)})" if len(numbers) > 1 else "".join(numbers) or plain
