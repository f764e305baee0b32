"""Every graded case has its verdict; cases.jsonl holds answers that were chosen to break a grader, by kind."""

import json
from collections import defaultdict
from pathlib import Path

import pytest

from vgs_mlx.grading import grade

BY_KIND = defaultdict(list)
for line in Path(__file__).with_name("cases.jsonl").read_text(encoding="utf-8").splitlines():
    case = json.loads(line)
    BY_KIND[case["kind"]].append(case)


@pytest.mark.parametrize("kind", BY_KIND)
def test_right_answers_are_right_and_wrong_ones_wrong(kind):
    verdicts = [
        (case, grade(case["completion"], case["answer"], case.get("options"))) for case in BY_KIND[kind]
    ]
    assert [(case, found.rule) for case, found in verdicts if found.right != case["right"]] == []
