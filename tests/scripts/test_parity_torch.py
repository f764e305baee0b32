"""transformers' Qwen3-VL on PyTorch, with autograd, gives the numbers that the package gives."""

from dataclasses import asdict, replace

import numpy as np
import pytest

from random_models import IMAGE, VIDEO, VOCABULARY, random_completion, random_model, random_prompt

pytest.importorskip("torch")

import torch
from mlx.utils import tree_flatten

from scripts import parity_torch as parity
from scripts.pytorch.model import build
from scripts.pytorch.step import Settings, step_gradients
from vgs_mlx.types import Rollout


@pytest.fixture(scope="module")
def case():
    return parity.prepare("embedded:student", "embedded:teacher")


@pytest.mark.parametrize("shared", [False, True], ids=["rows-apart", "continued"])
def test_every_number_is_pytorchs(case, shared):
    figures = parity.compare(case, shares_prefix=shared)
    kinds = {each.quantity.split(",")[0] for each in figures}
    assert kinds == {"logits", "term", "VDS", "gate", "loss", "η", "gradient"}
    assert [(each.quantity, each.value) for each in figures if not each.within] == []


def test_the_case_is_worth_comparing(case):
    lengths = [len(each.completion) for each in case.rollouts]
    pictures = [
        len(each.prompt.student["with_image"].media.get("image_grid_thw", ())) for each in case.rollouts
    ]
    step = case.torch_steps["token"]
    assert len(set(lengths)) > 3 and 1 in lengths
    assert set(pictures) == {0, 1, 2}
    assert 0 < int(step.gate.sum()) < len(step.gate)
    assert min(step.losses().values()) > 1e-4
    assert abs(step.norm_scale(parity.GAMMA) - case.torch_steps["sequence"].norm_scale(parity.GAMMA)) > 1e-4


def run(case, **settings):
    settings = Settings(parity.GAMMA, parity.LAMBDA, "token", **settings)
    return step_gradients(
        case.torch_student, case.torch_teacher, case.torch_adapters, case.rollouts, settings
    )


def assert_same(tree, expected):
    largest = max(float(value.abs().max()) for value in expected.values())
    for name, value in expected.items():
        torch.testing.assert_close(tree[name], value, atol=1e-5 * largest, rtol=0, msg=name)


def test_the_benchmarks_single_gradient_is_the_weighted_sum_of_the_parts(case):
    parts = case.torch_steps["token"].gradients
    summed = {
        name: value + parity.GAMMA * parts["steering"][name] + parity.LAMBDA * parts["preservation"][name]
        for name, value in parts["standard"].items()
    }
    assert_same(run(case, separate=False).gradients["total"], summed)


def test_how_pytorchs_batch_is_cut_changes_nothing(case):
    cut = run(case, chunk_size=7, microbatch_size=5)
    for part, tree in case.torch_steps["token"].gradients.items():
        assert_same(cut.gradients[part], tree)


def test_the_standard_objective_needs_no_text_view(case):
    settings = Settings(steering_coef=0.0, preservation_coef=0.0)
    blind = []
    for each in case.rollouts:
        seen = {"with_image": each.prompt.student["with_image"]}
        blind.append(replace(each, prompt=replace(each.prompt, student=seen, teacher=seen)))
    step = step_gradients(case.torch_student, case.torch_teacher, case.torch_adapters, blind, settings)
    assert step.gradients.keys() == {"standard"} == step.terms.keys()
    assert_same(step.gradients["standard"], case.torch_steps["token"].gradients["standard"])


@pytest.mark.parametrize("tied", [True, False])
def test_a_model_in_memory_is_carried_over_whole(tied):
    model = random_model(
        0, tied=tied, scale=2.0
    )  # grouped heads, and a head with more rows than the tokenizer
    weights = {name: np.array(value) for name, value in tree_flatten(model.module.parameters())}
    answerable = np.setdiff1d(np.arange(VOCABULARY), [IMAGE, VIDEO])
    side = build(asdict(model.module.config), weights, answerable)
    rollouts = [
        Rollout(
            random_prompt(seed, pictures=seed),
            ids := random_completion(seed, 3 + seed),
            np.zeros(len(ids)),
            True,
            seed,
        )
        for seed in range(3)
    ]
    for view in parity.VIEWS:
        theirs = parity.torch_logits(side, rollouts, view)[:, :VOCABULARY]
        assert parity.relative(view, parity.our_logits(model, rollouts, view), theirs).within
    logprobs = side.logprobs(torch.ones(1, 32))[0]
    assert (logprobs.exp() > 0).nonzero()[:, 0].tolist() == answerable.tolist()


def test_a_weight_too_few_is_an_error():
    model = random_model(0)
    weights = {name: np.array(value) for name, value in tree_flatten(model.module.parameters())}
    weights.pop("language_model.model.norm.weight")
    with pytest.raises(ValueError, match="norm"):
        build(asdict(model.module.config), weights, np.arange(VOCABULARY))
