"""Sampling is on-policy: what is sampled from is what is scored."""

import math
from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest

from random_models import END, IMAGE, VIDEO, VOCABULARY, random_model, random_prompt
from vgs_mlx.models import adapters
from vgs_mlx.models.logprobs import compute_logprobs
from vgs_mlx.models.rows import Continued, encode, evaluate
from vgs_mlx.recipe.options import Student
from vgs_mlx.rollout.sample import Sampling, choose, sample

SAMPLING = Sampling(max_completion_length=20)


def views():
    """Ragged: two pictures, one, and none."""
    prompts = [
        random_prompt(1, words=3),
        random_prompt(2, pictures=2, words=9),
        random_prompt(3, pictures=0, words=5),
    ]
    return [prompt.student["with_image"] for prompt in prompts]


def draw(model, chosen, seeds, sampling=SAMPLING):
    return sample(model, chosen, seeds, evaluate(encode(model, chosen)), sampling)


def seeds_for(chosen, count=3):
    return [[(0, 5, row, completion) for completion in range(count)] for row in range(len(chosen))]


def adapted(kind):
    model = random_model(0)
    adapters.prepare(model, Student(train=kind, rank=4), seed=1)
    changed = {name: value + 0.3 * mx.random.normal(value.shape) for name, value in
               adapters.trainable_weights(model.module).items() if name.endswith("lora_b")}  # fmt: skip
    adapters.set_weights(model.module, changed)
    return model


@pytest.mark.parametrize("make", [lambda: random_model(0), lambda: random_model(1, tied=False), lambda: adapted("lora"),
                                  lambda: adapted("dora")])  # fmt: skip
def test_teacher_forced_logprobs_reproduce_the_sampling_logprobs(make):
    model, chosen = make(), views()
    drawn = draw(model, chosen, seeds_for(chosen))
    sequences = [Continued(view, each.ids) for view, row in zip(chosen, drawn, strict=True) for each in row]
    _, recomputed = compute_logprobs(model, sequences)
    kept = np.concatenate([each.sampling_logprobs for row in drawn for each in row])
    np.testing.assert_allclose(np.array(recomputed), kept, atol=2e-5)


def test_a_completion_does_not_depend_on_the_rows_beside_it():
    model, chosen = random_model(0), views()
    together = draw(model, chosen, seeds_for(chosen))
    for row, view in enumerate(chosen):
        alone = draw(model, [view], [seeds_for(chosen)[row][:1]])[0][0]
        np.testing.assert_array_equal(alone.ids, together[row][0].ids)


def test_a_completion_stops_at_its_first_end_id_and_keeps_it():
    often = frozenset({END, 18})  # a token in 35: ended rows meet more ends while they are still drawn along
    model, chosen = replace(random_model(0), end_ids=often), views()
    drawn = [each for row in draw(model, chosen, seeds_for(chosen, 40)) for each in row]
    assert any(each.ended for each in drawn) and any(not each.ended for each in drawn)
    for each in drawn:
        ends = np.flatnonzero(np.isin(each.ids, list(often)))
        assert ends.tolist() == ([len(each.ids) - 1] if each.ended else [])
        assert each.ended or len(each.ids) == SAMPLING.max_completion_length


def test_unanswerable_ids_are_never_sampled_even_when_they_are_likeliest():
    model = random_model(0, tied=False)
    weight = model.module.language_model.lm_head.weight
    model.module.language_model.lm_head.weight = mx.concatenate([weight[:3], weight[3:5] * 50, weight[5:VOCABULARY],
                                                                 weight[VOCABULARY:] * 50])  # fmt: skip
    chosen = views()
    drawn = draw(model, chosen, seeds_for(chosen, 30))
    seen = set(np.concatenate([each.ids for row in drawn for each in row]).tolist())
    assert not seen & {IMAGE, VIDEO} and max(seen) < VOCABULARY and len(seen) > 5


def test_sampled_frequencies_match_the_distribution():
    model, view = random_model(0), views()[0]
    drawn = draw(model, [view], [[(9, each) for each in range(4000)]], Sampling(max_completion_length=1))[0]
    counts = np.bincount([each.ids[0] for each in drawn], minlength=VOCABULARY) / 4000
    logprobs, _ = compute_logprobs(model, [Continued(view, np.array([6], dtype=np.int32))])
    expected = np.exp(np.array(logprobs[0]))
    assert np.abs(counts - expected).max() < 4 * np.sqrt(expected.max() / 4000)


def test_temperature_zero_takes_the_likeliest_token():
    model, view = random_model(0), views()[1]
    drawn = draw(model, [view], [[(0,)]], Sampling(max_completion_length=8, temperature=0.0))[0][0]
    logprobs, _ = compute_logprobs(model, [Continued(view, drawn.ids)])
    np.testing.assert_array_equal(np.array(logprobs).argmax(axis=-1), drawn.ids)


def test_top_p_keeps_only_the_likeliest_tokens():
    model, view = random_model(0, scale=1.0), views()[0]
    drawn = draw(model, [view], [[(1, each) for each in range(300)]], Sampling(1, top_p=0.3))[0]
    logprobs, _ = compute_logprobs(model, [Continued(view, np.array([6], dtype=np.int32))])
    ranked = np.argsort(-np.array(logprobs[0]))
    needed = int((np.cumsum(np.exp(np.array(logprobs[0])[ranked])) < 0.3).sum()) + 1
    assert {int(each.ids[0]) for each in drawn} <= set(ranked[:needed].tolist())


def test_a_token_without_probability_is_never_drawn_where_a_parallel_sum_rises_by_a_rounding(monkeypatch):
    rounded = mx.array([[0.5, 0.5000001, 1.0]] * 2)
    monkeypatch.setattr(mx, "cumsum", lambda values, axis: rounded)
    logprobs = mx.array([[math.log(0.4), -math.inf, math.log(0.6)]] * 2)
    drawn = choose(logprobs, mx.array([0.50000005, 1.0]), SAMPLING)
    assert drawn.tolist() == [2, 2], "and the likeliest where no sum is above"
