"""All checks, in order. Each gives lines; one that can't run gives a line that says why."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import mlx.core as mx
import numpy as np

from vgs_mlx.machine import blas
from vgs_mlx.models.precision import rounds_float32
from vgs_mlx.self_check import behaviour, operations, step
from vgs_mlx.self_check.comparing import LIMITS, Kind, Line, compare, sketched
from vgs_mlx.self_check.reference import Reference
from vgs_mlx.self_check.sides import PRECISIONS, Bench, Precision, Side, computing, computing_on, prepare

TESTS = "the tests' figures"
INPUTS_LIMIT = {"inputs": 1e-5}
MADE_WITH = ("mlx", "mlx-vlm", "transformers", "numpy", "pillow")
OPERATIONS: tuple[Callable[[Kind], list[Line]], ...] = (
    operations.products, operations.packed_products, operations.attentions, operations.norms, operations.losses,
    operations.draws,
)  # fmt: skip
BEHAVIOUR: tuple[Callable[[Bench, Mapping[str, float]], list[Line]], ...] = (
    behaviour.sampling, behaviour.continuation, behaviour.rotation, behaviour.checkpointing, behaviour.buffers,
)  # fmt: skip
SLOW_ON_CPU = (behaviour.continuation, behaviour.rotation, behaviour.checkpointing, behaviour.buffers)
"""In the stored precision, which no run uses on a CPU, these take minutes there."""


@dataclass(frozen=True)
class Check:
    """One check; `run` may raise any exception."""

    title: str
    run: Callable[[], list[Line]]


@dataclass
class _EarlierResults:
    """What earlier checks computed, for later ones: figures by side, and the bench of one side at a time."""

    figures: dict[tuple[str, Precision], step.Figures] = field(default_factory=dict)
    bench: Bench | None = None

    def bench_of(self, side: Side) -> Bench:
        if self.bench is None or self.bench.side != side:
            self.bench = None
            self.bench = prepare(side)
        return self.bench


def checks(devices: Mapping[str, mx.Device], reference: Reference) -> Iterator[Check]:
    """All checks of a machine with these devices, by name; the last is the one that runs compute on.

    In each precision the first device is compared with the tests' figures, the others with the first.
    """
    earlier, [first, *others] = _EarlierResults(), list(devices)
    main = [*devices][-1]
    yield Check(
        "the models' inputs", lambda: _inputs(Side(first, devices[first], "float32"), earlier, reference)
    )
    for precision in PRECISIONS:
        for name in devices:
            side = Side(name, devices[name], precision)
            title = f"a step, {precision}, {name}"
            yield Check(title, lambda side=side: _step(side, first, earlier, reference))
    for operation in OPERATIONS:
        name = operation.__name__.replace("_", " ")
        yield Check(f"{name}, {main}", lambda run=operation: _operation(devices[main], run))
    for precision in PRECISIONS:
        side = Side(main, devices[main], precision)
        for behave in BEHAVIOUR:
            if precision == "float32" or others or behave not in SLOW_ON_CPU:
                title = f"{behave.__name__}, {precision}, {main}"
                yield Check(title, lambda run=behave, side=side: _behaviour(side, run, earlier))


def attempt(check: Check) -> list[Line]:
    """The check's lines; where it can't run, one line that says why."""
    try:
        return check.run()
    except Exception as error:
        why = f"could not run ({type(error).__name__}: {' '.join(str(error).split())[:300]})"
        return [Line(check.title, "run", np.nan, 0.0, why)]


def any_rounds(devices: Mapping[str, mx.Device]) -> bool:
    """Whether a device rounds the factors of float32 products. False where one can't multiply: checks report that."""
    try:
        return any(rounds(device) for device in devices.values())
    except Exception:
        return False


def make_reference() -> Reference:
    """The figures of this machine's CPU."""
    figures = {}
    for precision in PRECISIONS:
        side = Side("CPU", mx.Device(mx.cpu), precision)
        with computing(side):
            bench = prepare(side)
            figures.setdefault("inputs", sketched(step.inputs(bench)))
            figures[precision] = sketched(step.figures(bench))
    return Reference({name: blas.installed_version(name) or "" for name in MADE_WITH}, figures)


def _inputs(side: Side, earlier: _EarlierResults, reference: Reference) -> list[Line]:
    with computing(side):
        inputs = step.inputs(earlier.bench_of(side))
    return compare(f"inputs, beside {TESTS}", sketched(inputs), reference.figures["inputs"], INPUTS_LIMIT)


def _step(side: Side, first: str, earlier: _EarlierResults, reference: Reference) -> list[Line]:
    with computing(side):
        bench, earlier.bench = earlier.bench_of(side), None  # the step changes its student
        figures, limits = step.figures(bench), LIMITS[_kind(side)]
    earlier.figures[side.name, side.precision] = figures
    part = f"a step, {side.precision}, {side.name}"
    if side.name != first and (firsts := earlier.figures.get((first, side.precision))):
        return compare(f"{part} beside {first}", figures, firsts, limits)
    return compare(f"{part} beside {TESTS}", sketched(figures), reference.figures[side.precision], limits)


def _operation(device: mx.Device, run: Callable[[Kind], list[Line]]) -> list[Line]:
    with computing_on(device):
        return run("rounded" if rounds(device) else "float32")


def _behaviour(
    side: Side, run: Callable[[Bench, Mapping[str, float]], list[Line]], earlier: _EarlierResults
) -> list[Line]:
    with computing(side):
        return run(earlier.bench_of(side), LIMITS[_kind(side)])


def rounds(device: mx.Device) -> bool:
    """Whether a GPU rounds the factors of float32 products. Never True of a CPU, where that would be a fault."""
    with computing_on(device):
        return device.type != mx.DeviceType.cpu and rounds_float32()


def _kind(side: Side) -> Kind:
    if side.precision == "stored":
        return "stored"
    return "rounded" if rounds(side.device) else "float32"
