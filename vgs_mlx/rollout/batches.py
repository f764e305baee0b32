"""Splits sampling into batches of at most `rollout.batch_size` completions."""

from collections.abc import Sequence

Batch = Sequence[tuple[int, range]]
"""The indices of prompts that are sampled together, each with the indices of its completions."""


def batches(prompts: int, completions: int, most: int) -> list[Batch]:
    """`prompts` x `completions` in batches of at most `most` completions, in order.

    A prompt's completions stay together, since they share its prefill, unless there are more than `most`.
    """
    if completions > most:
        parts = [range(first, min(first + most, completions)) for first in range(0, completions, most)]
        return [[(prompt, part)] for prompt in range(prompts) for part in parts]
    together = prompts_at_once(prompts, completions, most)
    return [
        [(prompt, range(completions)) for prompt in range(first, min(first + together, prompts))]
        for first in range(0, prompts, together)
    ]


def prompts_at_once(prompts: int, completions: int, most: int) -> int:
    """How many of the prompts are in the largest batch."""
    return min(prompts, max(1, most // completions))


def completions_at_once(prompts: int, completions: int, most: int) -> int:
    """How many completions are in the largest batch."""
    return min(most, completions * prompts_at_once(prompts, completions, most))
