"""The loop writes down what happens, and skips what is not finite."""

import json
import warnings
from dataclasses import replace
from types import SimpleNamespace

import mlx.core as mx
import numpy as np
import pytest

import toy_runs
from toy_runs import command, finished, metrics, options, train
from vgs_mlx.commands import distill as distillation
from vgs_mlx.data.order import rows_for_step
from vgs_mlx.errors import Refusal
from vgs_mlx.grading import Verdict
from vgs_mlx.runs import folder as run_folder
from vgs_mlx.runs.screen import cells
from vgs_mlx.train import gradients, loop, step
from vgs_mlx.train import metrics as metrics_of_steps
from vgs_mlx.train.metrics import METRICS
from vgs_mlx.train.rewards import advantages as rewards

# --- what a run writes down


def test_every_step_has_a_row_with_every_metric():
    rows = run_folder.rows(finished() / run_folder.METRICS)
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    for row in rows:
        assert set(METRICS) < set(row)
        assert {
            "tokens",
            "tokens_per_second",
            "peak_memory_gb",
            "active_memory_gb",
            "learning_rate",
            "finite",
        } < set(row)
        assert set(row["seconds"]) == {"rollouts", "teacher", "student", "rest", "step"}
        parts = [value for name, value in row["seconds"].items() if name != "step"]
        assert min(parts) >= 0 and sum(parts) == pytest.approx(row["seconds"]["step"], abs=1e-3)
        assert row["tokens"] == row["completion_length"] * 4
        assert 0 <= row["loss_preservation"] <= row["loss_language"]
        assert 0 <= row["cut_off_share"] <= 1 and 0 <= row["right_share"] <= 1 and 0 < row["gate_rate"] < 1
        assert 0 < row["active_memory_gb"] <= row["peak_memory_gb"]


def test_angles_are_measured_on_the_steps_that_the_recipe_says():
    """norm_scale_every=2: steps 1 and 3."""
    measured = [name for name in METRICS if name.startswith(("gradient_norm_", "cosine_", "norm_scale_"))]
    for row in metrics(finished()):
        assert all((row[name] is not None) == (row["step"] % 2 == 1) for name in measured)
        assert row["norm_scale"] > 0 and row["gradient_norm"] > 0
        if row["step"] == 1:
            assert row["norm_scale"] == row["norm_scale_exact"]
            assert -1 <= row["cosine_standard_steering"] <= 1


@pytest.mark.parametrize("reward", ["answer", "own"])
def test_a_sampled_completion_is_decoded_and_graded_once(reward, tmp_path, monkeypatch):
    """GRPO's reward and the share of right ones are of the same completions; one's own reward grades them otherwise."""
    graded, decoded, file = [], [], tmp_path / "mine.py"
    file.write_text("def reward(example, text):\n    return 0.5\n")
    for module in (rewards, metrics_of_steps):
        monkeypatch.setattr(
            module,
            "grade_example",
            lambda *given: Verdict(bool(graded.append(given)) or len(graded) == 1, "text"),
        )
    real = rewards._text
    monkeypatch.setattr(rewards, "_text", lambda *given: decoded.append(given) or real(*given))
    sets = (
        "objective.name=grpo",
        "grpo.updates_per_rollout=1",
        "train.steps=1",
        "rollout.max_completion_length=3",
    )
    own = () if reward == "answer" else (f"grpo.reward={file}:reward",)
    run = train(tmp_path / "run", *sets, *own)
    (row,) = metrics(run)
    assert len(graded) == len(decoded) == 4
    assert row["right_share"] == 1 / 4
    assert row["reward"] == (0.5 if own else 1 / 4)


def test_a_standard_run_has_no_steering_figures(tmp_path):
    run = train(
        tmp_path / "run", "objective.name=standard", "train.steps=1", "rollout.max_completion_length=3"
    )
    (row,) = metrics(run)
    absent = (
        "loss_visual",
        "loss_language",
        "loss_preservation",
        "gate_rate",
        "norm_scale_exact",
        "cosine_standard_steering",
    )
    assert {name: row[name] for name in absent} == dict.fromkeys(absent)
    assert row["norm_scale"] == 1.0


def test_it_is_evaluated_before_every_n_steps_and_at_the_end_with_three_answers_each(tmp_path):
    run = train(tmp_path / "run", "train.steps=3", "train.evaluate_every=2", "train.evaluate_rows=5")
    evaluations = run_folder.rows(run / run_folder.EVALUATIONS)
    assert [(row["step"], row["prompts"]) for row in evaluations] == [(0, 5), (2, 5), (3, 5)]
    answers = run_folder.rows(run / run_folder.COMPLETIONS)
    assert [row["step"] for row in answers] == [0, 0, 0, 2, 2, 2, 3, 3, 3]
    for row in answers:
        assert set(row) == {"step", "id", "pictures", "question", "completion", "expected", "right"}
        assert row["pictures"] and row["question"] and row["right"] in (True, False)
    held_out = [example.id for example in toy_runs.ready().data.held_out[:3]]
    assert [row["id"] for row in answers] == held_out * 3


def test_every_evaluation_says_of_every_row_whether_it_was_right():
    evaluations = run_folder.rows(finished() / run_folder.EVALUATIONS)
    answers = run_folder.rows(finished() / run_folder.ANSWERS)
    asked = [example.id for example in toy_runs.ready().data.held_out[:4]]
    for graded, evaluation in zip(answers, evaluations, strict=True):
        assert (graded["step"], graded["ids"]) == (evaluation["step"], asked)
        assert sum(graded["right"]) / 4 == evaluation["accuracy"] and set(graded["right"]) <= {0, 1}


def test_the_last_evaluation_asks_without_the_picture_too_where_the_recipe_says_so(tmp_path, monkeypatch):
    views = []
    answer = loop.evaluation.answer

    def asked(model, rows, how, **options):
        views.append(how.with_image)
        return answer(model, rows, how, **options)

    monkeypatch.setattr(loop.evaluation, "answer", asked)
    run = train(tmp_path / "run", "train.evaluate_blind=true", "train.evaluate_every=2")
    *earlier, last = run_folder.rows(run / run_folder.EVALUATIONS)
    assert views == [True, True, True, False]
    assert 0 <= last["blind"]["low"] <= last["blind"]["accuracy"] <= last["blind"]["high"] <= 1
    assert not any("blind" in row for row in earlier)
    assert toy_runs.final_weights(run) == toy_runs.final_weights(finished())  # asking trains nothing


def test_keep_checkpoints_and_their_distance_are_the_recipe_s(tmp_path):
    run = train(tmp_path / "run", "train.steps=5", "train.checkpoint_every=2", "train.keep_checkpoints=3",
                "train.evaluate_every=9", "rollout.max_completion_length=2")  # fmt: skip
    assert toy_runs.checkpoints(run) == ["step-000002", "step-000004", "step-000005"]


# --- what is not finite


def spoil(monkeypatch, steps, what) -> None:
    """Make the gradients of these steps (counted from 0) not finite."""
    compute, seen = step.compute_gradients, iter(range(100))

    def spoilt(*arguments, **options):
        found = compute(*arguments, **options)
        if next(seen) in steps:
            what(found)
        return found

    monkeypatch.setattr(step, "compute_gradients", spoilt)


def nan_gradient(found) -> None:
    for tree in found.trees.values():
        name = sorted(tree)[0]
        tree[name] = tree[name] * mx.array(float("nan"))


def infinite_loss(found) -> None:
    found.terms["standard"] = found.terms["standard"] + np.inf


@pytest.mark.parametrize("what", [nan_gradient, infinite_loss])
def test_a_step_that_is_not_finite_is_skipped_and_its_rows_are_named(what, tmp_path, monkeypatch):
    spoil(monkeypatch, {1}, what)
    sets = ("train.steps=3", "train.checkpoint_every=1", "train.keep_checkpoints=9")
    run = train(tmp_path / "run", *sets)
    rows = metrics(run)
    assert [row["finite"] for row in rows] == [True, False, True]
    kept = {
        file.name: file.read_bytes() for file in (run / "checkpoints" / "step-000001").glob("*.safetensors")
    }
    skipped = {
        file.name: file.read_bytes() for file in (run / "checkpoints" / "step-000002").glob("*.safetensors")
    }
    after = (run / "checkpoints" / "step-000003" / "adapters.safetensors").read_bytes()
    assert kept == skipped, "neither weights nor moments have moved"
    assert after != kept["adapters.safetensors"]
    ids = [toy_runs.ready().data.train[row].id for row in rows_for_step(1, 2, 24, 0)]
    assert run_folder.rows(run / run_folder.BAD_BATCHES) == [{"step": 2, "rows": ids}]
    for line in (run / run_folder.METRICS).read_text().splitlines():
        json.loads(
            line, parse_constant=pytest.fail
        )  # no NaN, no Infinity: not every reader of JSON knows them
    assert cells(run_folder.rows(run / run_folder.METRICS)[1])[0] == "2 skipped"


def test_numpy_does_not_warn_of_what_the_run_says_itself(tmp_path, monkeypatch):
    """An infinite term times the weight 0 of a token that the gate leaves out."""
    score = gradients.score

    def infinite(*given):
        found = score(*given)
        return replace(found, terms={name: each + mx.inf for name, each in found.terms.items()})

    monkeypatch.setattr(gradients, "score", infinite)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        run = train(tmp_path / "run", "train.steps=1")
    assert not metrics(run)[0]["finite"]


def test_a_measurement_that_is_not_finite_is_not_averaged(tmp_path, monkeypatch):
    spoil(monkeypatch, {0}, nan_gradient)
    run = train(tmp_path / "run", "train.steps=3", "train.checkpoint_every=3")
    state = toy_runs.read_json(run / "checkpoints" / "step-000003" / "state.json")
    rows = metrics(run)
    assert rows[0]["norm_scale_exact"] is None and rows[1]["norm_scale_exact"], (
        "measured as soon as it can be"
    )
    assert state["progress"]["norm_scales"] == [
        row["norm_scale_exact"] for row in rows if row["norm_scale_exact"]
    ]


def test_nothing_that_is_not_finite_gets_into_a_checkpoint_where_only_watching_met_it(tmp_path, monkeypatch):
    """The steering gradient changes nothing under `standard`, but the η that it gives is kept."""
    spoil(monkeypatch, {1}, lambda found: nan_gradient(SimpleNamespace(trees={"": found.trees["steering"]})))
    sets = ("objective.name=standard", "objective.watch_norm_scale=true", "objective.norm_scale_every=1")
    run = train(tmp_path / "run", *sets, "train.steps=2", "train.checkpoint_every=2")
    assert [row["finite"] for row in metrics(run)] == [True, False]
    state = (run / "checkpoints" / "step-000002" / "state.json").read_text()
    assert len(json.loads(state, parse_constant=pytest.fail)["progress"]["norm_scales"]) == 1


def test_three_in_a_row_stop_the_run_and_leave_what_is_needed_to_look_at_them(tmp_path, monkeypatch):
    spoil(monkeypatch, {0, 1, 3, 4, 5}, nan_gradient)
    monkeypatch.setattr(
        distillation.setup, "load", lambda recipe, *_: replace(toy_runs.ready(), recipe=recipe)
    )
    run = tmp_path / "run"
    stopped = command("distill", "--output", run, *options("train.steps=8", "train.checkpoint_every=100"))
    assert stopped.exit_code == 2, stopped.output
    assert "stopped at step 6" in stopped.stderr and "not finite 3 times in a row" in stopped.stderr
    assert str(run / run_folder.BAD_BATCHES) in stopped.stderr
    assert len(stopped.stderr.splitlines()) == 1
    rows = run_folder.rows(run / run_folder.BAD_BATCHES)
    assert [row["step"] for row in rows] == [1, 2, 4, 5, 6], "two, then a good one, then three"
    assert not (run / run_folder.FINAL).exists()


def test_how_many_were_skipped_in_a_row_survives_a_resume(tmp_path, monkeypatch):
    sets = ("train.steps=6", "train.checkpoint_every=2")
    made_ready = toy_runs.ready(*sets)
    run_folder.create(tmp_path / "run", made_ready.recipe)
    spoil(monkeypatch, {0, 1, 2}, nan_gradient)
    with pytest.raises(Refusal, match="stopped at step 3"):
        loop.run(made_ready, tmp_path / "run", toy_runs.QUIET)
    spoil(monkeypatch, {0}, nan_gradient)
    with pytest.raises(Refusal, match="stopped at step 3"):
        toy_runs.go_on(tmp_path / "run", *sets)
