"""The rollouts that one step trains on: answers sampled on-policy, or given by the data."""

from collections.abc import Sequence

import numpy as np

from vgs_mlx.models.base import LoadedModel
from vgs_mlx.models.rows import Encodings, encode, evaluate
from vgs_mlx.recipe import options as recipe
from vgs_mlx.rollout.batches import batches
from vgs_mlx.rollout.sample import Completion, Sampling, sample
from vgs_mlx.types import Example, Prompt, Rollout, Side


def collect(  # more than six parameters: everything that decides what is drawn
    model: LoadedModel,
    prompts: Sequence[Prompt],
    settings: recipe.Rollout,
    encodings: Encodings,
    seed: int,
    step: int,
    side: Side = "student",
) -> list[Rollout]:
    """Rollouts of the model with the picture, prompt by prompt, at most `settings.batch_size` at a time.

    Completion j of the step's prompt i is drawn with the seed (seed, step, i, j), whatever the batching.
    """
    sampling = Sampling(settings.max_completion_length, settings.temperature, settings.top_p)
    rollouts = []
    for batch in batches(len(prompts), settings.completions_per_prompt, settings.batch_size):
        group = [prompts[i] for i, _ in batch]
        seeds = [[(seed, step, i, j) for j in numbers] for i, numbers in batch]
        views = [prompt.views(side)["with_image"] for prompt in group]
        drawn = sample(model, views, seeds, encodings, sampling)
        rollouts += [
            Rollout(prompts[i], each.ids, each.sampling_logprobs, each.ended, i)
            for (i, _), completions in zip(batch, drawn, strict=True)
            for each in completions
        ]
    return rollouts


def greedy(model: LoadedModel, prompts: Sequence[Prompt], longest: int, at_once: int) -> list[Completion]:
    """A model's most likely completion of each prompt with its pictures, `at_once` prompts at a time."""
    found = []
    for start in range(0, len(prompts), at_once):
        views = [prompt.student["with_image"] for prompt in prompts[start : start + at_once]]
        encodings = evaluate(encode(model, views))
        drawn = sample(model, views, [[(0,)]] * len(views), encodings, Sampling(longest, temperature=0.0))
        found += [completion for [completion] in drawn]
    return found


def given_text(example: Example) -> str:
    """A row's own answer in full: the worked solution, or the boxed answer if there is none."""
    return example.solution or f"\\boxed{{{example.answer}}}"


def given_answers(model: LoadedModel, prompts: Sequence[Prompt]) -> list[Rollout]:
    """The rows' own answers (`given_text`) as rollouts.

    They are never cut and end with an end-of-sequence id. Sampling log-probs are 0, as nothing was sampled.
    """
    tokenizer = model.processor.tokenizer
    found = []
    for number, prompt in enumerate(prompts):
        ids = tokenizer(given_text(prompt.example), add_special_tokens=False)["input_ids"]
        ids = [*ids, tokenizer.eos_token_id]
        found.append(
            Rollout(prompt, np.array(ids, dtype=np.int32), np.zeros(len(ids), dtype=np.float32), True, number)
        )
    return found
