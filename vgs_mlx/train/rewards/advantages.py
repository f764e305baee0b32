"""Rewards of sampled answers and the advantage of every token (GRPO, PACR, PDCR)."""

import functools
import importlib.util
import math
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from vgs_mlx.errors import Refusal
from vgs_mlx.grading import grade_example
from vgs_mlx.models.base import LoadedModel
from vgs_mlx.models.rows import Encodings
from vgs_mlx.objective.dense_rewards import step_advantages
from vgs_mlx.objective.policy import group_advantages
from vgs_mlx.recipe.options import DENSE_REWARDS, Grpo, Recipe
from vgs_mlx.recipe.paths import reward_file
from vgs_mlx.train.rewards.confidence import confidence_gains, visual_dependence
from vgs_mlx.train.rewards.reasoning_steps import Steps, cut
from vgs_mlx.types import Example, Rollout

OF_THE_ANSWER = ("answer", *DENSE_REWARDS)  # 1 for the right final answer, else 0
Reward = Callable[[Example, str], float]


@dataclass(frozen=True)
class Rewarded:
    """The rewards and advantages of a step's answers."""

    rewards: np.ndarray  # (R,)
    right: np.ndarray  # (R,) bool: whether the final answer is right, whatever the reward
    by_token: list[np.ndarray]  # the advantages of each rollout's tokens, (T,) each


def advantages(
    student: LoadedModel, rollouts: Sequence[Rollout], recipe: Recipe, encodings: Encodings
) -> Rewarded:
    """The reward of every rollout, and its advantages within its prompt's group."""
    texts = [_text(student, rollout) for rollout in rollouts]
    examples = [rollout.prompt.example for rollout in rollouts]
    right = np.array([grade_example(text, each).right for each, text in zip(examples, texts, strict=True)])
    if recipe.grpo.reward in OF_THE_ANSWER:
        earned = right.astype(float)
    else:
        reward = reward_function(recipe.grpo)
        earned = np.array([reward(each, text) for each, text in zip(examples, texts, strict=True)])
    outcome = group_advantages(earned, [rollout.number for rollout in rollouts])
    if recipe.grpo.reward in DENSE_REWARDS:
        return Rewarded(earned, right, _dense(student, rollouts, outcome, recipe, encodings))
    spread = [
        np.full(len(each.completion), advantage) for each, advantage in zip(rollouts, outcome, strict=True)
    ]
    return Rewarded(earned, right, spread)


def reward_function(settings: Grpo) -> Reward:
    """1 for the right final answer, or the function that the recipe names. Raises `Refusal`."""
    if settings.reward in OF_THE_ANSWER:
        return lambda example, text: float(grade_example(text, example).right)
    function = _own(settings.reward)

    def reward(example: Example, text: str) -> float:
        where, fix = (
            f"grpo.reward={settings.reward}",
            f"for row {example.id}: fix the function and start a new run",
        )
        try:
            value = float(function(example, text))
        except Exception as error:
            raise Refusal(f"{where}: {error.__class__.__name__}: {error}, {fix}") from error
        if not math.isfinite(value):
            raise Refusal(f"{where}: returned {value} {fix}")
        return value

    return reward


@functools.cache  # a run keeps its function, even if the file changes meanwhile
def _own(reward: str) -> Callable[[Example, str], float]:
    where, file, name = f"grpo.reward={reward}", reward_file(reward), reward.rpartition(":")[2]
    if file is None:
        raise Refusal(f"{where}: give answer, pacr, pdcr, or path/to/file.py:function")
    if not os.path.isfile(file):
        raise Refusal(f"{where}: no such file: {file}")
    spec = importlib.util.spec_from_file_location(f"vgs_mlx_reward_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise Refusal(f"{where}: {file} is not a Python file: give one whose name ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    try:
        spec.loader.exec_module(module)
        return vars(module)[name]
    except KeyError as error:
        raise Refusal(f"{where}: {file} has no function {name}") from error
    except Exception as error:
        raise Refusal(f"{where}: {file} can't be loaded: {error.__class__.__name__}: {error}") from error


def _dense(
    student: LoadedModel,
    rollouts: Sequence[Rollout],
    outcome: np.ndarray,
    recipe: Recipe,
    encodings: Encodings,
) -> list[np.ndarray]:
    settings, size = recipe.grpo, recipe.train.microbatch_size
    steps = [cut(student.processor.tokenizer, each.completion, each.ended) for each in rollouts]
    gains = confidence_gains(student, rollouts, steps, settings.discount, encodings, size)
    visual = (
        visual_dependence(student, rollouts, steps, encodings, size) if settings.reward == "pdcr" else None
    )
    by_step = step_advantages(gains, visual, outcome, settings.outcome_coef, settings.process_coef)
    return [
        _spread(each, values, settings.outcome_coef * advantage)
        for each, values, advantage in zip(steps, by_step, outcome, strict=True)
    ]


def _spread(steps: Steps, values: np.ndarray, outside: float) -> np.ndarray:
    """The advantage of every token: its step's, or after the reasoning the outcome's (`outside`)."""
    found = np.full(steps.length, outside)
    for (start, stop), value in zip(steps.spans, values, strict=True):
        found[start:stop] = value
    return found


def _text(student: LoadedModel, rollout: Rollout) -> str:
    return student.processor.tokenizer.decode(rollout.completion.tolist(), skip_special_tokens=True)
