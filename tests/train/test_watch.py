"""The terms on fixed held-out rollouts: the same rollouts at every look, before and after a resume."""

import json

import pytest

import toy_runs
from vgs_mlx.errors import Refusal
from vgs_mlx.objective.objectives import OBJECTIVES
from vgs_mlx.rollout.collect import collect
from vgs_mlx.runs import folder as run_folder
from vgs_mlx.train import watch
from vgs_mlx.train.step import encode_views

WATCHED = ("train.watch_every=2", "data.held_out=8")


def rows(folder):
    return run_folder.rows(folder / run_folder.TERMS)


def test_there_is_a_look_before_the_first_step_and_every_so_many(tmp_path):
    toy_runs.train(tmp_path / "run", *WATCHED)
    found = rows(tmp_path / "run")
    assert [row["step"] for row in found] == [0, 2, 4]
    assert set(found[0]["high"]) == {"standard", "visual", "language", "entropy"}
    assert found[0]["high"] != found[2]["high"], "the student has moved"


def test_under_the_standard_loss_all_terms_are_watched_too(tmp_path):
    toy_runs.train(tmp_path / "run", *WATCHED, "objective.name=standard", "train.steps=2")
    assert rows(tmp_path / "run")[-1]["high"]["visual"] > 0


def test_watching_changes_no_weight(tmp_path):
    toy_runs.train(tmp_path / "watched", *WATCHED, "train.steps=2")
    toy_runs.train(tmp_path / "plain", "data.held_out=8", "train.steps=2")
    weights = [
        (tmp_path / name / "final" / "adapters.safetensors").read_bytes() for name in ("watched", "plain")
    ]
    assert weights[0] == weights[1]


def test_rollouts_that_are_lost_are_refused(tmp_path):
    made_ready = toy_runs.ready(*WATCHED)
    with pytest.raises(Refusal, match="put it back"):
        watch.look(made_ready, tmp_path, 2)


def test_one_completion_is_drawn_for_each_prompt_the_first_that_training_would_draw(tmp_path, monkeypatch):
    made_ready = toy_runs.ready(*WATCHED, "rollout.completions_per_prompt=4", "rollout.batch_size=16")
    drawn = []
    monkeypatch.setattr(watch, "collect", lambda *given: drawn.append(collect(*given)) or drawn[-1])
    watch.look(made_ready, tmp_path, 0)
    prompts = [made_ready.render(example) for example in made_ready.data.held_out]
    encodings = encode_views(made_ready.student, prompts, OBJECTIVES["standard"])
    recipe = made_ready.recipe
    every = collect(made_ready.student, prompts, recipe.rollout, encodings, recipe.seed, watch.SEED_STREAM)
    kept = json.loads((tmp_path / watch.FILE).read_text())
    assert kept == [each.completion.tolist() for each in every[::4]]
    assert [len(each) for each in drawn] == [len(prompts)]


def test_a_later_look_takes_the_kept_rollouts(tmp_path):
    made_ready = toy_runs.ready(*WATCHED)
    watch.look(made_ready, tmp_path, 0)
    kept = json.loads((tmp_path / watch.FILE).read_text())
    watch.look(made_ready, tmp_path, 2)
    first, second = rows(tmp_path)
    assert len(kept) == 8
    for group in ("low", "middle", "high"):
        assert second[group] == pytest.approx(first[group], rel=1e-4), (
            "an unchanged student, the same rollouts"
        )
