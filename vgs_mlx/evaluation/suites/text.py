"""Mathematics without pictures: did training break anything? None has been run against its real data yet."""

from collections.abc import Mapping
from typing import Any

from vgs_mlx.errors import Refusal
from vgs_mlx.evaluation.suites.benchmark import Asked, Benchmark


def _problem(row: Mapping[str, Any]) -> Asked:
    return Asked(row["problem"], str(row["answer"]))


def _olympiad(row: Mapping[str, Any]) -> Asked:
    """`final_answer` is a list of texts, each with its dollar signs."""
    answers = [each.replace("$", "").strip() for each in row["final_answer"] or []]
    if not all(answers):
        raise Refusal("an empty final_answer")
    return Asked(row["question"], ", ".join(answers))


def _without_dollars(given: str) -> str:
    return given.replace("$", "")


BENCHMARKS = (
    # 500 rows; problem, solution, answer, subject, level, unique_id: code of many projects.
    Benchmark("math500", "HuggingFaceH4/MATH-500", None, "test", ("problem", "answer"), _problem, kind="subject"),
    # 30 rows; problem, answer, id: code of many projects. Which copy of the 30 problems the paper used is unknown
    # (others: opencompass/AIME2025, yentinglin/aime_2025).
    Benchmark("aime25", "math-ai/aime25", None, "test", ("problem", "answer"), _problem),
    # 674 rows, English competition mathematics, open-ended and text only; the split is called train: code of many
    # projects. A row's own tolerance (`error`) is not used, so grading is stricter than its authors'. Which of
    # the configurations the paper used is unknown; these 674 are what text-only work reports.
    Benchmark(
        "olympiadbench", "Hothan/OlympiadBench", "OE_TO_maths_en_COMP", "train", ("question", "final_answer"),
        _olympiad, kind="subfield", tidy=_without_dollars,
    ),
)  # fmt: skip
