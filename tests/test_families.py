"""What holds for every family: from a folder to an export that stock mlx-vlm runs, with the paper's gradients."""

import shutil
from pathlib import Path

import mlx.core as mx
import mlx_vlm
import numpy as np
import pytest
from mlx.utils import tree_flatten

import oracle
import toy_runs
from model_folders import load
from random_models import random_completion, random_model, random_prompt
from random_smolvlm import random_smolvlm, random_tiles
from smolvlm_folder import write_smolvlm
from toy_runs import QUIET, command
from vgs_mlx.data import shapes
from vgs_mlx.data.prompts import prompt_length, render
from vgs_mlx.models import adapters, families
from vgs_mlx.models.logprobs import completion_hidden
from vgs_mlx.models.rows import Continued, encode
from vgs_mlx.objective.objectives import resolve
from vgs_mlx.recipe.options import Data, Student
from vgs_mlx.runs import folder as run_folder
from vgs_mlx.train import setup
from vgs_mlx.train.gradients import Weighing, compute
from vgs_mlx.types import Rollout

GAMMA, LAMBDA = 2.0, 0.5
LENGTHS = (5, 3, 7, 4)
RANDOM = {
    "qwen3_vl": (random_model, lambda seed, words: random_prompt(seed, words=words)),
    "smolvlm": (random_smolvlm, lambda seed, words: random_tiles(seed, words=words)),
}
SETS = (
    "train.steps=2", "train.checkpoint_every=1", "train.evaluate_every=2", "student.train_vision=true",
    "student.rank=2", "data.max_pixels=4096",
)  # fmt: skip
FAMILY_SETS = {family: (*SETS, f"seed={number}") for number, family in enumerate(families.MODULES)}
"""Toy runs keep what they have loaded by its settings: another family has another seed."""
each_family = pytest.mark.parametrize("family", families.MODULES)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Student and teacher of each family."""
    folder = tmp_path_factory.mktemp("models")
    smol = (write_smolvlm(folder / "student", 0), write_smolvlm(folder / "teacher", 1, hub=True))
    return {"qwen3_vl": ("embedded:student", "embedded:teacher"), "smolvlm": tuple(map(str, smol))}


@pytest.fixture(scope="module")
def runs(folders, tmp_path_factory):
    """Makes a finished run of a family, once."""
    made = {}

    def run(family) -> Path:
        if family not in made:
            made[family] = tmp_path_factory.mktemp(family) / "run"
            with pytest.MonkeyPatch.context() as patch:
                models_of(patch, folders, family)
                toy_runs.train(made[family], *FAMILY_SETS[family])
        return made[family]

    return run


def models_of(patch, folders, family):
    """Toy runs are of this family."""
    for role, path in zip(("student", "teacher"), folders[family], strict=True):
        patch.setitem(toy_runs.MODELS, role, path)


def test_a_family_is_declared_twice_under_one_name():
    assert families.MODULES.keys() == families.FILES.keys() == RANDOM.keys()
    assert all(families.family(name).model_type == name for name in families.MODULES)


@each_family
def test_a_folder_s_model_has_its_parts(family, folders):
    model = load(folders[family][0])
    parts = model.family.media_modules(model.module)
    named = dict(tree_flatten(model.module.parameters()))
    seeing = {name for path in parts for name in named if name.startswith(f"{path}.")}
    names = families.declared(family).vision_names
    assert seeing == {name for name in named if any(each in name for each in names)}
    assert seeing and {name.split(".")[0] for name in named.keys() - seeing} == {"language_model"}
    size = model.module.config.text_config
    assert len(model.family.layers(model.module)) == size.num_hidden_layers
    head = dict(model.module.named_modules())[model.family.head_path(model.module)]
    assert head.weight.shape == (size.vocab_size, size.hidden_size)


@each_family
@pytest.mark.parametrize("system_prompt", ["", "Look closely."])
def test_prompts_are_as_long_as_said(family, folders, system_prompt):
    processor = load(folders[family][0]).processor
    for limit in (None, 4096, 1):
        settings = Data(system_prompt=system_prompt, max_pixels=limit)
        for row in shapes.examples("held_out", 2):
            prompt = render(processor, row, settings)
            assert len(prompt.student["with_image"].ids) == prompt_length(processor, row, settings)


@each_family
def test_every_probe_passes(family, folders, monkeypatch):
    models_of(monkeypatch, folders, family)
    setup.probe(toy_runs.ready(*FAMILY_SETS[family]), QUIET)


def rollouts(family):
    prompts = [RANDOM[family][1](seed, words) for seed, words in ((1, 3), (2, 6))]
    return [
        Rollout(
            prompts[row // 2], random_completion(row, length), np.zeros(length, np.float32), True, row // 2
        )
        for row, length in enumerate(LENGTHS)
    ]


def moved_student(family, scale=2.0, **settings):
    """Adapters that have moved."""
    model = RANDOM[family][0](0, scale=scale)
    adapters.prepare(model, Student(rank=4, **settings), seed=1)
    mx.random.seed(3)
    weights = adapters.trainable_weights(model.module)
    moved = {
        name: value + 0.2 * mx.random.normal(value.shape) for name, value in weights.items() if "lora" in name
    }
    adapters.set_weights(model.module, moved)
    return model


def weighing(name):
    return Weighing(resolve(name, GAMMA, LAMBDA), GAMMA, LAMBDA, "token", 64, 8, None, False, True)


def logits(model, batch, view):
    given = [Continued(each.prompt.student[view], each.completion) for each in batch]
    return model.logits(completion_hidden(model, given, encode(model, [view for view, _ in given])))


@each_family
def test_the_losses_are_the_oracle_s(family):
    student, teacher, batch = moved_student(family), RANDOM[family][0](5), rollouts(family)
    found = compute(student, teacher, batch, weighing("vgs"), None)
    arrays = [np.array(logits(model, batch, view)).astype(np.float64) for model in (student, teacher)
              for view in ("with_image", "text_only")]  # fmt: skip
    support = np.array(student.support())
    expected = oracle.vgs_losses(oracle.Logits(*arrays), list(LENGTHS), support, "token", GAMMA, LAMBDA)
    weights = found.batch.weights
    assert (weights * found.terms["standard"]).sum() == pytest.approx(expected.standard, rel=1e-5)
    assert (weights * found.terms["visual"]).sum() == pytest.approx(expected.visual, rel=1e-5)
    preserved = (weights * found.gate * found.terms["language"]).sum()
    assert preserved == pytest.approx(expected.preservation, rel=1e-5)


@each_family
def test_gradients_of_pictures_reach_all_of_the_tower_and_are_the_loss_s(family):
    """A small step along them changes the loss by their squares, for each part of what sees."""
    student = moved_student(family, scale=1.0, train_vision=True)
    teacher, batch = RANDOM[family][0](5), rollouts(family)

    def loss(weights):
        adapters.set_weights(student.module, weights)
        found = compute(student, teacher, batch, weighing("standard"), None)
        return float((found.batch.weights * found.terms["standard"]).sum())

    (tree,) = compute(student, teacher, batch, weighing("standard"), None).trees.values()
    for path in student.family.media_modules(student.module):
        part = {name: value for name, value in tree.items() if name.startswith(f"{path}.")}
        unmoved = [name for name, value in part.items() if not bool(mx.any(value != 0))]
        assert part and all(name.endswith("k_proj.bias") for name in unmoved), (
            unmoved
        )  # softmax takes no notice
        initial = {name: adapters.trainable_weights(student.module)[name] for name in part}
        squares = sum(float((value * value).sum()) for value in part.values())
        size = 0.003 / squares
        up, down = (
            loss({name: value + sign * size * part[name] for name, value in initial.items()})
            for sign in (1, -1)
        )
        adapters.set_weights(student.module, initial)
        assert (up - down) / (2 * size) == pytest.approx(squares, rel=0.03), path


@each_family
def test_a_run_learns_with_all_its_parts_and_a_resumed_one_is_the_same(
    family, folders, runs, tmp_path, monkeypatch
):
    run = runs(family)
    saved = mx.load(str(run / run_folder.FINAL / adapters.VISION_FILE))
    initial = dict(tree_flatten(load(folders[family][0]).module.parameters()))
    still = [name for name, value in saved.items() if bool(mx.array_equal(value, initial[name]))]
    assert all(name.endswith("k_proj.bias") for name in still), still
    paths = families.family(family).media_modules(load(folders[family][0]).module)
    assert all(any(name.startswith(path) for name in saved) for path in paths)
    cut = toy_runs.copied(run, tmp_path / "run")
    interrupt(cut)
    models_of(monkeypatch, folders, family)
    toy_runs.go_on(cut, *FAMILY_SETS[family])
    assert toy_runs.same_run(cut, run)


def interrupt(run: Path) -> None:
    """As if it had been stopped after its first step's checkpoint was written."""
    shutil.rmtree(run / run_folder.CHECKPOINTS / "step-000002")
    shutil.rmtree(run / run_folder.FINAL)
    (run / "result.json").unlink()


@each_family
def test_a_plan_is_made(family, folders):
    student, teacher = folders[family]
    planned = command(
        "plan", "--student", student, "--teacher", teacher, "--set", "student.train_vision=true"
    )
    assert planned.exit_code == 0 and "peak at most" in planned.stdout, planned.output


@each_family
def test_stock_mlx_vlm_runs_the_export_and_the_adapter(family, folders, runs, tmp_path):
    """The export has the trained tower. An adapter without one stands beside the untrained tower."""
    exported = command("export", runs(family), "--output", tmp_path / "model")
    assert exported.exit_code == 0 and "KL(trained ‖ fused)" in exported.stdout, exported.output
    picture = tmp_path / "picture.png"
    [row] = shapes.examples("held_out", 1)
    row.pictures[0].open().save(picture)
    student = Path(load(folders[family][0]).folder)
    for path, adapter in ((tmp_path / "model", None), (student, runs(family) / run_folder.FINAL)):
        module, processor = mlx_vlm.load(str(path), adapter_path=adapter and str(adapter))
        if adapter is None:
            trained = mx.load(str(runs(family) / run_folder.FINAL / adapters.VISION_FILE))
            held = dict(tree_flatten(module.parameters()))
            gaps = [mx.abs(held[name].astype(mx.float32) - value).max() for name, value in trained.items()]
            assert max(float(each) for each in gaps) < 0.02
        text = mlx_vlm.apply_chat_template(processor, module.config, "What is it?", num_images=1)
        answer = mlx_vlm.generate(module, processor, text, str(picture), max_tokens=4, verbose=False)
        assert 1 <= answer.generation_tokens <= 4
