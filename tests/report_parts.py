"""What later commands put into a run folder, at toy size, for the tests of its page."""

from typing import Any

ANGLE = {"mean": 60.0, "sd": 3.0}
BIN: dict[str, Any] = {
    "vds_low": 0.1, "vds_high": 0.2, "tokens": 7, "frequent": [[" circle", 5], ["\n", 2], ["<b>", 1], ["x" * 40, 1]],
    "angle_lang_vis": ANGLE, "angle_std_vis": {"mean": None, "sd": None}, "angle_std_lang": ANGLE,
    "norm_standard": ANGLE, "norm_visual": ANGLE, "norm_language": {"mean": None, "sd": None},
    "mean_standard": 0.5, "mean_visual": 0.1, "mean_language": 0.3,
}  # fmt: skip
WATCHED = [
    {"step": step, "low": {"standard": 0.1, "visual": 0.2, "language": 0.3, "entropy": 0.4}, "middle": None,
     "high": {"standard": 1.1, "visual": 1.2, "language": 1.3, "entropy": 0.4}}
    for step in (0, 2, 4)
]  # fmt: skip
"""Rows of terms.jsonl; the middle bins had no token."""
GEOMETRY = {"bins": [{"bin": place, **BIN} for place in range(10)], "batches": 8}
"""geometry.json, with a token that is markup, a long one, and an angle that could not be measured."""
