"""What `vgs-mlx evaluate --grading` prints: each wrong answer, what was expected, and the rule that decided."""

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vgs_mlx.evaluation.evaluate import Answer
from vgs_mlx.formats.texts import printable
from vgs_mlx.grading import MEANINGS, extract_answer

LONGEST = 200  # characters of an answer that are shown


def wrong(answers: Iterable[Sequence[Answer]]) -> list[dict[str, Any]]:
    """The wrong ones among the answers, as plain values for JSON.

    `expected` is a list where several answers are right; `given` is None where nothing is boxed.
    """
    return [
        {
            "row": each.example.id,
            "expected": list(each.example.answers) if each.example.also else each.example.answer,
            "given": extract_answer(each.completion),
            "rule": each.rule,
        }
        for row in answers
        for each in row
        if not each.right
    ]


def show(answers: Sequence[dict[str, Any]], console: Console) -> None:
    """Print them as a table, and what the rules among them mean."""
    if not answers:
        console.print("No answer is wrong.")
        return
    table = Table(box=None)
    for heading in ("row", "expected", "given", "rule"):
        table.add_column(heading, overflow="fold")
    for each in answers:
        given = "-" if each["given"] is None else each["given"]
        expected = each["expected"] if isinstance(each["expected"], str) else " or ".join(each["expected"])
        texts = (Text(printable(text[:LONGEST])) for text in (each["row"], expected, given))
        table.add_row(*texts, each["rule"])
    console.print(table)
    for rule in dict.fromkeys(each["rule"] for each in answers):
        console.print(f"{rule}: {MEANINGS[rule]}", markup=False, soft_wrap=True)
