"""AdamW with its schedule, over the student's trainable weights."""

import mlx.core as mx
import mlx.optimizers as optim
from mlx.utils import tree_flatten, tree_unflatten

from vgs_mlx.models import adapters
from vgs_mlx.models.base import LoadedModel
from vgs_mlx.objective.steering import Tree
from vgs_mlx.recipe import options as recipe


def make(settings: recipe.Train, student: LoadedModel, updates_per_step: int = 1) -> optim.AdamW:
    """AdamW with bias correction (as in the paper's framework), its state initialised for the trainable weights."""
    optimizer = optim.AdamW(
        _schedule(settings, updates_per_step),
        weight_decay=settings.weight_decay,
        bias_correction=True,
    )
    optimizer.init(_nested(adapters.trainable_weights(student.module)))
    return optimizer


def update(optimizer: optim.AdamW, student: LoadedModel, tree: Tree) -> None:
    """One update of the student in place; `tree` is empty afterwards.

    Weights are computed one after the other, and nothing else refers to a weight's old value or its gradient. So
    their memory is reused at once.
    """
    gradients = _nested(tree)
    tree.clear()
    updated = optimizer.apply_gradients(gradients, _nested(adapters.trainable_weights(student.module)))
    del gradients
    student.module.update(updated)
    for _, value in tree_flatten(updated):
        mx.eval(value)
    mx.eval(optimizer.state)


def _schedule(settings: recipe.Train, updates_per_step: int):
    """Linear warm-up, then constant or cosine down to 0 at the last step."""
    peak, warmup_updates = settings.learning_rate, settings.warmup_steps * updates_per_step
    after = settings.steps * updates_per_step - warmup_updates  # setup refuses a warm-up as long as the run
    main = optim.cosine_decay(peak, after) if settings.schedule == "cosine" else (lambda step: mx.array(peak))
    if not warmup_updates:
        return main if settings.schedule == "cosine" else peak
    warmup = optim.linear_schedule(peak / warmup_updates, peak, warmup_updates)
    return optim.join_schedules([warmup, main], [warmup_updates])


def _nested(tree: Tree) -> dict:
    return tree_unflatten(list(tree.items()))
