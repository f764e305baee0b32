"""A run's result in a sentence with its interval, and what that interval shows."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vgs_mlx.evaluation.statistics import paired_bootstrap
from vgs_mlx.report.record import Record
from vgs_mlx.report.wording import number, percent, plural, points, share_of

METHODS = {"vgs": "Visual Gradient Steering", "standard": "Standard distillation", "grpo": "GRPO"}


@dataclass(frozen=True)
class Difference:
    """Accuracy after minus accuracy before, as shares, with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def shown(self) -> bool:
        """Whether 0 lies outside the interval."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Headline:
    """The result in a sentence, and how far it can be trusted."""

    sentence: str
    verdict: str


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> Difference:
    """The difference of two accuracies with the interval that follows from their own (Wilson) intervals.

    Newcombe 1998, method 10. It treats the two as independent. Answers to the same prompts are not, so the interval
    is usually too wide.
    """
    value = after["accuracy"] - before["accuracy"]
    low = math.hypot(after["accuracy"] - after["low"], before["high"] - before["accuracy"])
    high = math.hypot(after["high"] - after["accuracy"], before["accuracy"] - before["low"])
    return Difference(value, value - low, value + high)


def headline(record: Record) -> Headline:
    """A run's result so far, from its first and its last evaluation, not from its best."""
    if not record.evaluations:
        return Headline(
            "Nothing can be said about accuracy yet: no evaluation is recorded.",
            f"The run is at step {record.step:,} of {record.recipe.train.steps:,}.",
        )
    before, after = record.evaluations[0], record.evaluations[-1]
    if before["step"] == after["step"]:
        when = "Before training" if after["step"] == 0 else f"At step {after['step']:,}"
        sentence = f"{when}, the student answers {share_of(after)} of {_prompts(after)} right."
        return Headline(sentence, "There is no second evaluation to compare it with yet.")
    return Headline(_sentence(record, before, after), _verdict(record, before, after))


def measured(record: Record, before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Difference, bool]:
    """The difference of two evaluations, and whether it is paired row by row (a bootstrap over rows)."""
    rows = {row["step"]: row for row in record.answers}
    first, second = rows.get(before["step"]), rows.get(after["step"])
    if first is None or second is None or first["ids"] != second["ids"]:
        return difference(before, after), False
    interval = paired_bootstrap(np.array(second["right"]), np.array(first["right"]))
    return Difference(interval.mean, interval.low, interval.high), True


def method(name: str) -> str:
    """An objective's name at the start of a sentence."""
    return METHODS.get(name, f"The objective {name}")


def _sentence(record: Record, before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    change, _ = measured(record, before, after)
    verb = "took" if after["accuracy"] != before["accuracy"] else "left"
    way = (
        f"from {percent(before['accuracy'])} to {percent(after['accuracy'])}"
        if verb == "took"
        else f"at {percent(after['accuracy'])}"
    )
    steps = plural(after["step"] - before["step"], "step")
    return (
        f"{method(record.recipe.objective.name)} {verb} the student {way} right on {_prompts(after)} in {steps}: "
        f"{points(change.value)} points, 95\u202f% interval {points(change.low)} to {points(change.high)}."
    )


def _verdict(record: Record, before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    change, paired = measured(record, before, after)
    if change.shown:
        side = "above" if change.low > 0 else "below"
        text = f"The interval lies {side} 0. This is one run: another seed may differ."
    else:
        text = "The interval contains 0: this run alone does not show that the accuracy changed."
    if not paired:
        text += " It treats the two evaluations as independent, since they don't both record which rows were right."
    if "blind" in after:
        text += f" Without the picture it answers {share_of(after['blind'])} right."
    if "scene_f1" in before and "scene_f1" in after:
        text += f" Scene F1 went from {number(before['scene_f1'])} to {number(after['scene_f1'])}"
        text += " (no interval is recorded for it)."
    return text


def _prompts(evaluation: Mapping[str, Any]) -> str:
    return plural(evaluation["prompts"], "held-out prompt")
