"""The published benchmarks, by suite. Each is a declaration in vision.py, low_vision.py or text.py.

None of them has been run against its real data yet: the Hub was out of reach. The ids, configurations, splits and
columns were read from public code and dataset cards, named with each declaration; the tests run every
declaration on rows of that schema that they make themselves.
"""

import difflib

from vgs_mlx.errors import Refusal
from vgs_mlx.evaluation.suites import low_vision, text, vision
from vgs_mlx.evaluation.suites.benchmark import Benchmark

SUITES: dict[str, tuple[Benchmark, ...]] = {
    "vision": vision.BENCHMARKS,  # the seven that the paper averages
    "low-vision": low_vision.BENCHMARKS,
    "text": text.BENCHMARKS,
}
ALL = tuple(benchmark for suite in SUITES.values() for benchmark in suite)


def chosen(name: str) -> tuple[Benchmark, ...]:
    """The benchmarks of a suite, of `all`, or the one of that name. Raises `Refusal`."""
    named = {**SUITES, "all": ALL, **{each.name: (each,) for each in ALL}}
    if name not in named:
        near = difflib.get_close_matches(name, named, n=1)
        mean = f"did you mean {near[0]}?" if near else f"there are {', '.join(named)}"
        raise Refusal(f"--suite {name}: no suite or benchmark of that name; {mean}")
    return named[name]
