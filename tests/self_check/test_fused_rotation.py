"""On a Mac mlx-vlm turns queries and keys by a Metal kernel inside a compiled function with gradients of its own.

Here the kernel is one of plain operations that, like a real one, passes no gradients: what is tested is that the parts
around it give the gradients of a step, recomputed layers included, and that the check finds a kernel that is wrong.
"""

import mlx.core as mx
import pytest
from mlx_vlm.models import rope_utils

from vgs_mlx.self_check import behaviour, sides, step
from vgs_mlx.self_check.comparing import LIMITS, compare
from vgs_mlx.self_check.sides import Bench, Side

FLOAT32 = LIMITS["float32"]


def bench() -> Bench:
    return sides.prepare(Side("CPU", mx.Device(mx.cpu), "float32"))


@pytest.fixture
def fused(monkeypatch):
    """Gives the rotary embeddings of a bench the path that they have on a Mac; counts the kernel's calls."""
    monkeypatch.setattr(sides, "PROMPTS", 1)
    calls = []

    def kernel(*, inputs, output_shapes, output_dtypes, factor=1.0, **_):
        calls.append(1)
        x, *places = inputs
        turned, _ = rope_utils._mrope_apply(x, x, *places, rope_utils._HALF_SPLIT)
        assert [turned.shape, turned.dtype] == [*output_shapes, *output_dtypes]
        return (mx.stop_gradient(factor * turned),)

    def use(on: Bench, factor: float = 1.0) -> list[int]:
        rope_utils._compiled_mrope_apply.cache_clear()
        monkeypatch.setattr(
            rope_utils, "_mrope_apply_kernel", lambda *_: lambda **given: kernel(factor=factor, **given)
        )
        for model in (on.student, on.teacher):
            for rotary in sides.rotaries(model):
                rotary.fused_apply, rotary._compiled_apply = True, {}
        return calls

    yield use
    rope_utils._compiled_mrope_apply.cache_clear()


def test_a_step_with_the_kernel_is_the_step_with_plain_operations(fused):
    plain = step.figures(bench())
    other = bench()
    calls = fused(other)
    found = step.figures(other)
    assert calls and [line.text for line in compare("fused", found, plain, FLOAT32) if not line.agrees] == []


def test_recomputed_layers_have_the_kernel_s_gradients_too(fused):
    other = bench()
    calls = fused(other)
    [line] = behaviour.checkpointing(other, FLOAT32)
    assert calls and line.agrees, line.text


def test_a_wrong_kernel_is_found(fused):
    other = bench()
    assert all(line.agrees for line in behaviour.rotation(other, FLOAT32))
    fused(other)
    assert all(line.agrees for line in behaviour.rotation(other, FLOAT32))
    fused(other, factor=1.001)
    values, _ = behaviour.rotation(other, FLOAT32)
    assert not values.agrees


def test_a_side_on_the_cpu_does_not_run_the_kernel(monkeypatch):
    """Where Metal is there at all mlx-vlm would, on whatever device."""
    monkeypatch.setattr(rope_utils, "_HAS_METAL", True)
    found = bench()
    assert not any(
        each.fused_apply for model in (found.student, found.teacher) for each in sides.rotaries(model)
    )
