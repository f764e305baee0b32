"""Benchmarks of two sides do the same work on both: rows, lengths, weights, gradients. Nothing is timed here."""

import math
import sys
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
from benchmarks import families, parts, peers, sampling
from vgs_mlx.data.prompts import render
from vgs_mlx.models import adapters
from vgs_mlx.models.logprobs import completion_hidden
from vgs_mlx.models.rows import Continued, encode
from vgs_mlx.rollout.collect import given_answers
from vgs_mlx.rollout.sample import Sampling, sample

PROMPTS, COMPLETIONS, LENGTH = 2, 2, 48  # longer than the student's answers would be


@pytest.fixture(scope="module")
def work():
    return peers.embedded(PROMPTS, COMPLETIONS, LENGTH)


@pytest.fixture(scope="module")
def prompts(work):
    return [render(work.student.processor, each, work.settings.data) for each in work.examples]


@pytest.fixture(scope="module")
def trainers(work, tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapters")
    return {"grpo": peers.grpo_trainer(work, folder), "sft": peers.sft_trainer(work, folder)}


@pytest.fixture(scope="module")
def steps(work, trainers):
    """What every step measured, and the weights that it had made when its clock stopped."""
    made, updated, set_weights = {}, {}, adapters.set_weights
    variants = {
        "grpo, ours": lambda: peers.ours(work, "grpo"),
        "grpo, theirs": lambda: peers.theirs(work, trainers["grpo"]),
        "sft, ours": lambda: peers.ours(work, "sft"),
        "sft, theirs": lambda: peers.theirs(work, trainers["sft"]),
        "vgs": lambda: peers.ours(work, "vgs"),
        "vgs, measured": lambda: peers.ours(work, "vgs", measured=True),
        "of parts": lambda: peers.of_parts(work),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, run in variants.items():

            def put_back(module, weights, name=name):
                updated[name] = adapters.trainable_weights(module)
                set_weights(module, weights)

            patch.setattr(peers, "adapters", Recorded(put_back))
            made[name] = run()
    return made, updated


class Recorded:
    """`adapters` as peers.py uses it, with another `set_weights`."""

    trainable_weights = staticmethod(adapters.trainable_weights)

    def __init__(self, set_weights):
        self.set_weights = set_weights


def batch_of(trainer):
    """What the trainer learns from in its next step."""
    return next(iter(trainer.task.batches(trainer.train_dataset, train=True, seed=0)))


def whole(ids) -> tuple[int, ...]:
    return tuple(np.array(ids).tolist())


def test_sft_learns_the_same_tokens_of_the_same_rows(work, prompts, trainers):
    batch = batch_of(trainers["sft"])
    rows = zip(batch["input_ids"], batch["attention_mask"], batch["completion_mask"], strict=True)
    theirs = {
        (whole(ids[: int(attention.sum())]), int(completion.sum())) for ids, attention, completion in rows
    }
    ours = {
        (
            whole(np.concatenate([each.prompt.student["with_image"].ids, each.completion])),
            len(each.completion),
        )
        for each in given_answers(work.student, prompts)
    }
    assert theirs == ours and len(ours) == PROMPTS


def test_grpo_answers_the_same_prompts_as_often_and_as_long_and_every_answer_counts(prompts, trainers):
    samples = batch_of(trainers["grpo"])["samples"]
    assert all(sample["batch"]["input_ids"].shape[1] == sample["start"] + 1 + LENGTH for sample in samples)
    asked = sorted(whole(each["batch"]["input_ids"][0, : each["start"] + 1]) for each in samples)
    assert asked == sorted(
        whole(each.student["with_image"].ids) for each in prompts for _ in range(COMPLETIONS)
    )
    assert all(abs(sample["advantage"].item()) > 0.1 for sample in samples)


def test_both_sides_count_the_same_sequences_and_tokens_and_no_loss_is_nan(steps):
    measured, _ = steps
    for name, each in measured.items():
        sampled = "sft" not in name
        assert each["sequences"] == (PROMPTS * COMPLETIONS if sampled else PROMPTS), name
        assert not sampled or each["tokens"] == PROMPTS * COMPLETIONS * LENGTH, name
        assert math.isfinite(each["loss"]) and each["seconds"] > 0, name
    assert measured["sft, ours"]["tokens"] == measured["sft, theirs"]["tokens"]
    assert measured["sft, ours"]["loss"] == pytest.approx(measured["sft, theirs"]["loss"], rel=1e-5)


def test_every_step_starts_from_the_same_float32_weights_and_updates_the_same_ones(work, steps, trainers):
    _, updated = steps
    start = adapters.trainable_weights(work.student.module)
    assert all(mx.all(each == 0).item() for name, each in start.items() if name.endswith("lora_b"))
    assert {each.dtype for _, each in tree_flatten(work.student.module.parameters())} == {mx.float32}
    assert all(trainer.model is work.student.module for trainer in trainers.values())
    for name, weights in updated.items():
        assert weights.keys() == start.keys(), name
        moved = [each for each in weights if each.endswith("lora_b") and mx.any(weights[each] != 0).item()]
        assert len(moved) == len(start) / 2, name


def test_sft_updates_both_sides_alike(work, steps):
    _, updated = steps
    ours, theirs = (
        mx.concatenate([weights[name].reshape(-1) for name in weights if name.endswith("lora_b")])
        for weights in (updated["sft, ours"], updated["sft, theirs"])
    )
    assert (ours @ theirs / (mx.linalg.norm(ours) * mx.linalg.norm(theirs))).item() > 0.999
    assert mx.linalg.norm(ours).item() == pytest.approx(mx.linalg.norm(theirs).item(), rel=1e-3)


def test_the_step_of_parts_predicts_what_our_forward_pass_does(work, prompts):
    views = [each.student["with_image"] for each in prompts]
    drawn = [[10, 11, 12], [13, 14]]
    sequences = [
        Continued(view, np.array(tokens, np.int32)) for view, tokens in zip(views, drawn, strict=True)
    ]
    for model in (work.student, work.teacher):
        ours = model.logits(completion_hidden(model, sequences, encode(model, views)))
        theirs = parts.whole_rows(views, drawn).logits(model)
        assert mx.allclose(ours, theirs, atol=1e-3).item()


def test_the_batch_generator_continues_each_view_as_our_sampler_does(work, prompts):
    """The likeliest tokens, the views in another order than by length, and one of them twice."""
    views = [prompts[number].student["with_image"] for number in (1, 0, 0)]
    theirs = sampling.stock(views, work.student, 12, lambda logprobs: mx.argmax(logprobs, axis=-1))
    ours = sample(work.student, views, [[(0,)]] * 3, encode(work.student, views), Sampling(12, temperature=0))
    assert theirs == [each.ids.tolist() for [each] in ours] and theirs[0] != theirs[1]


def test_ratios_are_of_the_right_pairs(capsys):
    seconds = {
        "GRPO, ours": 1, "GRPO, mlx-vlm": 5, "SFT, ours": 2, "SFT, mlx-vlm": 3,
        "VGS, η known": 1, "VGS, η measured": 2, "standard, of parts": 2,
    }  # fmt: skip
    peers.compare({name: {"seconds": each} for name, each in seconds.items()})
    said = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[2].split()[:2] for line in said] == [
        ["5.00", "met:"], ["1.50", "met:"], ["0.55", "met:"]
    ]  # fmt: skip


@pytest.mark.parametrize("family", families.MAKERS)
def test_completions_together_and_a_row_each_have_the_same_states_and_gradients(family):
    model = families.trained(families.MAKERS[family](128, 2))
    work = families.Workload(prompt=24, completions=3, length=5)
    (ours, gradients), (apart, expected) = (
        families.states_and_gradients(model, work, together) for together in (True, False)
    )
    assert ours.shape == (15, 128) and mx.allclose(ours, apart, atol=1e-4).item()
    for name, gradient in gradients.items():
        assert mx.allclose(gradient, expected[name], rtol=1e-3, atol=1e-3).item(), name
    assert any(mx.any(mx.abs(each) > 0.1).item() for each in gradients.values())


def test_families_are_compared_by_size(capsys, monkeypatch):
    monkeypatch.setattr(families, "MAKERS", {"one": families.MAKERS["qwen3_vl"]})
    found = families.run(1, families.Workload(8, 2, 2), sizes=[(128, 1)])
    assert list(found) == ["one, 128 x 1: continued", "one, 128 x 1: a row each"]
    families.compare({"m: continued": {"seconds": 1.0}, "m: a row each": {"seconds": 4.0}})
    assert capsys.readouterr().out.startswith("m: continued / a row each: 0.25   met")
