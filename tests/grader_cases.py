"""Graded answers that were chosen to break a grader, by their kind: tests/grading/cases.jsonl."""

import json
from collections import defaultdict
from pathlib import Path

BY_KIND = defaultdict(list)
for _line in (Path(__file__).parent / "grading" / "cases.jsonl").read_text(encoding="utf-8").splitlines():
    _case = json.loads(_line)
    BY_KIND[_case["kind"]].append(_case)
