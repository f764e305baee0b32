"""Every graded case has its verdict."""

import pytest

from grader_cases import BY_KIND
from vgs_mlx.grading import expressions, grade


@pytest.mark.parametrize("kind", BY_KIND)
def test_right_answers_are_right_and_wrong_ones_wrong(kind, monkeypatch):
    monkeypatch.setattr(expressions, "SECONDS", 2.0)  # for towers of powers, whose time runs out
    found = [grade(case["completion"], case["answer"], case.get("options")) for case in BY_KIND[kind]]
    failed = [
        (case, verdict.rule)
        for case, verdict in zip(BY_KIND[kind], found, strict=True)
        if verdict.right != case["right"]
    ]
    assert failed == []
