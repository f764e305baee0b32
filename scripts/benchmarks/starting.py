"""What the start-up probes take at Qwen3-VL's vocabulary, whose log-probs cost more than tiny bodies do."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import made
from benchmarks.timing import Medians, ratio
from vgs_mlx.data import pairing, shapes
from vgs_mlx.data.prompts import render
from vgs_mlx.models import adapters, probes
from vgs_mlx.models.base import LoadedModel
from vgs_mlx.models.loading import load_model
from vgs_mlx.models.rows import Encodings, encode, evaluate
from vgs_mlx.recipe import options as recipes
from vgs_mlx.rollout.sample import Sampling, sample
from vgs_mlx.train.setup import PROBED, PROBED_LENGTH
from vgs_mlx.types import Prompt

MOST = 5.0  # seconds, all probes together


def run(repetitions: int) -> Medians:
    """Seconds of each part: the least of all repetitions, since whatever else runs only ever adds to them."""
    with tempfile.TemporaryDirectory() as folder:
        path = made.with_real_vocabulary(Path(folder) / "model")
        student, teacher = (
            load_model(str(path), f"--{role}", say=lambda _: None) for role in ("student", "teacher")
        )
    adapters.prepare(student, recipes.Student(rank=16), seed=0)
    prompts = [render(student.processor, each, recipes.Data()) for each in shapes.examples("train", PROBED)]
    rounds = [_round(student, teacher, prompts) for _ in range(repetitions)]
    least = {part: min(each[part] for each in rounds) for part in rounds[0]}
    return {part: {"seconds": seconds} for part, seconds in {**least, "all": sum(least.values())}.items()}


def compare(found: Medians) -> None:
    """The bound."""
    ratio("seconds of all probes", found["all"]["seconds"], 1.0, most=MOST)


def _round(student: LoadedModel, teacher: LoadedModel, prompts: list[Prompt]) -> dict[str, float]:
    """What `setup.probe` does, and the check of the two processors before it, part by part."""
    seconds: dict[str, float] = {}

    def timed(part: str, call: Callable[[], Any]) -> Any:
        begin = time.perf_counter()
        result = call()
        seconds[part] = time.perf_counter() - begin
        return result

    def encoded(model: LoadedModel) -> Encodings:
        return evaluate(encode(model, [prompt.student[view] for prompt in prompts for view in probes.VIEWS]))

    timed("same language", lambda: pairing.same_language(student.processor, teacher.processor))
    encodings = timed("student: pictures", lambda: encoded(student))
    views, seeds = (
        [prompt.student["with_image"] for prompt in prompts],
        [[(0, row)] for row in range(len(prompts))],
    )
    drawn = timed(
        "student: completions", lambda: sample(student, views, seeds, encodings, Sampling(PROBED_LENGTH))
    )
    completions = [row[0].ids for row in drawn]
    for name, model in (("student", student), ("teacher", teacher)):
        if name == "teacher":
            encodings = timed("teacher: pictures", lambda: encoded(teacher))
        trial = timed(
            f"{name}: forward passes",
            lambda model=model, encodings=encodings: probes.attempt(model, prompts, completions, encodings),
        )
        for probe in (probes.causality, probes.padding, probes.continuation, probes.text_view):
            timed(f"{name}: {probe.__name__}", lambda probe=probe, trial=trial: probe(trial))
        if name == "student":
            sampled = [row[0].sampling_logprobs for row in drawn]
            timed(
                "student: sampling",
                lambda trial=trial, sampled=sampled: probes.sampling(trial, sampled),
            )
    timed("teacher: picture_reaction", lambda: probes.picture_reaction(trial))
    return seconds
