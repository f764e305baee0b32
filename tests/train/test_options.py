"""How a step is cut into pieces changes nothing; every other option of the recipe changes something."""

import mlx.core as mx
import numpy as np
import pytest

import toy_runs
from random_models import random_model, random_prompt
from toy_runs import train
from vgs_mlx.errors import Refusal
from vgs_mlx.models import adapters
from vgs_mlx.models.families.qwen3_vl import FAMILY as qwen3_vl
from vgs_mlx.models.loading import load_model, load_processor
from vgs_mlx.objective.steering import norm
from vgs_mlx.recipe import file as recipe_file
from vgs_mlx.resources import tiny_model
from vgs_mlx.train import loop, setup, step
from vgs_mlx.train import optimizer as adamw
from vgs_mlx.train.step import Progress

BASE = (
    "rollout.completions_per_prompt=3", "rollout.max_completion_length=12", "train.learning_rate=1e-3", "train.steps=3",
    "student.rank=4", "student.train=lora", "objective.preservation_coef=0.5", "objective.norm_scale_every=9",
    "train.clip_norm=null", "objective.chunk_size=16", "train.microbatch_size=6",
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
        measured.append(
            {
                **result.updates[0].measured,
                "lengths": [len(rollout.completion) for rollout in result.rollouts],
            }
        )
    weights = adapters.trainable_weights(student.module)
    return {name: np.array(value) for name, value in weights.items()}, measured


@pytest.fixture(scope="module")
def base():
    found = outcome()
    assert any(len(set(each["lengths"])) > 1 for each in found[1]), "completions of different lengths"
    return found


@pytest.mark.parametrize("change", [
    ("train.microbatch_size=1",), ("train.microbatch_size=4",), ("objective.chunk_size=5",), ("rollout.batch_size=3",),
    ("train.max_tokens_per_microbatch=25",), ("train.grad_checkpoint=true",),
    ("objective.chunk_size=3", "train.microbatch_size=2", "rollout.batch_size=1"),
], ids=" ".join)  # fmt: skip
def test_how_a_step_is_cut_into_pieces_changes_nothing(change, base):
    weights, measured = outcome(*change)
    for ours, theirs in zip(measured, base[1], strict=True):
        assert ours.pop("lengths") == theirs["lengths"]
        assert ours == pytest.approx({name: theirs[name] for name in ours}, rel=1e-3)
    moved = np.concatenate([(weights[name] - value).ravel() for name, value in base[0].items()])
    # two Adam steps at 1e-3: each weight moves by about 2e-3
    assert np.sqrt(np.mean(moved**2)) < 3e-5


@pytest.mark.parametrize("trains", [False, True], ids=["frozen", "trains"])
def test_a_picture_cache_changes_nothing_and_saves_passes_of_frozen_towers(trains, monkeypatch, tmp_path):
    """Two epochs of four pictures."""
    sets = ("data.source=shapes:4", "train.steps=4", "train.evaluate_every=4")
    sets += ("student.train=full", "student.train_vision=true") if trains else ()
    runs, passes = [], []
    plain = qwen3_vl.encode

    def counted(module, view):
        if bool(view.media):
            passes[-1].append(module)
        return plain(module, view)

    monkeypatch.setattr(type(qwen3_vl), "encode", lambda _, *given: counted(*given))
    for size in (0, 1):
        passes.append([])  # of loading
        ready = toy_runs.ready(f"train.picture_cache_gb={size}", *sets)
        towers = ready.student.module, ready.teacher.module
        passes[-1] = []
        runs.append(train(tmp_path / str(size), f"train.picture_cache_gb={size}", *sets))
    assert toy_runs.same_run(*runs)
    (student, teacher), (kept_student, kept_teacher) = (
        [sum(module is tower for module in each) for tower in towers] for each in passes
    )
    assert kept_teacher < teacher
    assert kept_student == student if trains else kept_student < student


CHANGES = (
    "seed=1", "student.train=dora", "student.train=full", "student.rank=2", "student.alpha=8",
    "student.targets=[q_proj]", "student.train_vision=true", "rollout.completions_per_prompt=2",
    "rollout.max_completion_length=5", "objective.name=standard", "objective.steering_coef=1",
    "objective.preservation_coef=0", "objective.norm_scale=exact", "objective.norm_scale=0.4",
    "objective.norm_scale_every=1", "objective.reduction=sequence", "train.learning_rate=2e-3", "train.schedule=cosine",
    "train.warmup_steps=2", "train.weight_decay=0.5", "objective.name=adaptive", "objective.name=language",
    "objective.name=vds-weighted", "objective.name=forward-kl", "objective.name=jsd",
)  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_every_option_of_a_step_changes_the_update(change, base):
    """The weights, or the gradient alone: a constant norm scale is next to nothing under Adam."""
    weights, measured = outcome(change)
    same_shapes = {n: v.shape for n, v in weights.items()} == {n: v.shape for n, v in base[0].items()}
    moved = (
        not same_shapes or max(np.abs(weights[name] - value).max() for name, value in base[0].items()) > 1e-5
    )
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
        return [
            np.ravel(part)
            for view in (prompt.student["with_image"], prompt.student["text_only"])
            for part in (view.ids, *view.media.values())
        ]

    before, after = parts(), parts(change)
    assert any(
        left.shape != right.shape or not np.array_equal(left, right)
        for left, right in zip(before, after, strict=True)
    )


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


@pytest.mark.parametrize("limit", [None, 1.0, 1000.0])
def test_the_update_s_gradient_is_no_longer_than_the_recipe_allows(limit, monkeypatch):
    """Under Adam a gradient's length alone changes next to nothing, so it is looked at itself."""
    seen = []
    monkeypatch.setattr(step.adamw, "update", lambda optimizer, student, tree: seen.append(float(norm(tree))))
    _, measured = outcome("train.clip_norm=null" if limit is None else f"train.clip_norm={limit}")
    before = measured[0]["gradient_norm"]
    assert 1.0 < before < 1000.0
    assert seen[0] == pytest.approx(before if limit is None else min(before, limit), rel=1e-5)


def test_teacher_bits_change_the_teacher():
    plain, packed = (
        load_model(str(tiny_model("student")), "--teacher", bits=bits, say=lambda _: None).module
        for bits in (None, 4)
    )
    left, right = (each.language_model.model.layers[0].mlp.down_proj.weight for each in (plain, packed))
    assert left.shape == right.shape and not mx.allclose(left, right)
