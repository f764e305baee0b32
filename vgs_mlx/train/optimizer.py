"""AdamW with its schedule, over the student's trainable weights."""

import mlx.core as mx
import mlx.optimizers as optim
from mlx.utils import tree_flatten, tree_unflatten

from vgs_mlx import recipe
from vgs_mlx.models import adapters
from vgs_mlx.models.base import LoadedModel
from vgs_mlx.objective.steering import Tree


def make(settings: recipe.Train, student: LoadedModel) -> optim.AdamW:
    """AdamW with bias correction (as in the paper's framework), its state made for the trainable weights."""
    optimizer = optim.AdamW(_schedule(settings), weight_decay=settings.weight_decay, bias_correction=True)
    optimizer.init(_nested(adapters.trainable_weights(student.module)))
    return optimizer


def update(optimizer: optim.AdamW, student: LoadedModel, tree: Tree) -> None:
    """One update of the student in place."""
    weights = adapters.trainable_weights(student.module)
    updated = optimizer.apply_gradients(_nested(tree), _nested(weights))
    student.module.update(updated)
    mx.eval(updated, optimizer.state)


def state(optimizer: optim.AdamW) -> Tree:
    """The optimiser's state as named arrays: moments, step and learning rate."""
    return dict(sorted(tree_flatten(optimizer.state)))


def restore(optimizer: optim.AdamW, saved: Tree) -> None:
    """Put back what `state` gave."""
    optimizer.state = tree_unflatten(list(saved.items()))


def _schedule(settings: recipe.Train):
    """Linear warm-up, then constant or cosine down to 0 at the last step."""
    peak = settings.learning_rate
    after = max(1, settings.steps - settings.warmup_steps)
    main = optim.cosine_decay(peak, after) if settings.schedule == "cosine" else (lambda step: mx.array(peak))
    if not settings.warmup_steps:
        return main if settings.schedule == "cosine" else peak
    warmup = optim.linear_schedule(peak / settings.warmup_steps, peak, settings.warmup_steps)
    return optim.join_schedules([warmup, main], [settings.warmup_steps])


def _nested(tree: Tree) -> dict:
    return tree_unflatten(list(tree.items()))
