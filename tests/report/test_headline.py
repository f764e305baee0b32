"""The headline claims what the evaluations show, and no more."""

from dataclasses import replace

import pytest

from vgs_mlx.evaluation.statistics import accuracy_interval
from vgs_mlx.recipe import file as recipe_file
from vgs_mlx.recipe.options import Recipe
from vgs_mlx.report import setting
from vgs_mlx.report.headline import difference, headline
from vgs_mlx.report.record import Record


def evaluation(step: int, right: int, prompts: int, **more) -> dict:
    low, high = accuracy_interval(right, prompts)
    return {"step": step, "prompts": prompts, "accuracy": right / prompts, "low": low, "high": high, **more}


def record(*evaluations: dict, answers: tuple = ()) -> Record:
    return Record(
        name="run", recipe=Recipe(), metrics=(), evaluations=evaluations, completions=(), answers=answers, terms=(),
        versions={}, result={}, geometry=None, finished=True, damaged=(),
    )  # fmt: skip


def test_the_interval_of_independent_shares_is_newcombe_s():
    """His example: 56 of 70 against 48 of 80, 0.0524 to 0.3339."""
    found = difference(evaluation(0, 48, 80), evaluation(1, 56, 70))
    assert (found.value, found.low, found.high) == (
        pytest.approx(0.2), pytest.approx(0.0524, abs=1e-4), pytest.approx(0.3339, abs=1e-4),
    )  # fmt: skip
    assert found.shown


def test_which_rows_were_right_narrows_the_interval():
    before, after = evaluation(0, 50, 100), evaluation(9, 60, 100)
    ids, first, second = list(range(100)), [1] * 50 + [0] * 50, [1] * 60 + [0] * 40
    answers = ({"step": 0, "ids": ids, "right": first}, {"step": 9, "ids": ids, "right": second})
    apart, paired = headline(record(before, after)), headline(record(before, after, answers=answers))
    assert "The interval contains 0" in apart.verdict and "independent" in apart.verdict
    assert "The interval lies above 0" in paired.verdict and "independent" not in paired.verdict
    other_rows = (answers[0], {**answers[1], "ids": ids[::-1]})
    assert headline(record(before, after, answers=other_rows)) == apart


def test_the_last_evaluation_counts_and_not_the_best():
    found = headline(record(evaluation(0, 50, 100), evaluation(5, 90, 100), evaluation(9, 40, 100)))
    assert "50.0\u202f% to 40.0\u202f%" in found.sentence and "−10.0 points" in found.sentence


def test_a_run_without_a_second_evaluation_claims_no_difference():
    found = headline(record(evaluation(0, 65, 100)))
    assert "Before training" in found.sentence and "points" not in found.sentence
    assert "Nothing can be said" in headline(record()).sentence


def test_the_objective_is_named():
    changed = Recipe(objective=replace(Recipe().objective, name="standard"))
    found = headline(replace(record(evaluation(0, 5, 10), evaluation(4, 5, 10)), recipe=changed))
    assert found.sentence.startswith("Standard distillation left the student at 50.0")


@pytest.mark.parametrize(("sets", "said"), [
    (["objective.name=standard"], "standard"),
    (
        ["objective.name=vgs"],
        "Visual Gradient Steering (vgs): γ\u00a0=\u00a02, λ\u00a0=\u00a00.01, η measured (interval)",
    ),
    (["objective.name=grpo"], "GRPO (grpo)"),
    (
        ["objective.name=grpo", "objective.mix=0.3"],
        "GRPO (grpo), mixed with 0.3 of vgs: γ\u00a0=\u00a02, λ\u00a0=\u00a00.01",
    ),
])  # fmt: skip
def test_an_objective_is_shown_with_what_it_uses(sets, said):
    recipe = recipe_file.load_recipe(None, sets)
    assert dict(setting.essentials(recipe))["Objective"] == said
