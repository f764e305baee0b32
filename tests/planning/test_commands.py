"""A plan has a phase for everything that a command does, and a teacher where something is asked of one."""

import itertools

import pytest

from vgs_mlx.data.prompts import CHANGES
from vgs_mlx.objective.objectives import OBJECTIVES, SCORES, Objective, Part, Score
from vgs_mlx.objective.terms import TERMS, Term
from vgs_mlx.objective.weightings import WEIGHTINGS, Weighting
from vgs_mlx.planning import commands
from vgs_mlx.planning.plan import Lengths
from vgs_mlx.planning.sizes import read_size
from vgs_mlx.recipe import file as recipe_file
from vgs_mlx.resources import recipes_folder

SEEN = Lengths(160, 1024)


def size(name: str):
    return read_size(str(recipes_folder() / "configs" / f"qwen3-vl-{name}.json"), "--student")


def planned(*sets: str, seen: Lengths = SEEN):
    recipe = recipe_file.load_recipe(None, sets)
    return commands.training(recipe, size("2b"), size("8b"), seen, "metal")


def parts(made, phase: str) -> dict[str, int]:
    """What a phase holds, each part at its largest."""
    [found] = [each for each in made.phases if each.name == phase]
    names = {name for moment in found.moments for name, value in moment.items() if value}
    return {name: max(moment.get(name, 0) for moment in found.moments) for name in names}


@pytest.mark.parametrize(("name", "watch"), [*itertools.product(OBJECTIVES, (False, True))])
def test_every_objective_has_a_plan_watched_or_not(name, watch):
    sets = [f"objective.name={name}", "train.watch_every=5" if watch else "train.steps=9"]
    sets += (
        ["objective.watch_norm_scale=true"] if watch and name not in ("vgs", "adaptive", "language") else []
    )
    made = planned(*sets)
    assert all(peak > 0 for peak in made.peaks.values()) and "evaluation" in made.peaks
    assert ("watch, student" in made.peaks) == watch
    assert ("student, η watched" in made.peaks) == (len(sets) == 3)


@pytest.mark.parametrize(
    ("sets", "there"),
    [
        (("objective.name=sft",), False),
        (("objective.name=sft", "objective.answers=teacher"), True),
        (("objective.name=grpo",), False),
        (("objective.name=grpo", "train.watch_every=9"), True),
        (("objective.name=grpo", "objective.mix=0.3"), True),
        (("objective.name=sft", "objective.watch_norm_scale=true"), True),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, tuple) else None,
)
def test_the_teacher_is_counted_where_something_is_asked_of_it(sets, there):
    assert (planned(*sets).resting["teacher"] > 0) == there


def test_whoever_samples_has_the_cache():
    def cache(*sets: str) -> int:
        [phase] = [each for each in planned(*sets).phases if each.name == "rollouts"]
        return max(moment.get("KV cache", 0) for moment in phase.moments)

    teachers = cache("objective.name=sft", "objective.answers=teacher")
    assert teachers > 1.2 * cache("objective.name=standard"), "36 layers and not 28"
    assert "rollouts" not in planned("objective.name=sft").peaks


def test_evaluations_prefill_as_many_pictures_as_they_answer_at_a_time():
    made = planned("objective.name=standard")
    assert made.peaks["evaluation"] > made.peaks["rollouts"]
    fewer = planned("objective.name=standard", "rollout.batch_size=8")
    assert fewer.peaks["evaluation"] < made.peaks["evaluation"]
    assert planned("objective.name=standard", "train.evaluate_rows=8").peaks["evaluation"] == pytest.approx(
        fewer.peaks["evaluation"], rel=0.01
    )


def test_given_answers_are_planned_as_long_as_they_are_and_one_a_prompt():
    short, long = (
        planned("objective.name=sft", "train.passes=two", seen=Lengths(160, 1024, answer=length))
        for length in (64, 4096)
    )

    def waiting(made) -> int:
        [student] = [each for each in made.phases if each.name == "student"]
        return max(moment.get("cotangents", 0) for moment in student.moments)

    assert waiting(long) == 64 * waiting(short) and long.peaks["student"] > short.peaks["student"]
    assert (
        planned("objective.name=sft", "rollout.completions_per_prompt=8", seen=SEEN).peaks
        == planned("objective.name=sft", "rollout.completions_per_prompt=1", seen=SEEN).peaks
    )


def test_dense_rewards_score_with_and_without_the_picture():
    assert "rewards" not in planned("objective.name=grpo").peaks
    white, plain = (planned("objective.name=grpo", f"grpo.reward={name}") for name in ("pdcr", "pacr"))
    assert "white's vision" in parts(white, "rewards") and "white's vision" not in parts(plain, "rewards")


ONE_ARRAY = 32 * 151_936 * 4  # chunk x vocabulary, float32


def uncomputed(given):
    raise AssertionError("a plan computes nothing")


def declared(monkeypatch, term: Term, **part):
    """Put an objective of one new term in the place of `standard`."""
    monkeypatch.setitem(TERMS, "new", term)
    monkeypatch.setitem(OBJECTIVES, "standard", Objective((Part("new", **part),)))


def test_a_new_term_is_planned_with_the_arrays_that_it_declares(monkeypatch):
    before = parts(planned("objective.name=standard"), "student")["chunk buffers"]
    declared(monkeypatch, Term(uncomputed, extra_arrays=7))
    assert parts(planned("objective.name=standard"), "student")["chunk buffers"] == before + 7 * ONE_ARRAY
    mixed = ("objective.name=grpo", "objective.mix=0.5", "objective.mix_with=standard")
    assert parts(planned(*mixed), "student")["chunk buffers"] == before + 7 * ONE_ARRAY


def test_a_new_score_is_planned_with_the_arrays_that_it_declares(monkeypatch):
    monkeypatch.setitem(WEIGHTINGS, "new", Weighting(uncomputed, score="new"))

    def scoring(arrays: int) -> int:
        monkeypatch.setitem(SCORES, "new", Score(("with_image", "text_only"), extra_arrays=arrays))
        declared(monkeypatch, Term(uncomputed), weighting="new")
        return parts(planned("objective.name=standard", "student.train=full"), "teacher")[
            "dependency buffers"
        ]

    assert scoring(5) == scoring(0) + 5 * ONE_ARRAY


def test_a_new_view_is_planned_with_its_picture_where_it_has_one(monkeypatch):
    def sees(change) -> list[int]:
        """Picture features of both models, and the passes in which gradients go to the new view."""
        monkeypatch.setitem(CHANGES, "masked", change)
        declared(monkeypatch, Term(uncomputed, "masked", ("with_image", "masked"), ("masked",)))
        made = planned("objective.name=standard")
        student, teacher = parts(made, "student"), parts(made, "teacher")
        features = teacher.get("teacher's picture features", 0)
        return [student["student's picture features"], features, student["backward"]]

    pictured, blind = sees(lambda picture: picture), sees(None)
    assert pictured[0] == 2 * blind[0] > 0
    assert pictured[1] > 0 == blind[1]
    assert pictured[2] > blind[2]


@pytest.mark.parametrize("train", ["lora", "full"])
def test_an_export_and_a_report_need_less_than_the_training_did(train):
    recipe = recipe_file.load_recipe(None, [f"student.train={train}"])
    whole = commands.training(recipe, size("2b"), size("8b"), SEEN, "metal")
    exported = commands.export(recipe, size("2b"), SEEN, "metal", prompts=16, number=4)
    reported = commands.report(recipe, size("2b"), size("8b"), SEEN, "metal", prompts=6)
    assert exported.peak < whole.peak and reported.peak < whole.peak
