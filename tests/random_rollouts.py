"""Rollouts over random prompts, and random students with adapters that have moved: what gradients are tested on."""

import mlx.core as mx
import numpy as np

from random_models import random_completion, random_model, random_prompt
from vgs_mlx.models import adapters
from vgs_mlx.models.logprobs import completion_hidden
from vgs_mlx.models.rows import Continued, encode
from vgs_mlx.types import Rollout

LENGTHS = (5, 3, 7, 4, 6)


def rollouts():
    prompts = [random_prompt(1, words=3), random_prompt(2, pictures=2, words=6)]
    made = []
    for index, length in enumerate(LENGTHS):
        ids = random_completion(index, length)
        made.append(Rollout(prompts[index // 3], ids, np.zeros(length, dtype=np.float32), True, index // 3))
    return made


def prepared(settings, seed=0, tied=True):
    model = random_model(seed, tied=tied, scale=2.0)
    adapters.prepare(model, settings, seed=1)
    weights = adapters.trainable_weights(model.module)
    mx.random.seed(3)
    moved = {
        name: value + 0.2 * mx.random.normal(value.shape) for name, value in weights.items() if "lora" in name
    }
    adapters.set_weights(model.module, moved)
    mx.eval(model.module.parameters())
    return model


def flat_logits(model, view):
    sequences = [Continued(each.prompt.student[view], each.completion) for each in rollouts()]
    return model.logits(completion_hidden(model, sequences, encode(model, [view for view, _ in sequences])))
