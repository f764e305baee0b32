"""The device's memory: MLX keeps no more freed buffers than it is told to."""

import mlx.core as mx
import pytest

from vgs_mlx import device


@pytest.fixture
def unlimited():
    """Puts MLX's own limit back."""
    before = mx.set_cache_limit(2**40)
    yield
    mx.set_cache_limit(before)
    mx.clear_cache()


@pytest.mark.parametrize("limit", [0, 2**22])
def test_freed_buffers_are_kept_up_to_the_limit(limit, unlimited):
    device.limit_cache(limit)
    for size in range(1, 9):
        mx.eval(mx.ones((size, 2**19)) + 1)  # 2 to 16 MB, each of another size
    assert mx.get_cache_memory() <= limit
