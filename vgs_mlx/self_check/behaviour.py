"""Checks of what a run relies on, on the device that it would use. Each function takes a bench and returns lines."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import mlx.core as mx
import numpy as np

from vgs_mlx import device
from vgs_mlx.models import probes
from vgs_mlx.models.logprobs import completion_hidden, taken_logprobs
from vgs_mlx.models.recomputing import recomputing
from vgs_mlx.models.rows import Continued, Encodings, encode, evaluate
from vgs_mlx.objective.visual import Views
from vgs_mlx.rollout.sample import Sampling, sample
from vgs_mlx.self_check.comparing import Line, distance
from vgs_mlx.self_check.sides import Bench, rotaries
from vgs_mlx.train.backward import backward
from vgs_mlx.types import Rollout

SAMPLED = 16  # tokens of an answer
LENGTHS = (9, 17, 5, 23, 12, 20, 7, 15)  # of the answers at one step after another
KEPT = 32 * 2**20  # bytes of freed buffers that MLX may keep meanwhile
MARGIN = 1.25  # MLX checks the limit before it keeps a buffer, so the last one may exceed it
LEFT = 2**20  # bytes
LAST_POSITION = 4096


def sampling(bench: Bench, _: Mapping[str, float]) -> list[Line]:
    """Tokens have the same log-probs when sampled as when scored."""
    student = bench.student
    views = [rollout.prompt.student["with_image"] for rollout in bench.rollouts[::2]]
    encodings = _encodings(bench)
    seeds = [[(0, row, copy) for copy in range(2)] for row in range(len(views))]
    drawn = sample(student, views, seeds, encodings, Sampling(SAMPLED))
    sequences = [Continued(view, each.ids) for view, row in zip(views, drawn, strict=True) for each in row]
    scored = np.array(taken_logprobs(student, sequences, encodings))
    sampled = np.concatenate([each.sampling_logprobs for row in drawn for each in row])
    name = f"sampling: log-probs when scored, nats, {bench.side.precision}"
    return [Line("a run", name, float(np.abs(scored - sampled).max()), probes.tolerance(student))]


def continuation(bench: Bench, limits: Mapping[str, float]) -> list[Line]:
    """Completions that continue one run of their prompt have the same hidden states as in rows of their own."""
    lines = []
    for role, model in (("student", bench.student), ("teacher", bench.teacher)):
        for view in ("with_image", "text_only"):
            sequences = [Continued(each.prompt.views(role)[view], each.completion) for each in bench.rollouts]
            encodings = evaluate(encode(model, [each for each, _ in sequences]))
            continued, apart = (
                completion_hidden(replace(model, shares_prefix=shared), sequences, encodings)
                for shared in (True, False)
            )
            name = f"continuation: hidden states beside separate rows, {role}, {view}"
            lines.append(Line("a run", name, distance(_values(continued), _values(apart)), limits["logits"]))
    return lines


def rotation(bench: Bench, limits: Mapping[str, float]) -> list[Line]:
    """mlx-vlm's Metal kernel rotates queries and keys by their positions as plain operations do; so with gradients.

    Where there is no such kernel, both sides are the plain operations.
    """
    [rotary, *_] = rotaries(bench.student)
    random, fused = np.random.RandomState(8), rotary.fused_apply
    shape = (2, 4, 50, rotary.dim)
    given = [mx.array(random.standard_normal(shape).astype(np.float32)) for _ in range(2)]
    places = mx.array(random.randint(0, LAST_POSITION, (3, shape[0], shape[2])).astype(np.int32))

    def turned() -> list[np.ndarray]:
        run = mx.vjp(lambda *pair: list(rotary.apply_rotary(*pair, places)), given, given[::-1])
        return [np.concatenate([_values(each) for each in part]) for part in run]

    kernel = turned()
    try:
        rotary.fused_apply = False
        plain = turned()
    finally:
        rotary.fused_apply = fused
    return [
        Line("a run", f"rotation: {what} beside plain operations", distance(*pair), limits["logits"])
        for what, *pair in zip(("values", "gradients"), kernel, plain, strict=True)
    ]


def checkpointing(bench: Bench, limits: Mapping[str, float]) -> list[Line]:
    """Layers that are run again in the backward pass give the same gradients as layers that keep their activations."""
    encodings = None if bench.recipe.student.train_vision else _encodings(bench)
    kept = _gradients(bench, bench.rollouts, encodings)
    with recomputing(bench.student.family.layers(bench.student.module)):
        again = _gradients(bench, bench.rollouts, encodings)
    vectors = (
        np.concatenate([_values(tree[name]).ravel() for name in sorted(kept)]) for tree in (again, kept)
    )
    name = "checkpointing: gradients beside kept activations"
    return [Line("a run", name, distance(*vectors), limits["gradients"])]


def buffers(bench: Bench, _: Mapping[str, float]) -> list[Line]:
    """Steps of changing shapes leave no memory in use, and keep no more freed buffers than the limit allows."""
    encodings = None if bench.recipe.student.train_vision else _encodings(bench)
    kept, used = [], []
    with _cache_limited(KEPT):
        for length in (LENGTHS[0], *LENGTHS):
            cut = [
                replace(
                    each,
                    completion=each.completion[:length],
                    sampling_logprobs=each.sampling_logprobs[:length],
                )
                for each in bench.rollouts
            ]
            _gradients(bench, cut, encodings)
            kept.append(mx.get_cache_memory())
            used.append(mx.get_active_memory())
    return [
        Line("a run", "buffers: freed and kept, as a share of the limit", max(kept) / KEPT, MARGIN),
        Line("a run", "buffers: bytes more in use after steps", float(max(0, used[-1] - used[0])), LEFT),
    ]


def _gradients(bench: Bench, rollouts: list[Rollout], encodings: Encodings | None) -> dict[str, mx.array]:
    """The gradients of the sum of all hidden states with the picture, weighted by fixed numbers."""
    count = sum(len(each.completion) for each in rollouts)
    width = completion_hidden(bench.student, [_sequence(rollouts[0])], _encodings(bench)).shape[-1]
    pull = np.random.RandomState(7).standard_normal((count, width)).astype(np.float32)
    dtype = mx.float32 if bench.side.precision == "float32" else mx.bfloat16
    return backward(bench.student, rollouts, Views(with_image=mx.array(pull).astype(dtype)), encodings)


def _sequence(rollout: Rollout) -> Continued:
    return Continued(rollout.prompt.student["with_image"], rollout.completion)


def _encodings(bench: Bench) -> Encodings:
    return evaluate(encode(bench.student, [each.prompt.student["with_image"] for each in bench.rollouts]))


@contextmanager
def _cache_limited(size: int) -> Iterator[None]:
    before = mx.set_cache_limit(size)
    device.release()
    try:
        yield
    finally:
        mx.set_cache_limit(before)


def _values(array: mx.array) -> np.ndarray:
    return np.array(array.astype(mx.float32))
