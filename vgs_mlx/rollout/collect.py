"""The on-policy data of one step: prompts in, the student's rollouts out."""

from collections.abc import Sequence

from vgs_mlx import recipe
from vgs_mlx.models.base import LoadedModel
from vgs_mlx.models.rows import Encodings
from vgs_mlx.rollout.sample import Sampling, sample
from vgs_mlx.types import Prompt, Rollout


def collect(
    student: LoadedModel,
    prompts: Sequence[Prompt],
    settings: recipe.Rollout,
    encodings: Encodings,
    seed: int,
    step: int,
) -> list[Rollout]:
    """Rollouts from p(·|I, x), prompt by prompt, sampled `settings.batch_size` at a time.

    Completion j of the step's prompt i is drawn with the seed (seed, step, i, j), whatever the batching.
    """
    sampling = Sampling(settings.max_completion_length, settings.temperature, settings.top_p)
    at_once = max(1, settings.batch_size // settings.completions_per_prompt)
    rollouts = []
    for start in range(0, len(prompts), at_once):
        group = prompts[start : start + at_once]
        seeds = [
            [(seed, step, start + i, j) for j in range(settings.completions_per_prompt)]
            for i in range(len(group))
        ]
        drawn = sample(student, [prompt.with_image for prompt in group], seeds, encodings, sampling)
        rollouts += [
            Rollout(prompt, each.ids, each.sampling_logprobs, each.ended)
            for prompt, completions in zip(group, drawn, strict=True)
            for each in completions
        ]
    return rollouts
