"""What later commands put into a run folder, at toy size, for the tests of its page."""

from typing import Any

ANGLE = {"mean": 60.0, "sd": 3.0}
BIN: dict[str, Any] = {
    "vds_low": 0.1, "vds_high": 0.2, "tokens": 7, "frequent": [[" circle", 5], ["\n", 2], ["<b>", 1], ["x" * 40, 1]],
    "angle_lang_vis": ANGLE, "angle_std_vis": {"mean": None, "sd": None}, "angle_std_lang": ANGLE,
    "norm_standard": 1.0, "norm_visual": 2.0, "norm_language": None,
    "mean_standard": 0.5, "mean_visual": 0.1, "mean_language": 0.3,
}  # fmt: skip
GEOMETRY = {"bins": [{"bin": place, **BIN} for place in range(10)], "batches": 8}
"""geometry.json, with a token that is markup, a long one, and an angle that could not be measured."""
