"""docs/grading.md says of every example what the grader says, and names every rule."""

import re
from pathlib import Path

import pytest

from vgs_mlx.grading import MEANINGS, compare

TEXT = (Path(__file__).parents[2] / "docs" / "grading.md").read_text(encoding="utf-8")
ROWS = [
    [re.findall(r"`([^`]+)`", cell) for cell in line.strip("|\n").split(" | ")]
    for line in TEXT.splitlines()
    if line.startswith("| `")
]


@pytest.mark.parametrize(("answer", "right", "wrong"), ROWS, ids=lambda cell: cell[0])
def test_every_example_is_graded_as_it_says(answer, right, wrong):
    assert right and wrong
    assert [given for given in (*answer, *right) if not compare(given, answer[0]).right] == []
    assert [given for given in wrong if compare(given, answer[0]).right] == []


def test_every_rule_that_has_examples_is_named():
    headings = set(re.findall(r"`([a-z ]+)`", " ".join(re.findall(r"^### .*$", TEXT, re.MULTILINE))))
    assert headings == set(MEANINGS) - {"no box", "empty box", "length"}
