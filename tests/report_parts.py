"""What later commands put into a run folder and an ablation, at toy size, for the tests of their pages."""

import json
from pathlib import Path
from typing import Any

from vgs_mlx.ablation.grid_file import GRID
from vgs_mlx.report import ablation

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
BASE, OTHER = "objective.name=standard", "objective.name=vgs,objective.steering_coef=2"


def spread(mean: float, half: float | None = 0.01) -> dict:
    low, high = (None, None) if half is None else (mean - half, mean + half)
    return {"mean": mean, "sd": half and half / 2, "low": low, "high": high, "count": 3}


def cell(name: str, final: float) -> dict:
    curve = [
        {"step": step, "tokens": 1.0, "seconds": 1.0, "accuracy": spread(mean)}
        for step, mean in ((0, 0.6), (4, final))
    ]
    return {"name": name, "seeds": [0, 1, 2], "before": spread(0.6), "final": spread(final), "best": spread(final),
            "blind": None, "reached": 2, "tokens_to_reach": None, "seconds_to_reach": None,
            "step_seconds": spread(2.5), "curve": curve}  # fmt: skip


def difference(name: str, mean: float, half: float | None) -> dict:
    return {"name": name, "seeds": [0, 1, 2] if half else [0], "by_seed": [mean], "over_seeds": spread(mean, half),
            "over_prompts": {"mean": mean, "low": mean - 0.02, "high": mean + 0.02}, "prompts": 500, "only_cell": 40,
            "only_baseline": 20, "mcnemar": 0.0123}  # fmt: skip


def summary(*differences: dict) -> dict:
    cells = [
        cell(BASE, 0.65),
        *[cell(each["name"], 0.65 + each["over_seeds"]["mean"]) for each in differences],
    ]
    return {
        "baseline": BASE,
        "reach": 0.65,
        "cells": cells,
        "differences": list(differences),
        "unfinished": ["x, seed 2"],
    }


def folder(path: Path, found: dict | str) -> Path:
    (path / "summary").mkdir(parents=True)
    (path / GRID).write_text("{}")
    (path / ablation.SUMMARY).write_text(found if isinstance(found, str) else json.dumps(found))
    return path
