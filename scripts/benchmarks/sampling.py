"""Tokens per second of our sampler and of mlx-vlm's batch generator: 8 prompts x 4 completions x 128 tokens."""

import time
from collections.abc import Callable
from types import SimpleNamespace

import mlx.core as mx
from mlx_vlm.generate.ar import BatchGenerator
from mlx_vlm.utils import StoppingCriteria

from benchmarks import made
from benchmarks.timing import Medians, alternate, ratio
from vgs_mlx.models.base import LoadedModel
from vgs_mlx.models.rows import encode, evaluate
from vgs_mlx.rollout.sample import Sampling, sample
from vgs_mlx.types import View

PROMPTS, COMPLETIONS, LENGTH, IMAGE = 8, 4, 128, 256


def run(repetitions: int) -> Medians:
    """Speeds, with pictures and prefill. Without adapters: the most that merging them before sampling could gain."""
    (student, _), plain = made.scaled_models(), made.plain_model("student")
    asked = [prompt.student["with_image"] for prompt in made.prompts(PROMPTS, IMAGE)]
    return alternate(
        {
            "ours": lambda: _ours(student, asked),
            "ours, no adapters": lambda: _ours(plain, asked),
            "mlx-vlm's batch generator": lambda: _stock(student, asked),
        },
        repetitions,
    )


def compare(found: Medians) -> None:
    """The ratios that count."""
    speed = {name: values["tokens_per_second"] for name, values in found.items()}
    ratio(
        "tokens a second, ours / mlx-vlm's",
        speed["ours"],
        speed["mlx-vlm's batch generator"],
        least=2.0,
        aim=2.5,
    )
    ratio("tokens a second, without adapters / with", speed["ours, no adapters"], speed["ours"])


def _ours(student: LoadedModel, asked: list[View]) -> dict[str, float]:
    seeds = [[(0, row, column) for column in range(COMPLETIONS)] for row in range(PROMPTS)]
    begin = time.perf_counter()
    drawn = sample(student, asked, seeds, evaluate(encode(student, asked)), Sampling(LENGTH))
    tokens = sum(len(each.ids) for row in drawn for each in row)
    return {"tokens_per_second": tokens / (time.perf_counter() - begin)}


def _stock(student: LoadedModel, asked: list[View]) -> dict[str, float]:
    begin = time.perf_counter()
    drawn = stock([view for view in asked for _ in range(COMPLETIONS)], student, LENGTH)
    return {"tokens_per_second": sum(map(len, drawn)) / (time.perf_counter() - begin)}


def stock(
    views: list[View],
    student: LoadedModel,
    length: int,
    sampler: Callable[[mx.array], mx.array] = lambda logprobs: mx.random.categorical(logprobs),
) -> list[list[int]]:
    """A completion of each view by mlx-vlm's batch generator, all at the same time; none ends early."""
    never_ends = SimpleNamespace(tokenizer=SimpleNamespace(stopping_criteria=StoppingCriteria([])))
    features = [
        student.module.get_input_embeddings(
            mx.array(view.ids)[None],
            mx.array(view.media["pixel_values"]),
            image_grid_thw=mx.array(view.media["image_grid_thw"]),
        ).to_dict()
        for view in views
    ]
    generator = BatchGenerator(
        student.module.language_model, never_ends, max_tokens=length, completion_batch_size=len(views),
        prefill_batch_size=1, sampler=sampler,
    )  # fmt: skip
    numbers = generator.insert(
        [view.ids.tolist() for view in views], length,
        prompt_kwargs=[{key: value for key, value in each.items() if value is not None} for each in features],
    )  # fmt: skip
    drawn: dict[int, list[int]] = {number: [] for number in numbers}
    while any(len(tokens) < length for tokens in drawn.values()):
        _, responses = generator.next()
        for each in responses:
            drawn[each.uid].append(each.token)
        if not (responses or generator.has_work):
            break
    return list(drawn.values())
