"""The loss phase alone at the vocabulary and width of Qwen3-VL: V = 151,936, D = 2,048."""

import time

import mlx.core as mx
import numpy as np

from benchmarks.timing import Medians, alternate, console, ratio
from vgs_mlx.objective.chunked import Chunking, Head, Heads, States, score
from vgs_mlx.objective.objectives import resolve
from vgs_mlx.objective.terms import Taken
from vgs_mlx.objective.visual import Views
from vgs_mlx.objective.weightings import Batch
from vgs_mlx.train.addends import of_objective

VOCABULARY, HIDDEN = 151_936, 2_048
IDS = 151_669  # that Qwen3-VL's tokenizer has
CHUNK = 64
CHUNKS = (16, 32, 64)


def run(repetitions: int) -> Medians:
    """Time of standard and VGS; memory beyond the inputs in chunks, at once, and as positions grow."""
    heads = _heads()
    found = alternate(
        {
            f"{name}, 128 positions": lambda name=name: phase(heads, name, 128, CHUNK)
            for name in ("standard", "vgs")
        },
        repetitions,
    )
    for positions in (256, 1024, 2048):
        found |= alternate(
            {f"vgs, {positions:,} positions": lambda count=positions: phase(heads, "vgs", count, CHUNK)},
            1,
            warm=False,
        )
    console.print("1,024 positions at once follow; they need about 15 GB")
    found |= alternate(
        {"vgs, 1,024 positions at once": lambda: phase(heads, "vgs", 1024, 1024)}, 1, warm=False
    )
    return found


def by_chunk(repetitions: int) -> Medians:
    """Time and memory of VGS for 256 positions by the size of a chunk, with as many ids as the tokenizer has."""
    heads = _heads(IDS)
    return alternate(
        {f"vgs, chunks of {size}": lambda size=size: phase(heads, "vgs", 256, size, IDS) for size in CHUNKS},
        repetitions,
    )


def _heads(ids: int = VOCABULARY) -> list[Head]:
    mx.random.seed(0)
    weights = [mx.random.normal((VOCABULARY, HIDDEN)) * HIDDEN**-0.5 for _ in range(2)]
    mx.eval(weights)
    return [Head(lambda _, states, weight=weight: (states @ weight.T)[..., :ids], {}) for weight in weights]


def compare(found: Medians) -> None:
    """The ratios that count."""
    beyond = {name: values["beyond_inputs_gb"] for name, values in found.items()}
    ratio("loss phase, time, VGS / standard", found["vgs, 128 positions"]["seconds"],
          found["standard, 128 positions"]["seconds"], most=2.2, aim=1.6)  # fmt: skip
    ratio("peak memory, in chunks / at once", beyond["vgs, 1,024 positions"], beyond["vgs, 1,024 positions at once"],
          most=0.30, aim=0.15)  # fmt: skip
    ratio("growth of memory, 2,048 / 256 positions", beyond["vgs, 2,048 positions"], beyond["vgs, 256 positions"],
          most=1.05)  # fmt: skip


def phase(
    heads: list[Head], name: str, positions: int, chunk: int, vocabulary: int = VOCABULARY
) -> dict[str, float]:
    """Seconds of the loss phase with frozen heads as a step runs it, scores of the teacher included; its memory."""
    student, teacher = (
        Views(*(mx.random.normal((positions, HIDDEN)) for _ in range(2 if name == "vgs" else 1)))
        for _ in range(2)
    )
    ids, support = mx.zeros(positions, dtype=mx.int32), mx.ones(vocabulary, dtype=mx.bool_)
    mx.eval(student, teacher, ids, support)
    batch = Batch(np.full(positions, 1 / positions), [positions], [0], {}, 2.0)
    wanted = of_objective(resolve(name, 2.0, 0.01), 2.0, 0.01, False, batch)
    mx.clear_cache()
    mx.reset_peak_memory()
    inputs = mx.get_active_memory()
    begin = time.perf_counter()
    states, both = States(student, teacher), Heads(*heads, support)
    score(states, both, Taken(ids), wanted.addends, Chunking(chunk))
    return {
        "seconds": time.perf_counter() - begin,
        "beyond_inputs_gb": (mx.get_peak_memory() - inputs) / 1e9,
    }
