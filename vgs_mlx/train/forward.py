"""Forward passes of both models over rollouts: hidden states in the views needed, heads, and counts of positions."""

from collections.abc import Sequence

import mlx.core as mx

from vgs_mlx.models import adapters
from vgs_mlx.models.base import LoadedModel
from vgs_mlx.models.logprobs import completion_hidden
from vgs_mlx.models.rows import Continued, Encodings, encode, evaluate
from vgs_mlx.objective.chunked import Head
from vgs_mlx.objective.objectives import Objective
from vgs_mlx.objective.visual import Views
from vgs_mlx.train.microbatches import positions
from vgs_mlx.types import Rollout, Side


def teacher_hidden(
    teacher: LoadedModel | None, batches: Sequence[Sequence[Rollout]], objective: Objective
) -> list[Views]:
    """The teacher's hidden states for every micro-batch, in the views that the objective needs."""
    views = objective.teacher_views
    if teacher is None or not views:
        return [Views() for _ in batches]
    prompts = [rollout.prompt for batch in batches for rollout in batch]
    encodings = evaluate(encode(teacher, [prompt.teacher[view] for prompt in prompts for view in views]))
    return [hidden_states(teacher, batch, views, encodings, "teacher") for batch in batches]


def hidden_states(
    model: LoadedModel,
    batch: Sequence[Rollout],
    views: set[str],
    encodings: Encodings | None,
    side: Side = "student",
) -> Views:
    """The states that predict the completions' tokens, (N, D) in each of `views`, computed now."""
    hidden = Views(**{view: forward(model, batch, view, encodings, side) for view in sorted(views)})
    mx.eval([each for each in hidden if each is not None])
    return hidden


def forward(
    model: LoadedModel,
    batch: Sequence[Rollout],
    view: str,
    encodings: Encodings | None,
    side: Side = "student",
) -> mx.array:
    """The same in one view, not yet computed. If `encodings` is None, the pictures are encoded here, differentiably."""
    sequences = [Continued(rollout.prompt.views(side)[view], rollout.completion) for rollout in batch]
    return completion_hidden(model, sequences, encodings or encode(model, [each for each, _ in sequences]))


def frozen_head(teacher: LoadedModel | None) -> Head | None:
    """The teacher's head; None without a teacher."""
    return None if teacher is None else Head(lambda _, states: teacher.logits(states), {})


def student_head(student: LoadedModel) -> Head:
    """The student's head with its trainable weights."""
    prefix = student.family.head_path(student.module) + "."
    trainable = adapters.trainable_weights(student.module)
    names = {name: value for name, value in trainable.items() if name.startswith(prefix)}
    return Head(
        lambda weights, states: adapters.call_with(student.module, weights, lambda: student.logits(states)),
        names,
    )


def count_positions(
    student: LoadedModel,
    teacher: LoadedModel | None,
    batches: Sequence[Sequence[Rollout]],
    objective: Objective,
) -> dict[str, int]:
    """Positions of one forward pass of both models in their views, as computed and with a row for each completion."""
    models = [(student, objective.student_views, "student")]
    models += [(teacher, objective.teacher_views, "teacher")] if teacher else []
    return {
        name: sum(
            positions(batch, views, shares_prefix=model.shares_prefix and name == "computed", side=side)
            for model, views, side in models
            for batch in batches
        )
        for name in ("computed", "unpacked")
    }
