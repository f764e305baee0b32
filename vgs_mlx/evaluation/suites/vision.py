"""The seven benchmarks that the paper averages. The source of each schema is above its declaration.

None has been run against its real data yet. "Card" is the dataset's own README on the Hub as others store it,
"code" is public code that loads it and names the columns.
"""

import ast
import re
from collections.abc import Callable, Mapping
from typing import Any

from vgs_mlx.errors import Refusal
from vgs_mlx.evaluation.suites.benchmark import (
    Asked,
    Benchmark,
    choice,
    lettered,
    numbers_in_order,
)

BRACES = re.compile(r"(?<![=\\\w}])\{(\w+)\}")  # {3}, but not in rows={5}
PLACE = re.compile(r"<image\s*(\d+)>")  # where a question refers to one of its pictures


def _mmmu_pro(row: Mapping[str, Any]) -> Asked:
    try:
        options = ast.literal_eval(row["options"])  # a Python list, written out
    except (ValueError, SyntaxError) as error:
        raise Refusal("options is not a list that can be read") from error
    if not isinstance(options, list):
        raise Refusal("options is not a list that can be read")
    named = PLACE.sub(r"[picture \1]", lettered(row["question"], [str(each) for each in options]))
    return choice(named, row["answer"])


def _logic_vista(row: Mapping[str, Any]) -> Asked:
    """The question lists its options itself, or the picture does."""
    return Asked(lettered(row["question"]), row["answer"])


def _mathverse(version: str) -> Callable[[Mapping[str, Any]], Asked | None]:
    """The multiple-choice rows of one version. The question lists its options itself, or the picture does."""

    def ask(row: Mapping[str, Any]) -> Asked | None:
        if row["problem_version"] != version or row["question_type"] != "multi-choice":
            return None
        in_picture = version == "Vision Only"
        return choice(
            lettered("Answer the question in the picture." if in_picture else row["question"]), row["answer"]
        )

    return ask


def _visual_puzzles(row: Mapping[str, Any]) -> Asked:
    if row["options"]:
        return choice(lettered(row["question"], row["options"]), row["answer"])
    in_picture = f"{row['question']}\nThe options A, B, C and D are in the picture."
    return Asked(lettered(in_picture), row["answer"])


def _math_vision(row: Mapping[str, Any]) -> Asked:
    question = PLACE.sub("", row["question"])
    if not row["options"]:
        return Asked(question, row["answer"])
    return choice(lettered(question, row["options"]), row["answer"])


def _blind(row: Mapping[str, Any]) -> Asked:
    """Prompts that ask for "{3}" ask for a box, as in the samples that the paper shows."""
    return Asked(BRACES.sub(r"\\boxed{\1}", row["prompt"]), numbers_in_order(row["groundtruth"]))


def _mathverse_of(name: str, version: str) -> Benchmark:
    """436 multiple-choice rows of 788 a version. Columns and their values: code of four projects and an example.

    The free-form rows are omitted, as they seem to be in the paper: its percentages are whole numbers of 432 rows
    (vision-dominant) and of 436 (vision-only), and of no number near 788; which four rows it lacks isn't known.
    Grading them would take a judge model. Public code also loads a copy with a split for each version,
    CaraJ/MathVerse-lmmseval; the benchmark's own is taken here.
    """
    return Benchmark(
        name, "AI4Math/MathVerse", "testmini", "testmini",
        columns=("question", "answer", "question_type", "problem_version"), ask=_mathverse(version),
        pictures=("image",),
    )  # fmt: skip


BENCHMARKS = (
    # 1,730 rows. Card (configurations, splits, types of all columns); that options is a written-out list: code.
    Benchmark(
        "mmmu-pro", "MMMU/MMMU_Pro", "standard (4 options)", "test", ("question", "options", "answer"), _mmmu_pro,
        pictures=tuple(f"image_{number}" for number in range(1, 8)), kind="subject",
    ),
    # 448 rows, three with two right letters ("B, D"), one empty (skipped as a bad row) and one whose answer is a
    # digit: code that loaded and counted them. The authors publish files, not a Hub data set: this copy is the
    # one that most public code loads (others: renjiepi/LogicVista).
    Benchmark(
        "logicvista", "lscpku/LogicVista", None, "test", ("question", "answer"), _logic_vista,
        pictures=("image",), kind="skill",
    ),
    _mathverse_of("mathverse-vd", "Vision Dominant"),
    _mathverse_of("mathverse-vo", "Vision Only"),
    # 1,168 rows; the only split is called train; options is null where they are in the picture: code of lmms-eval.
    Benchmark(
        "visualpuzzles", "neulab/VisualPuzzles", None, "train", ("question", "options", "answer"), _visual_puzzles,
        pictures=("image",), kind="category",
    ),
    # 3,040 rows; options is a list, empty for free answers; `image` is a path, the picture is decoded_image: code
    # of lmms-eval, which also takes the right option's text for its letter, as is done here.
    Benchmark(
        "mathvision", "MathLLMs/MathVision", None, "test", ("question", "options", "answer"), _math_vision,
        pictures=("decoded_image",), kind="subject",
    ),
    # 8,016 rows; columns task, image, prompt, groundtruth, metadata; groundtruth "5,6" for rows and columns: code
    # of three projects. The numbers in the box are compared, whatever is between them.
    Benchmark(
        "vlmsareblind", "XAI/vlmsareblind", None, "valid", ("prompt", "groundtruth"), _blind,
        pictures=("image",), kind="task", tidy=numbers_in_order,
    ),
)  # fmt: skip
