"""Where a step's time and memory go, phase by phase."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any
from unittest import mock

import mlx.core as mx

from benchmarks import made
from benchmarks.timing import Medians, alternate, one_step
from vgs_mlx.planning.plan import changed
from vgs_mlx.rollout import sample
from vgs_mlx.train import backward, forward, gradients, optimizer, step

Label = Callable[..., str]


def run(repetitions: int) -> Medians:
    """Seconds and peak memory of each phase of a `standard` and of a `vgs` step with η known, and the sum."""
    student, teacher = made.scaled_models()
    asked = made.prompts(8, 256)
    settings = {  # in two passes, which have phases
        name: changed(made.recipe(name, "interval"), "train.passes", "two") for name in ("vgs", "standard")
    }
    measured = alternate(
        {name: lambda each=each: _phases(student, teacher, asked, each) for name, each in settings.items()},
        repetitions,
    )
    columns = {
        f"{unit}, {name}": (name, unit) for name in ("standard", "vgs") for unit in ("seconds", "peak GB")
    }
    phases = dict.fromkeys(key.rsplit(", ", 1)[0] for key in measured["vgs"])  # vgs has them all
    return {
        phase: {
            column: measured[name].get(f"{phase}, {unit}", 0.0) for column, (name, unit) in columns.items()
        }
        for phase in phases
    }


def _phases(student, teacher, asked, settings) -> dict[str, float]:
    ledger: dict[str, float] = {}
    with _watched(ledger, student):
        whole = one_step(student, teacher, asked, settings, True, False)["step"]
    seconds = sum(value for key, value in ledger.items() if key.endswith("seconds"))
    return {**ledger, "all else, seconds": whole - seconds, "step, seconds": whole}


@contextmanager
def _watched(ledger: dict[str, float], student) -> Iterator[None]:
    """Times each phase's function and evaluates what it gives, so that no phase does another one's work."""
    name = lambda model: "student" if model.module is student.module else "teacher"  # noqa: E731
    phases: list[tuple[ModuleType, str, Label]] = [
        (step, "encode_views", lambda *_: "student's pictures"),
        (sample, "_prefill", lambda *_: "prefill"),
        (sample, "_draw_block", lambda *_: "drawing tokens"),
        (forward, "evaluate", lambda *_: "teacher's pictures"),
        (forward, "forward", lambda model, batch, view, *_: f"{name(model)} forward, {view}"),
        (gradients, "score", lambda *_: "loss phase"),
        (backward, "_backward", lambda student, batch, view, *_: f"student backward, {view}"),
        (optimizer, "update", lambda *_: "AdamW"),
    ]
    with ExitStack() as stack:
        for module, function, label in phases:
            timed = _timed(getattr(module, function), label, ledger)
            stack.enter_context(mock.patch.object(module, function, timed))
        yield


def _timed(function: Callable, label: Label, ledger: dict[str, float]) -> Callable:
    def call(*arguments: Any, **options: Any) -> Any:
        phase = label(*arguments)
        mx.reset_peak_memory()
        begin = time.perf_counter()
        found = function(*arguments, **options)
        if isinstance(found, mx.array | dict):
            mx.eval(found)
        ledger[f"{phase}, seconds"] = ledger.get(f"{phase}, seconds", 0.0) + time.perf_counter() - begin
        ledger[f"{phase}, peak GB"] = max(ledger.get(f"{phase}, peak GB", 0.0), mx.get_peak_memory() / 1e9)
        return found

    return call
