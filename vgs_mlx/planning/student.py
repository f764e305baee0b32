"""What the student's passes for its gradients hold: with the loss between them, or with body and loss as one."""

from vgs_mlx.objective.objectives import Objective
from vgs_mlx.objective.terms import TERMS
from vgs_mlx.planning import footprint
from vgs_mlx.planning.footprint import FLOAT, Pass
from vgs_mlx.planning.loss import loss_arrays, pulls, trees
from vgs_mlx.planning.phases import (
    Asked,
    Pair,
    chunk_array,
    head_trains,
    hidden_states,
    patches,
    sliced,
    teacher_states,
)
from vgs_mlx.planning.plan import Parts, Phase
from vgs_mlx.planning.work import Work


def student_gradients(name: str, pair: Pair, work: Work, asked: Asked, held: Parts, gradients: int) -> Phase:
    """Every micro-batch's passes; `gradients`: a tree's bytes."""
    return Phase(name, (_in_one_pass if asked.one_pass else _in_two)(pair, work, asked, held, gradients))


def _in_two(pair: Pair, work: Work, asked: Asked, held: Parts, gradients: int) -> tuple[Parts, ...]:
    """The forward pass and the loss in chunks of every micro-batch, then their backward passes.

    The teacher's hidden states go with the micro-batches, whose cotangents wait for the backward passes. In these,
    one view follows the other: the second adds to the first one's tree, and the head's gradients wait.
    """
    trained, pulled = pair.student, _pulls(pair, asked)
    count = trees(asked.objective, separate=asked.separate)
    visible, saved = _trained_vision(pair, work)
    head, own = _head_gradient(pair), hidden_states(trained, work.microbatch * work.length)
    scored = {"student's own hidden states": own * len(asked.objective.student_views)}
    begun = {**held, **teacher_states(pair, work, asked)}
    pending = {**held, "cotangents": pulled * hidden_states(trained, work.positions)}
    buffers = _buffers(pair, work, asked)
    backward = max(
        earlier * gradients + footprint.backward(trained, each, work.recipe.train.grad_checkpoint, gradients)
        for earlier, each in enumerate(work.rows(_pulled(asked.objective)))
    )
    summed = {"summed gradients": count * gradients} if work.microbatches > 1 else {}
    activations = footprint.forward(trained, work.rows(asked.objective.student_views)) + visible
    return (
        {**begun, "student's activations": activations},
        {**begun, **scored, "first cotangents": pulled * own, "chunk buffers": buffers},
        {**pending, "student's activations": activations},
        {**pending, **scored, "chunk buffers": buffers},
        {**pending, **summed, "backward": backward + count * head + saved},
    )


def _in_one_pass(pair: Pair, work: Work, asked: Asked, held: Parts, gradients: int) -> tuple[Parts, ...]:
    """Micro-batch by micro-batch: what the first tree's backward pass needs of all its views is there while the
    chunks are compared. The other trees follow as in two passes, from the cotangents of this micro-batch alone.

    The teacher's hidden states go with the micro-batches: at the first one, all are there.
    """
    trained, checkpointed = pair.student, work.recipe.train.grad_checkpoint
    count = trees(asked.objective, separate=asked.separate)
    visible, saved = _trained_vision(pair, work)
    head, own = _head_gradient(pair), hidden_states(trained, work.microbatch * work.length)
    begun = {**held, **teacher_states(pair, work, asked)}
    if work.microbatches > 1:
        begun["summed gradients"] = count * gradients
    scored = {
        "student's own hidden states": own * len(asked.objective.student_views),
        "cotangents": own * _pulls(pair, asked),
    }
    first, others = _trees(asked)
    together = _together(work.rows(first))
    kept = footprint.kept(trained, together, checkpointed) + saved
    passes = [together, *work.rows(others)]
    backward = max(footprint.backward(trained, each, checkpointed, gradients) for each in passes)
    views = work.rows(asked.objective.student_views)
    return (
        {**begun, "student's activations": footprint.forward(trained, views) + visible},
        {**begun, **scored, "kept for the backward pass": kept, "chunk buffers": _buffers(pair, work, asked)},
        {**begun, **scored, "backward": backward + count * head + saved},
    )


def _trees(asked: Asked) -> tuple[set[str], set[str]]:
    """The views that go to the tree with most of them, and those that go to the other trees."""
    by_tree: dict[str, set[str]] = {}
    for part in asked.objective.parts:
        by_tree.setdefault(part.role if asked.separate else "total", set()).add(TERMS[part.term].pulls)
    first, *others = sorted(by_tree.values(), key=len, reverse=True)
    return first, set().union(*others)


def _together(views: list[Pass]) -> Pass:
    """Rows of several views that are differentiated at one time."""
    return Pass(views[0].rows, tuple(block for view in views for block in view.blocks))


def _pulled(objective: Objective) -> set[str]:
    """The student's views that a gradient goes to."""
    return {TERMS[part.term].pulls for part in objective.parts}


def _pulls(pair: Pair, asked: Asked) -> int:
    known = asked.one_pass or head_trains(pair)
    return pulls(asked.objective, separate=asked.separate, head_trains=known)


def _buffers(pair: Pair, work: Work, asked: Asked) -> int:
    """A chunk's arrays, and the head's gradients that they add to."""
    pulled, count = _pulls(pair, asked), trees(asked.objective, separate=asked.separate)
    arrays = loss_arrays(asked.objective, pulled, sliced=sliced(pair)) * chunk_array(pair, work)
    return arrays + (count + pulled) * _head_gradient(pair)


def _trained_vision(pair: Pair, work: Work) -> tuple[int, int]:
    """Of a trained tower: what it holds in a forward pass, and in a backward one; 0 where it is frozen."""
    if not work.recipe.student.train_vision:
        return 0, 0
    pieces, rows = patches(pair.student, work.seen), work.rows({"with_image"})[0].rows
    visible = footprint.see_together(pair.student, pieces, rows)
    return visible, visible + footprint.seen_saved(pair.student, pieces, rows)


def _head_gradient(pair: Pair) -> int:
    text = pair.student.size.text
    return text.vocabulary * text.hidden * FLOAT if head_trains(pair) else 0
