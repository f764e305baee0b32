"""The loop writes down what happens, skips what is not finite, and every option of the recipe moves something."""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest
import toy_runs
from random_models import random_model, random_prompt
from rich.console import Console
from toy_runs import command, finished, metrics, options, train

from vgs_mlx import distillation, recipe_file
from vgs_mlx.data.order import rows_for_step
from vgs_mlx.errors import Refusal
from vgs_mlx.models import adapters
from vgs_mlx.models.loading import load_model, load_processor
from vgs_mlx.resources import tiny_model
from vgs_mlx.train import loop, run_folder, setup, step
from vgs_mlx.train import optimizer as adamw
from vgs_mlx.train.metrics import METRICS
from vgs_mlx.train.screen import HEADINGS, Screen, cells
from vgs_mlx.train.step import Progress

# --- what a run writes down


def test_every_step_has_a_row_with_every_metric():
    rows = run_folder.rows(finished() / run_folder.METRICS)
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    for row in rows:
        assert set(METRICS) < set(row)
        assert {"tokens", "tokens_per_second", "peak_memory_gb", "active_memory_gb", "learning_rate", "finite"} < set(row)
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


def test_a_standard_run_has_no_steering_figures(tmp_path):
    run = train(tmp_path / "run", "objective.name=standard", "train.steps=1", "rollout.max_completion_length=3")
    (row,) = metrics(run)
    absent = ("loss_visual", "loss_language", "loss_preservation", "gate_rate", "norm_scale_exact", "cosine_standard_steering")
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
    kept = {file.name: file.read_bytes() for file in (run / "checkpoints" / "step-000001").glob("*.safetensors")}
    skipped = {file.name: file.read_bytes() for file in (run / "checkpoints" / "step-000002").glob("*.safetensors")}
    after = (run / "checkpoints" / "step-000003" / "adapters.safetensors").read_bytes()
    assert kept == skipped, "neither weights nor moments have moved"
    assert after != kept["adapters.safetensors"]
    ids = [toy_runs.ready().data.train[row].id for row in rows_for_step(1, 2, 24, 0)]
    assert run_folder.rows(run / run_folder.BAD_BATCHES) == [{"step": 2, "rows": ids}]
    for line in (run / run_folder.METRICS).read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)  # no NaN, no Infinity: not every reader of JSON knows them
    assert cells(run_folder.rows(run / run_folder.METRICS)[1])[0] == "2 skipped"


@pytest.mark.xfail(strict=True, reason="steering._ratio says 1 for a norm that is nan, and step._steer keeps it")
def test_a_measurement_that_is_not_finite_is_not_averaged(tmp_path, monkeypatch):
    spoil(monkeypatch, {0}, nan_gradient)
    run = train(tmp_path / "run", "train.steps=3", "train.checkpoint_every=3")
    state = toy_runs.read_json(run / "checkpoints" / "step-000003" / "state.json")
    rows = metrics(run)
    assert rows[0]["norm_scale_exact"] is None
    assert state["progress"]["norm_scales"] == [row["norm_scale_exact"] for row in rows if row["norm_scale_exact"]]


def test_three_in_a_row_stop_the_run_and_leave_what_is_needed_to_look_at_them(tmp_path, monkeypatch):
    spoil(monkeypatch, {0, 1, 3, 4, 5}, nan_gradient)
    monkeypatch.setattr(distillation.setup, "load", lambda recipe, _: replace(toy_runs.ready(), recipe=recipe))
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


# --- how a step is cut into pieces changes nothing; every other option changes something

BASE = (
    "rollout.completions_per_prompt=3", "rollout.max_completion_length=12", "train.learning_rate=1e-3", "train.steps=3",
    "student.rank=4", "student.train=lora", "objective.preservation_coef=0.5", "objective.norm_scale_every=9",
    "train.clip_norm=8", "objective.chunk_size=16", "train.microbatch_size=6",
)  # fmt: skip


def outcome(*sets: str) -> tuple[dict[str, np.ndarray], list[dict[str, float]]]:
    """The trained weights, and each step's measurements, of two steps on two random models."""
    recipe = recipe_file.load_recipe(None, [*BASE, *sets])
    student, teacher = random_model(0, scale=2.0), random_model(5, scale=2.0)
    adapters.prepare(student, recipe.student, recipe.seed)
    optimizer, progress = adamw.make(recipe.train, student), Progress()
    prompts = [random_prompt(1), random_prompt(2, words=7)]
    measured = []
    for _ in range(2):
        result = step.run_step(student, teacher, prompts, recipe, optimizer, progress)
        measured.append({**result.measured, "lengths": [len(rollout.completion) for rollout in result.rollouts]})
    weights = adapters.trainable_weights(student.module)
    return {name: np.array(value) for name, value in weights.items()}, measured


@pytest.fixture(scope="module")
def base():
    found = outcome()
    assert any(len(set(each["lengths"])) > 1 for each in found[1]), "completions of different lengths"
    return found


@pytest.mark.parametrize("change", [
    ("train.microbatch_size=1",), ("train.microbatch_size=4",), ("objective.chunk_size=5",), ("rollout.batch_size=3",),
    ("train.grad_checkpoint=true",), ("objective.chunk_size=3", "train.microbatch_size=2", "rollout.batch_size=1"),
], ids=" ".join)  # fmt: skip
def test_how_a_step_is_cut_into_pieces_changes_nothing(change, base):
    weights, measured = outcome(*change)
    for ours, theirs in zip(measured, base[1], strict=True):
        assert ours.pop("lengths") == theirs["lengths"]
        assert ours == pytest.approx({name: theirs[name] for name in ours}, rel=1e-3)
    moved = np.concatenate([(weights[name] - value).ravel() for name, value in base[0].items()])
    # two Adam steps at 1e-3: each weight moves by about 2e-3
    assert np.sqrt(np.mean(moved**2)) < 3e-5


@pytest.mark.parametrize("change", [
    "seed=1", "student.train=dora", "student.train=full", "student.rank=2", "student.alpha=8", "student.targets=[q_proj]",
    "student.train_vision=true", "rollout.completions_per_prompt=2", "rollout.max_completion_length=5",
    "objective.name=standard", "objective.steering_coef=1", "objective.preservation_coef=0", "objective.norm_scale=exact",
    "objective.norm_scale=0.4", "objective.norm_scale_every=1", "objective.reduction=sequence", "train.learning_rate=2e-3",
    "train.schedule=cosine", "train.warmup_steps=2", "train.weight_decay=0.5", "train.clip_norm=null",
])  # fmt: skip
def test_every_option_of_a_step_changes_the_update(change, base):
    """The weights, or the gradient alone: a constant norm scale is next to nothing under Adam."""
    weights, measured = outcome(change)
    same_shapes = {n: v.shape for n, v in weights.items()} == {n: v.shape for n, v in base[0].items()}
    moved = not same_shapes or max(np.abs(weights[name] - value).max() for name, value in base[0].items()) > 1e-5
    gradients = [[each["gradient_norm"] for each in steps] for steps in (measured, base[1])]
    assert moved or gradients[0] != pytest.approx(gradients[1], rel=1e-2)


@pytest.mark.parametrize("change", [
    "data.system_prompt=Look!", "data.max_pixels=2304", "objective.text_view=blank", "objective.text_view=degraded",
])  # fmt: skip
def test_every_option_of_a_prompt_changes_the_prompt(change):
    processor = load_processor(tiny_model("student"), "--student")
    example = toy_runs.ready().data.train[0]

    def parts(*sets):
        prompt = setup.render_prompt(processor, example, toy_runs.recipe(*sets))
        return [np.ravel(part) for view in (prompt.with_image, prompt.text_only) for part in vars(view).values()]

    before, after = parts(), parts(change)
    assert any(left.shape != right.shape or not np.array_equal(left, right) for left, right in zip(before, after, strict=True))


@pytest.mark.parametrize("change", ["rollout.prompts_per_step=3", "seed=1"])
def test_every_option_of_the_order_changes_the_rows(change, monkeypatch, tmp_path):
    seen = []

    def look(student, teacher, prompts, *_):
        seen.append([prompt.example.id for prompt in prompts])
        raise Refusal("seen")

    monkeypatch.setattr(loop, "run_step", look)
    for sets in ((), (change,)):
        with pytest.raises(Refusal, match="seen"):
            train(tmp_path / str(len(sets)), *sets)
    assert seen[0] != seen[1]


def test_teacher_bits_change_the_teacher():
    plain, packed = (
        load_model(str(tiny_model("student")), "--teacher", bits=bits, say=lambda _: None).module for bits in (None, 4)
    )
    left, right = (each.language_model.model.layers[0].mlp.down_proj.weight for each in (plain, packed))
    assert left.shape == right.shape and not mx.allclose(left, right)


def test_keep_checkpoints_and_their_distance_are_the_recipe_s(tmp_path):
    run = train(tmp_path / "run", "train.steps=5", "train.checkpoint_every=2", "train.keep_checkpoints=3",
                "train.evaluate_every=9", "rollout.max_completion_length=2")  # fmt: skip
    assert toy_runs.checkpoints(run) == ["step-000002", "step-000004", "step-000005"]


# --- the screen


@contextmanager
def terminal() -> Iterator[tuple[Screen, io.StringIO]]:
    shown = io.StringIO()
    yield Screen(Console(file=shown, force_terminal=True, width=120, highlight=False)), shown


def test_without_a_terminal_there_are_plain_lines(tmp_path):
    shown = io.StringIO()
    made_ready = toy_runs.ready("train.steps=1", "rollout.max_completion_length=2")
    run_folder.create(tmp_path / "run", made_ready.recipe)
    loop.run(made_ready, tmp_path / "run", Screen(Console(file=shown)))
    lines = shown.getvalue().splitlines()
    assert "\x1b" not in shown.getvalue()
    heading = next(number for number, line in enumerate(lines) if line.split()[:2] == ["step", "loss"])
    assert lines[heading + 1].split()[0] == "1"
    assert sum(line.startswith("step    ") for line in lines) == 2, "an evaluation before, one after"


def test_in_a_terminal_the_table_lives_and_evaluations_count_beside_it():
    row = run_folder.rows(finished() / run_folder.METRICS)[0]
    with terminal() as (screen, shown):
        with screen.training(4, 0) as show:
            show(row)
            with screen.counting("evaluating") as count:
                count(1, 2)
            screen.say("a line [not markup]")
            show({**row, "step": 2, "loss_visual": None})
    assert all(heading in shown.getvalue() for heading in HEADINGS)
    assert "a line [not markup]" in shown.getvalue()
