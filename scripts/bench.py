"""Measures what a step costs, as ratios: every comparison in one process, alternating, medians after a warm-up.

    python scripts/bench.py scaled          a step of each kind, its phases and its memory
    python scripts/bench.py growth          time and memory by completions, image tokens and length
    python scripts/bench.py real-vocab      the loss phase alone at Qwen3-VL's vocabulary
    python scripts/bench.py sampling        our sampler beside mlx-vlm's batch generator

A "step" is rollouts, scoring, backward and update. Models are random Qwen3-VLs; completions never end early.
"""

import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import vgs_mlx  # noqa: F401  (before mlx: it loads a fast BLAS)

# isort: split
import click
import mlx.core as mx
import numpy as np
from mlx_vlm.generate.ar import BatchGenerator
from mlx_vlm.utils import StoppingCriteria
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import random_models as made
from vgs_mlx import recipe as recipes
from vgs_mlx.models import adapters
from vgs_mlx.models.base import LoadedModel
from vgs_mlx.models.rows import encode, evaluate
from vgs_mlx.objective.chunked import Head, score
from vgs_mlx.objective.objectives import OBJECTIVES, total, weights_by_role
from vgs_mlx.objective.terms import Options, Taken
from vgs_mlx.objective.visual import Views
from vgs_mlx.objective.weightings import Batch
from vgs_mlx.rollout.sample import Sampling, sample
from vgs_mlx.train import optimizer as adamw
from vgs_mlx.train.step import Progress, run_step
from vgs_mlx.types import Example, Prompt, PromptView

VOCABULARY = 8192
PATCH = 16
SIZES = {"student": (256, 8, 0), "teacher": (512, 8, 1)}  # width, layers, seed
console = Console(highlight=False)


def scaled_models() -> tuple[LoadedModel, LoadedModel]:
    """Student and teacher with the proportions of 2B and 8B: a tied head of about 15 %, a teacher 4 times as big."""
    student, teacher = plain_model("student"), plain_model("teacher")
    adapters.prepare(student, recipes.Student(rank=16), seed=0)
    return student, teacher


def plain_model(name: str) -> LoadedModel:
    """The student or the teacher of `scaled`, frozen."""
    return sized_model(name, *SIZES[name])


def sized_model(name: str, hidden: int, layers: int, seed: int) -> LoadedModel:
    """A random Qwen3-VL of a width and depth, its other sizes in proportion."""
    text = dict(
        num_hidden_layers=layers, hidden_size=hidden, intermediate_size=3 * hidden, num_attention_heads=hidden // 64,
        num_key_value_heads=max(1, hidden // 128), head_dim=64, vocab_size=VOCABULARY, tie_word_embeddings=True,
        rope_scaling={"type": "default", "mrope_section": [12, 10, 10]},
    )  # fmt: skip
    vision = dict(
        depth=4, hidden_size=hidden // 2, intermediate_size=2 * hidden, out_hidden_size=hidden, num_heads=hidden // 64,
        patch_size=PATCH, num_position_embeddings=256, deepstack_visual_indexes=[0, 1, 2],
    )  # fmt: skip
    model = made.sized_model(name, text, vision, seed=seed, scale=1.0, vocabulary=VOCABULARY)
    return replace(model, end_ids=frozenset())  # completions run to their full length


def prompts(count: int, image_tokens: int, words: int = 24) -> list[Prompt]:
    """Prompts with one random picture of `image_tokens` tokens each."""
    side = 2 * round(image_tokens**0.5)
    rng = np.random.default_rng(0)
    found = []
    for row in range(count):
        text = rng.integers(6, VOCABULARY, words).astype(np.int32)
        ids = np.concatenate([[made.VISION_START], np.full(side * side // 4, made.IMAGE), text]).astype(
            np.int32
        )
        pixels = rng.normal(size=(side * side, 3 * 2 * PATCH * PATCH)).astype(np.float32)
        view = PromptView(ids, pixels, np.array([[1, side, side]]))
        found.append(Prompt(Example(f"row-{row}", "?", "1", ()), view, PromptView(text, None, None)))
    return found


def recipe(
    objective: str, norm_scale: str, *, completions: int = 4, length: int = 128, micro: int = 8
) -> recipes.Recipe:
    return recipes.Recipe(
        rollout=recipes.Rollout(
            completions_per_prompt=completions, max_completion_length=length, batch_size=64
        ),
        objective=recipes.Objective(name=objective, norm_scale=norm_scale),
        train=recipes.Train(microbatch_size=micro),
    )


def one_step(student: LoadedModel, teacher: LoadedModel, asked: list[Prompt], settings: recipes.Recipe, packs: bool,
             measured: bool) -> dict[str, float]:  # fmt: skip
    """Seconds of a step's phases and its peak memory. The student's weights are put back afterwards."""
    kept = adapters.trainable_weights(student.module)
    progress = Progress(step=0 if measured else 1, norm_scales=[0.5])
    mx.clear_cache()
    mx.reset_peak_memory()
    result = run_step(
        replace(student, packs=packs), replace(teacher, packs=packs), asked, settings,
        adamw.make(settings.train, student), progress,
    )  # fmt: skip
    adapters.set_weights(student.module, kept)
    return {**result.seconds, "peak_gb": mx.get_peak_memory() / 1e9}


def alternate(
    variants: dict[str, Callable[[], dict[str, float]]], repetitions: int
) -> dict[str, dict[str, float]]:
    """Medians of what each variant measures, the variants taking turns; one round of warm-up."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in variants}
    for repetition in range(repetitions + 1):
        for name, run in variants.items():
            found = run()
            if repetition:
                runs[name].append(found)
    return {
        name: {key: statistics.median(each[key] for each in found) for key in found[0]}
        for name, found in runs.items()
    }


def show(title: str, found: dict[str, dict[str, float]], file: Path | None) -> None:
    table = Table(title=title, title_justify="left", box=None)
    names = list(next(iter(found.values())))
    for heading in ("", *names):
        table.add_column(heading, justify="right" if heading else "left")
    for name, values in found.items():
        table.add_row(name, *(f"{values[key]:.3f}" for key in names))
    console.print(table)
    if file:
        machine = {"platform": platform.platform(), "device": str(mx.default_device()), "mlx": mx.__version__}
        file.write_text(json.dumps({"title": title, "machine": machine, "medians": found}, indent=2) + "\n")


def ratio(text: str, left: float, right: float, bound: str) -> None:
    console.print(f"{text}: {left / right:.2f}   (must {bound})", markup=False)


@click.group()
def main() -> None:
    """See the module's text."""


_repetitions = click.option("--repetitions", default=5, show_default=True)
_json = click.option("--json", "file", type=click.Path(path_type=Path))


@main.command()
@_repetitions
@_json
@click.option("--prompts", "count", default=8, show_default=True, help="Fewer for a quick look.")
@click.option("--length", default=128, show_default=True, help="Tokens of a completion.")
def scaled(repetitions: int, file: Path | None, count: int, length: int) -> None:
    """8 prompts x 4 completions x 128 tokens, 256 image tokens."""
    student, teacher = scaled_models()
    asked = prompts(count, 256)
    standard, interval, exact = (
        recipe(name, norm_scale, length=length)
        for name, norm_scale in (("standard", "interval"), ("vgs", "interval"), ("vgs", "exact"))
    )
    variants = {
        "standard, a row each": lambda: one_step(student, teacher, asked, standard, False, False),
        "standard": lambda: one_step(student, teacher, asked, standard, True, False),
        "vgs, η known": lambda: one_step(student, teacher, asked, interval, True, False),
        "vgs, η measured": lambda: one_step(student, teacher, asked, exact, True, True),
    }
    found = alternate(variants, repetitions)
    show("a step at `scaled`, seconds", found, file)
    every = recipe("vgs", "interval").objective.norm_scale_every
    known, measured = found["vgs, η known"], found["vgs, η measured"]
    vgs = ((every - 1) * known["step"] + measured["step"]) / every
    ratio(
        "VGS (η interval) / standard with a row each",
        vgs,
        found["standard, a row each"]["step"],
        "<= 0.9, aim 0.6",
    )
    ratio("VGS (η interval) / our standard", vgs, found["standard"]["step"], "<= 1.4, aim 1.2")
    ratio("VGS (η exact) / VGS (η interval)", measured["step"], vgs, "<= 1.35, aim 1.2")
    ratio("peak memory, VGS / standard", known["peak_gb"], found["standard"]["peak_gb"], "<= 1.10, aim 1.02")


@main.command()
@_repetitions
@_json
def growth(repetitions: int, file: Path | None) -> None:
    """How a VGS step grows, packed and with a row for each completion."""
    student, teacher = scaled_models()
    cases = {f"{n} completions": (2, 64, n, 64) for n in (1, 2, 4, 8, 16)}
    cases |= {f"{n} image tokens": (2, n, 4, 64) for n in (64, 256, 1024)}
    cases |= {f"{n} tokens long": (1, 64, 2, n) for n in (128, 512, 2048)}
    variants = {}
    for name, (count, images, completions, length) in cases.items():
        asked, settings = (
            prompts(count, images),
            recipe("vgs", "interval", completions=completions, length=length),
        )
        for packs in (True, False):
            variants[f"{name}, {'packed' if packs else 'a row each'}"] = (
                lambda asked=asked, settings=settings, packs=packs: one_step(
                    student, teacher, asked, settings, packs, False
                )
            )
    show("how a VGS step grows, seconds", alternate(variants, repetitions), file)


@main.command("real-vocab")
@_repetitions
@_json
def real_vocab(repetitions: int, file: Path | None) -> None:
    """The loss phase alone: V = 151,936, D = 2,048."""
    vocabulary, hidden = 151_936, 2_048
    mx.random.seed(0)
    weights = [mx.random.normal((vocabulary, hidden)) * hidden**-0.5 for _ in range(2)]
    heads = [Head(lambda _, states, weight=weight: states @ weight.T, {}) for weight in weights]
    support = mx.ones(vocabulary, dtype=mx.bool_)
    mx.eval(weights, support)

    def phase(objective: str, positions: int, chunk: int) -> dict[str, float]:
        states = [mx.random.normal((positions, hidden)) for _ in range(4)]
        ids = mx.zeros(positions, dtype=mx.int32)
        mx.eval(states, ids)
        text = objective == "vgs"
        student, teacher = (
            Views(states[0], states[1] if text else None),
            Views(states[2], states[3] if text else None),
        )
        scores = {"visual_dependency_score": np.linspace(0, 1, positions)}
        batch = Batch(np.full(positions, 1 / positions), [positions], [0], scores, 2.0)
        weighed = total(weights_by_role(OBJECTIVES[objective], batch), 2.0, 0.01)
        mx.clear_cache()
        mx.reset_peak_memory()
        inputs = mx.get_active_memory()
        begin = time.perf_counter()
        found = score(student, teacher, *heads, support, Taken(ids), weighed, chunk, Options())
        mx.eval(found.terms, found.cotangents)
        return {
            "seconds": time.perf_counter() - begin,
            "beyond_inputs_gb": (mx.get_peak_memory() - inputs) / 1e9,
        }

    found = alternate(
        {
            "standard, 128 positions": lambda: phase("standard", 128, 64),
            "vgs, 128 positions": lambda: phase("vgs", 128, 64),
        },
        repetitions,
    ) | alternate(
        {
            "vgs, 256 positions": lambda: phase("vgs", 256, 64),
            "vgs, 1,024 positions": lambda: phase("vgs", 1024, 64),
            "vgs, 2,048 positions": lambda: phase("vgs", 2048, 64),
        },
        1,
    )
    console.print("1,024 positions at once follow; they need about 18 GB")
    found |= alternate({"vgs, 1,024 positions at once": lambda: phase("vgs", 1024, 1024)}, 1)
    show("the loss phase at V = 151,936", found, file)
    small, whole = found["vgs, 1,024 positions"], found["vgs, 1,024 positions at once"]
    ratio("loss phase, time, VGS / standard", found["vgs, 128 positions"]["seconds"],
          found["standard, 128 positions"]["seconds"], "<= 2.2, aim 1.6")  # fmt: skip
    ratio(
        "peak memory, in chunks / at once",
        small["beyond_inputs_gb"],
        whole["beyond_inputs_gb"],
        "<= 0.30, aim 0.15",
    )
    ratio("growth of memory, 2,048 / 256 positions", found["vgs, 2,048 positions"]["beyond_inputs_gb"],
          found["vgs, 256 positions"]["beyond_inputs_gb"], "<= 1.05")  # fmt: skip


@main.command()
@_repetitions
@_json
def sampling(repetitions: int, file: Path | None) -> None:
    """8 prompts x 4 completions x 128 tokens with 256 image tokens: tokens a second."""
    student, _ = scaled_models()
    asked = [prompt.with_image for prompt in prompts(8, 256)]
    seeds = [[(0, row, column) for column in range(4)] for row in range(8)]

    never_ends = SimpleNamespace(tokenizer=SimpleNamespace(stopping_criteria=StoppingCriteria([])))

    def ours() -> dict[str, float]:
        begin = time.perf_counter()
        drawn = sample(student, asked, seeds, evaluate(encode(student, asked)), Sampling(128))
        return {
            "tokens_per_second": sum(len(each.ids) for row in drawn for each in row)
            / (time.perf_counter() - begin)
        }

    def stock() -> dict[str, float]:
        begin = time.perf_counter()
        repeated = [view for view in asked for _ in range(4)]
        features = [
            student.module.get_input_embeddings(
                mx.array(view.ids)[None],
                mx.array(view.pixel_values),
                image_grid_thw=mx.array(view.image_grid_thw),
            ).to_dict()
            for view in repeated
        ]
        generator = BatchGenerator(
            student.module.language_model, never_ends, max_tokens=128,
            completion_batch_size=32, prefill_batch_size=1, sampler=lambda logprobs: mx.random.categorical(logprobs),
        )  # fmt: skip
        generator.insert(
            [view.ids.tolist() for view in repeated], 128,
            prompt_kwargs=[{key: value for key, value in each.items() if value is not None} for each in features],
        )  # fmt: skip
        tokens = 0
        while True:
            _, responses = generator.next()
            tokens += len(responses)
            if tokens >= 32 * 128 or not (responses or generator.has_work):
                break
        return {"tokens_per_second": tokens / (time.perf_counter() - begin)}

    found = alternate({"ours": ours, "mlx-vlm's batch generator": stock}, repetitions)
    show("sampling", found, file)
    ratio("tokens a second, ours / mlx-vlm's", found["ours"]["tokens_per_second"],
          found["mlx-vlm's batch generator"]["tokens_per_second"], ">= 1.0, aim 1.3")  # fmt: skip


if __name__ == "__main__":
    main()
