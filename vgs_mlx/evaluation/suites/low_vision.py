"""Controls in which the picture adds little to the text. None has been run against its real data yet."""

import re
from collections.abc import Mapping
from typing import Any

from vgs_mlx.evaluation.suites.benchmark import Asked, Benchmark, choice, lettered


def _geometry3k(row: Mapping[str, Any]) -> Asked:
    return Asked(row["problem"].replace("<image>", ""), row["answer"])


def _we_math(row: Mapping[str, Any]) -> Asked:
    """`option` is one text, "A. 45; B. 60; C. 72": it holds the letters."""
    options = re.sub(r"\s*;\s*(?=[A-Z][.)])", "\n", row["option"].strip())
    return choice(lettered(f"{row['question']}\n{options}"), row["answer"])


BENCHMARKS = (
    # 601 rows in test; images is a list of one, problem begins with <image>: its card. Answers are values
    # ("2 \sqrt { 221 }"), not options.
    Benchmark(
        "geometry3k", "hiyouga/geometry3k", None, "test", ("problem", "answer"), _geometry3k, pictures=("images",)
    ),
    # 1,740 rows; the picture is in image_path, option a text with the letters, key the kind of step: code of five
    # projects. Each row counts by itself, sub-problems too: the authors' four-way measure is not computed.
    Benchmark(
        "we-math", "We-Math/We-Math", None, "testmini", ("question", "option", "answer"), _we_math,
        pictures=("image_path",), kind="key",
    ),
)  # fmt: skip
