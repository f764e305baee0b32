"""Where in a training step one element becomes a value that is not finite."""

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any
from unittest.mock import patch

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten, tree_map_with_path

from vgs_mlx.objective.chunked import Head
from vgs_mlx.train import forward, gradients, loop, step
from vgs_mlx.train.rewards import advantages as rewards


@dataclass
class Spoiler:
    """One element of what the `call`-th call at a site gives, in each of some steps (counted from 0)."""

    steps: frozenset[int]
    call: int
    value: float
    rng: random.Random
    hits: list[int] = field(default_factory=list)  # the steps where it came to that
    now: int = -1  # the step that goes on
    calls: int = 0

    def begin(self, number: int) -> None:
        self.now, self.calls = number, 0

    def due(self) -> bool:
        """Whether this call's result is to be spoilt."""
        self.calls += 1
        if self.now not in self.steps or self.calls != self.call:
            return False
        self.hits.append(self.now)
        return True

    def spoilt(self, tree: Any) -> Any:
        """The tree with the value at a random place of a random leaf."""
        if isinstance(tree, mx.array):
            return self._with(tree)
        arrays = [name for name, each in tree_flatten(tree) if isinstance(each, mx.array) and each.size]
        chosen = self.rng.choice(arrays)
        return tree_map_with_path(lambda name, each: self._with(each) if name == chosen else each, tree)

    def _with(self, array: mx.array) -> mx.array:
        flat = mx.flatten(array)
        here = mx.arange(flat.size) == self.rng.randrange(flat.size)
        return mx.where(here, mx.array(self.value, flat.dtype), flat).reshape(array.shape)


Change = Callable[[Spoiler, Any, tuple], Any]
"""What a function's result becomes, spoilt if it is due; the last are the arguments of the function."""


def _if_due(spoil: Callable[[Spoiler, Any], Any]) -> Change:
    return lambda spoiler, found, _: spoil(spoiler, found) if spoiler.due() else found


LEAF = _if_due(Spoiler.spoilt)  # any element of any array of it


def _part(name: str) -> Change:
    """One of the trees of a `Scored`."""
    return _if_due(lambda spoiler, found: replace(found, **{name: spoiler.spoilt(getattr(found, name))}))


def _head(spoiler: Spoiler, found: Head, given: tuple) -> Head:
    """The first logits that it gives: of the first token, and of an id that an answer may hold."""
    ids, unused = np.flatnonzero(np.array(given[0].support())), [True]

    def apply(weights: Any, states: mx.array) -> mx.array:
        logits = found.apply(weights, states)
        if not unused or not (unused.clear() or spoiler.due()):
            return logits
        chosen = int(spoiler.rng.choice(ids))
        here = (mx.arange(logits.shape[0]) == 0)[:, None] & (mx.arange(logits.shape[1]) == chosen)
        return mx.where(here, mx.array(spoiler.value, logits.dtype), logits)

    return Head(apply, found.parameters)


def _pictures(spoiler: Spoiler, found: dict) -> dict:
    views = [key for key, each in found.items() if each.features is not None]
    key = spoiler.rng.choice(views)
    features = found[key].features
    spoilt = replace(features, embeddings=spoiler.spoilt(features.embeddings))
    return {**found, key: found[key]._replace(features=spoilt)}


def _sampling(spoiler: Spoiler, found: list) -> list:
    number = spoiler.rng.randrange(len(found))
    logprobs = np.array(spoiler.spoilt(mx.array(found[number].sampling_logprobs)))
    return [
        replace(each, sampling_logprobs=logprobs) if i == number else each for i, each in enumerate(found)
    ]


def _advantages(spoiler: Spoiler, found: rewards.Rewarded) -> rewards.Rewarded:
    by_token = [mx.array(each, mx.float32) for each in found.by_token]
    return replace(found, by_token=[np.array(each) for each in spoiler.spoilt(by_token)])


def _norm_scale(spoiler: Spoiler, found: tuple) -> tuple:
    """η is not finite, and so is what it was multiplied with."""
    tree, measured = found
    bad = mx.array(spoiler.value)
    scaled = {name: bad * each for name, each in tree.items()}
    return scaled, {**measured, "norm_scale": bad, "norm_scale_exact": bad}


@dataclass(frozen=True)
class Site:
    """A function whose result is spoilt, how often a step calls it, and how."""

    module: ModuleType
    function: str
    change: Change = LEAF
    calls: int = 1  # in a step of two micro-batches; more calls may come
    only: tuple[str, ...] = ()  # settings that it concerns; none: all
    values: tuple[float, ...] = (float("nan"), float("inf"), float("-inf"))


SITES = {
    "student's picture": Site(step, "encode_views", _if_due(_pictures)),
    "teacher's picture": Site(forward, "encode", _if_due(_pictures)),
    "student's hidden states": Site(gradients, "hidden_states", calls=2),
    "teacher's hidden states": Site(gradients, "teacher_hidden"),
    "student's logits": Site(gradients, "student_head", _head, calls=2),
    "teacher's logits": Site(gradients, "frozen_head", _head, calls=2),
    "term": Site(gradients, "score", _part("terms"), calls=2),
    "cotangent": Site(gradients, "score", _part("cotangents"), calls=2),
    "head's gradient": Site(gradients, "score", _part("head_gradients"), calls=2, only=("full",)),
    "gradient": Site(gradients, "backward", calls=2),
    "η": Site(step, "steer", _if_due(_norm_scale), only=("vgs", "full")),
    "sampling log-probs": Site(step, "collect", _if_due(_sampling), only=("grpo",), values=(float("nan"),)),
    "advantage": Site(rewards, "advantages", _if_due(_advantages), only=("grpo",)),
}


@contextmanager
def spoiling(site: Site, spoiler: Spoiler) -> Iterator[None]:
    """During the body, training steps are spoilt there."""
    original, run_step = getattr(site.module, site.function), loop.run_step

    def changed(*given: Any, **options: Any) -> Any:
        found = original(*given, **options)
        return site.change(spoiler, found, given)

    def counted(*given: Any) -> Any:
        spoiler.begin(given[-1].step)
        return run_step(*given)

    with ExitStack() as stack:
        stack.enter_context(patch.object(site.module, site.function, changed))
        stack.enter_context(patch.object(loop, "run_step", counted))
        yield
