r"""One grader for rewards, accuracy and benchmarks: is the answer in a completion's last \boxed{} right?"""

from vgs_mlx.grading.box import extract_answer
from vgs_mlx.grading.grade import MEANINGS, Verdict, compare, gradable, grade, grade_example, is_correct

__all__ = [
    "MEANINGS",
    "Verdict",
    "compare",
    "extract_answer",
    "gradable",
    "grade",
    "grade_example",
    "is_correct",
]
