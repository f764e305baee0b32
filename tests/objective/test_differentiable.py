"""The loss as a function to differentiate: the gradients are those of the loss phase, a chunk at a time."""

import mlx.core as mx
import numpy as np
import pytest

from vgs_mlx.objective import differentiable
from vgs_mlx.objective.chunked import Chunking, Head, Heads, States, score
from vgs_mlx.objective.terms import Taken
from vgs_mlx.objective.visual import Views

VOCABULARY, WIDTH, CHUNK = 4096, 16, 64


def given(count):
    mx.random.seed(0)
    ours, theirs = (Views(*(mx.random.normal((count, WIDTH)) for _ in range(2))) for _ in range(2))
    weights = [mx.random.normal((VOCABULARY, WIDTH)) for _ in range(2)]
    student = Head(lambda trained, states: states @ trained["weight"].T, {"weight": weights[0]})
    teacher = Head(lambda _, states: states @ weights[1].T, {})
    heads = Heads(student, teacher, mx.ones(VOCABULARY, dtype=mx.bool_))
    parts = {
        "first": {"visual": mx.random.uniform(shape=(count,)), "language": mx.ones(count)},
        "second": {"standard": mx.ones(count)},
    }
    made = States(ours, theirs), heads, Taken(mx.zeros(count, dtype=mx.int32)), parts
    mx.eval(ours, theirs, weights, parts)
    return made


def differentiated(states, heads, taken, parts, part="first"):
    """Value, gradients by view and of the head, and what was scored on the way."""

    def value(traced):
        body = {view: 1.0 * each for view, each in traced["states"].items()}  # a body is behind the states
        made = differentiable.loss(
            {**traced, "states": body}, States(Views(), states.teacher), heads, taken, parts, part, Chunking(CHUNK)
        )  # fmt: skip
        return made.value, made

    traced = {"states": states.student._asdict(), "head": dict(heads.student.parameters)}
    del traced["states"]["degraded"]
    (value, made), gradients = mx.value_and_grad(value)(traced)
    scored = differentiable.compute(made)
    mx.eval(value, gradients)
    return value, gradients, scored


@pytest.mark.parametrize("count", [3, CHUNK, 3 * CHUNK + 5])
def test_values_and_gradients_are_those_of_the_loss_phase(count):
    states, heads, taken, parts = given(count)
    expected = score(states, heads, taken, parts, Chunking(CHUNK))
    value, gradients, scored = differentiated(states, heads, taken, parts)
    loss = sum(float((weights * expected.terms[term]).sum()) for term, weights in parts["first"].items())
    assert value.item() == pytest.approx(loss, rel=1e-5)
    for view, gradient in gradients["states"].items():
        np.testing.assert_array_equal(
            np.array(gradient), np.array(expected.cotangents["first"]._asdict()[view])
        )
    head = expected.head_gradients["first"]["weight"]
    np.testing.assert_allclose(np.array(gradients["head"]["weight"]), np.array(head), rtol=1e-5, atol=1e-4)
    for name, values in expected.terms.items():
        np.testing.assert_array_equal(np.array(scored.terms[name]), np.array(values))
    np.testing.assert_array_equal(
        np.array(scored.cotangents["second"].with_image), np.array(expected.cotangents["second"].with_image)
    )


def test_a_factor_of_the_loss_is_one_of_its_gradients():
    states, heads, taken, parts = given(CHUNK)

    def value(image):
        traced = {"states": {"with_image": image, "text_only": 1.0 * states.student.text_only}, "head": {}}
        rest = States(Views(), states.teacher)
        return 3.0 * differentiable.loss(traced, rest, heads, taken, parts, "first", Chunking(CHUNK)).value

    found = mx.grad(value)(states.student.with_image)
    expected = score(states, heads, taken, parts, Chunking(CHUNK)).cotangents["first"].with_image
    np.testing.assert_allclose(np.array(found), 3.0 * np.array(expected), rtol=1e-5)


def test_memory_does_not_grow_with_the_number_of_chunks():
    """Chunks are compiled and let go as if nothing were traced: as in the loss phase by itself."""
    peaks = {}
    for count in (2 * CHUNK, 16 * CHUNK):
        for name, run in (("traced", differentiated), ("plain", plain)):
            made = given(count)
            run(*made)  # the first compiles
            mx.clear_cache()
            before = mx.get_active_memory()
            mx.reset_peak_memory()
            run(*made)
            peaks[name, count] = mx.get_peak_memory() - before
    assert peaks["traced", 16 * CHUNK] < 1.15 * peaks["traced", 2 * CHUNK]
    assert peaks["traced", 16 * CHUNK] < 1.15 * peaks["plain", 16 * CHUNK]


def plain(states, heads, taken, parts):
    return score(states, heads, taken, parts, Chunking(CHUNK))
