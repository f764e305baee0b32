"""Completions that continue one run of their prompt, compared with a row for each, by model family.

Forward and backward are measured. The prompt is text only, since a picture adds the same time to both sides. LoRA is on
every layer of the blocks, as in a run.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import mlx.core as mx
import numpy as np

from benchmarks import made
from benchmarks.timing import Medians, alternate, ratio
from random_smolvlm import random_smolvlm
from vgs_mlx.models import adapters
from vgs_mlx.models.base import LoadedModel
from vgs_mlx.models.logprobs import completion_hidden
from vgs_mlx.models.rows import Continued, Encodings, encode
from vgs_mlx.recipe.options import Student
from vgs_mlx.types import View

MAKERS: dict[str, Callable[[int, int], LoadedModel]] = {
    "qwen3_vl": lambda width, layers: made.sized_model("qwen3_vl", width, layers, seed=0),
    "smolvlm": lambda width, layers: random_smolvlm(hidden=width, layers=layers, scale=1.0),
}
"""Family -> a function that makes a random model of a given width and number of layers. Add a family as one line."""
SIZES = ((512, 6), (128, 4))  # width, layers
FIRST_ID, LAST_ID = 6, 37  # between special ids and the smallest vocabulary


@dataclass(frozen=True)
class Workload:
    """The size of one prompt and of its completions."""

    prompt: int = 256  # tokens
    completions: int = 4
    length: int = 32  # tokens of each

    def sequences(self) -> list[Continued]:
        rng = np.random.default_rng(0)

        def drawn(count: int) -> np.ndarray:
            return rng.integers(FIRST_ID, LAST_ID, count).astype(np.int32)

        view = View(drawn(self.prompt), {})
        return [Continued(view, drawn(self.length)) for _ in range(self.completions)]


def run(repetitions: int, work: Workload | None = None, sizes: Sequence[tuple[int, int]] = SIZES) -> Medians:
    """Seconds and peak memory by family, size and way. The two ways take turns."""
    found: Medians = {}
    for family, make in MAKERS.items():
        for width, layers in sizes:
            model, name = trained(make(width, layers)), f"{family}, {width} x {layers}"
            found |= alternate(
                {
                    f"{name}: {way}": lambda model=model, together=together: _measured(
                        model, work or Workload(), together
                    )
                    for way, together in (("continued", True), ("a row each", False))
                },
                repetitions,
            )
    return found


def compare(found: Medians) -> None:
    """The ratios that count."""
    for name in dict.fromkeys(each.rpartition(": ")[0] for each in found):
        continued, apart = (found[f"{name}: {way}"]["seconds"] for way in ("continued", "a row each"))
        ratio(f"{name}: continued / a row each", continued, apart, most=0.5, aim=0.35)


def trained(model: LoadedModel) -> LoadedModel:
    """The model with adapters, as a training step needs it."""
    adapters.prepare(model, Student(rank=16), seed=0)
    return model


def hidden(
    model: LoadedModel, sequences: Sequence[Continued], encodings: Encodings, together: bool
) -> mx.array:
    """The states that predict the completions' tokens, (N, D): completions of one prompt `together`, or a row each."""
    return completion_hidden(replace(model, shares_prefix=together), sequences, encodings)


def states_and_gradients(
    model: LoadedModel, work: Workload, together: bool
) -> tuple[mx.array, adapters.Weights]:
    """The states, and the gradients of their weighted sum with respect to the trainable weights, computed now."""
    sequences = work.sequences()
    encodings = encode(model, [view for view, _ in sequences])

    def weighted(weights: adapters.Weights) -> tuple[mx.array, mx.array]:
        states = adapters.call_with(
            model.module, weights, lambda: hidden(model, sequences, encodings, together)
        )
        return (mx.sin(mx.arange(states.size)).reshape(states.shape) * states).sum(), states

    (_, states), gradients = mx.value_and_grad(weighted)(adapters.trainable_weights(model.module))
    mx.eval(states, gradients)
    return states, gradients


def _measured(model: LoadedModel, work: Workload, together: bool) -> dict[str, float]:
    mx.clear_cache()
    mx.reset_peak_memory()
    begin = time.perf_counter()
    states_and_gradients(model, work, together)
    return {"seconds": time.perf_counter() - begin, "peak_gb": mx.get_peak_memory() / 1e9}
