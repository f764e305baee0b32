"""The proof measures what it says, and accepts what it should."""

import math

import mlx.core as mx
import numpy as np
import pytest

from random_models import random_completion, random_model, random_prompt
from vgs_mlx.exporting import proof
from vgs_mlx.exporting.proof import Difference, Proof
from vgs_mlx.models.logprobs import compute_logprobs
from vgs_mlx.models.rows import Continued


def sequences(count: int = 10) -> list[Continued]:
    views = [random_prompt(i, words=3 + i % 3).student["with_image"] for i in range(count)]
    return [Continued(view, random_completion(i, 2 + i % 5)) for i, view in enumerate(views)]


def found(fused: float, untrained: float, *, bits: int | None = None) -> Proof:
    return Proof("bfloat16", bits, Difference(fused, fused, 1.0, 7), Difference(untrained, untrained, 1.0, 7))


def compared(trained, other, *, at_once: int = 8, chunk: int = 64) -> Difference:
    """Both models score the same sequences; then they are compared."""
    scored = [
        proof.Scored(proof.states(model, sequences(), at_once), lambda model=model: model)
        for model in (trained, other)
    ]
    return proof.compare(*scored, chunk)


def test_a_model_is_no_different_from_itself():
    difference = compared(random_model(0), random_model(0))
    assert difference == Difference(0.0, 0.0, 1.0, sum(len(completion) for _, completion in sequences()))


def test_the_divergence_is_that_of_the_textbook_over_all_positions():
    trained, other = random_model(0), random_model(1)
    difference = compared(trained, other)
    p, q = (np.array(compute_logprobs(model, sequences())[0], dtype=np.float64) for model in (trained, other))
    kl = (np.exp(p) * (p - q)).sum(axis=1)
    assert difference.mean == pytest.approx(kl.mean(), rel=1e-4)
    assert difference.largest == pytest.approx(kl.max(), rel=1e-4)
    assert difference.agreement == pytest.approx(np.mean(p.argmax(axis=1) == q.argmax(axis=1)))
    assert difference.mean > 0.1 and difference.agreement < 1.0


def test_how_the_comparison_is_split_changes_nothing():
    whole = compared(random_model(0), random_model(1))
    split = compared(random_model(0), random_model(1), at_once=3, chunk=2)
    assert split.mean == pytest.approx(whole.mean, rel=1e-5)
    assert (split.positions, split.agreement) == (whole.positions, whole.agreement)


def test_the_answers_compared_on_are_the_trained_model_s_most_likely_ones():
    model, prompts = random_model(0), [random_prompt(i) for i in range(3)]
    for prompt, (view, completion) in zip(prompts, proof.answers(model, prompts, 6, 2), strict=True):
        logprobs, _ = compute_logprobs(model, [Continued(view, completion)])
        assert view is prompt.student["with_image"]
        assert completion.tolist() == mx.argmax(logprobs, axis=-1).tolist()


def test_a_hundredth_of_the_training_may_be_lost():
    assert found(0.0009, 0.1).kept and found(0.0009, 0.1).acceptable
    assert not found(0.0011, 0.1).kept and not found(0.0011, 0.1).acceptable


def test_packing_on_request_may_lose_more_but_not_most():
    assert found(0.02, 0.1, bits=4).acceptable and not found(0.02, 0.1, bits=4).kept
    assert not found(0.03, 0.1, bits=4).acceptable


def test_where_hardly_anything_was_trained_nothing_is_refused():
    assert found(0.01, 1e-6).acceptable and not found(0.01, 1e-6).kept
    assert found(1e-5, 1e-6).kept


@pytest.mark.parametrize("untrained", [0.1, 1e-6])
def test_a_model_that_overflowed_is_never_accepted(untrained):
    assert not found(math.nan, untrained).kept
    assert not found(math.nan, untrained).acceptable


def test_an_overflow_shows_as_nan():
    broken = random_model(0)
    broken.module.language_model.model.norm.weight = mx.full((32,), math.inf)
    assert math.isnan(compared(random_model(0), broken).mean)
