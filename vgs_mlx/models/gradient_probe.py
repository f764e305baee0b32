"""Checks once, at the start of a run, that the student's gradient is right as its recipe trains it."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten

from vgs_mlx.errors import Refusal
from vgs_mlx.models.base import LoadedModel
from vgs_mlx.models.logprobs import completion_hidden
from vgs_mlx.models.probes import Trial, is_float32
from vgs_mlx.models.recomputing import recomputing
from vgs_mlx.models.rows import Continued, Encodings

GRADIENTS_APART = {True: 0.02, False: 0.25}
"""Weights are float32 or not -> the largest allowed relative distance of a gradient from that of separate rows.
Every wrong gradient measured was at least 1.0 away."""


def gradients(trial: Trial, *, checkpointed: bool) -> None:
    """Completions that continue one prefill must have the gradient of separate rows. Raises `Refusal`.

    `checkpointed`: the recipe's `train.grad_checkpoint`. A cache that blocks the gradient leaves values right. The
    weights of the first trained layer show it, since their gradient passes all later layers. A model without trained
    decoder layers is not checked.
    """
    model, layers = trial.model, trial.model.family.layers(trial.model.module)
    trained = next((each for each in layers if tree_flatten(each.trainable_parameters())), None)
    if trained is None:
        return
    view, completion = trial.prompts[0].views(trial.side)["with_image"], trial.completions[0]
    sequences = [Continued(view, each) for each in (completion, completion[::-1][: 1 + len(completion) // 2])]

    def gradient(shares_prefix: bool, recomputed: bool) -> mx.array:
        with recomputing(layers) if recomputed else nullcontext():
            return _gradient(replace(model, shares_prefix=shares_prefix), trained, sequences, trial.encodings)

    separate = gradient(False, False)
    ways = [gradient(True, checkpointed), *([gradient(False, True)] if checkpointed else [])]
    apart = max((mx.linalg.norm(each - separate) / mx.linalg.norm(separate)).item() for each in ways)
    if not apart <= GRADIENTS_APART[is_float32(model)]:
        how = " with train.grad_checkpoint" if checkpointed else ""
        raise Refusal(
            f"{model.name}: the gradient of completions that continue their prompt's cache{how} is {apart:.2g} of its "
            "size from that of separate rows, so training would go wrong: use another family or version of mlx-vlm"
            + (", or set train.grad_checkpoint=false" if checkpointed else "")
        )


def _gradient(
    model: LoadedModel, layer: nn.Module, sequences: Sequence[Continued], encodings: Encodings
) -> mx.array:
    """The gradient of a fixed weighted sum of the states with respect to one layer's weights, flat."""
    weights = layer.trainable_parameters()

    def total(weights: dict) -> mx.array:
        layer.update(weights)
        hidden = completion_hidden(model, sequences, encodings).astype(mx.float32)
        pull = np.random.RandomState(0).standard_normal(hidden.shape).astype(np.float32)
        return (hidden * mx.array(pull)).sum()

    try:
        found = tree_flatten(mx.grad(total)(weights))
        flat = mx.concatenate([each.astype(mx.float32).reshape(-1) for _, each in found])
        mx.eval(flat)
        return flat
    finally:
        layer.update(weights)
