"""What the student's passes for its gradients hold: with the loss between them, or with body and loss as one."""

from vgs_mlx.objective.terms import TERMS
from vgs_mlx.planning import footprint
from vgs_mlx.planning.footprint import FLOAT, Pass
from vgs_mlx.planning.loss import loss_arrays, pulls, trees
from vgs_mlx.planning.phases import (
    Goal,
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


def student_gradients(name: str, pair: Pair, work: Work, goal: Goal, held: Parts, gradients: int) -> Phase:
    """Every micro-batch's passes; `gradients`: a tree's bytes."""
    return Phase(name, (_in_one_pass if goal.one_pass else _in_two)(pair, work, goal, held, gradients))


def _in_two(pair: Pair, work: Work, goal: Goal, held: Parts, gradients: int) -> tuple[Parts, ...]:
    """The forward pass and the loss in chunks of every micro-batch, then their backward passes.

    The teacher's hidden states go with the micro-batches, whose cotangents wait for the backward passes. In these,
    one view follows the other: the second adds to the first one's tree, and the head's gradients wait.
    """
    trained, pulled = pair.student, _pulls(pair, goal)
    count = trees(goal.objective, separate=goal.separate)
    visible, saved = _trained_vision(pair, work)
    head, own = _head_gradient(pair), hidden_states(trained, work.microbatch * work.length)
    scored = {"student's own hidden states": own * len(goal.objective.student_views)}
    begun = {**held, **teacher_states(pair, work, goal)}
    pending = {**held, "cotangents": pulled * hidden_states(trained, work.positions)}
    buffers = _buffers(pair, work, goal)
    backward = max(
        earlier * gradients + footprint.backward(trained, each, work.recipe.train.grad_checkpoint, gradients)
        for earlier, each in enumerate(work.rows(goal.objective.pulled_views))
    )
    summed = {"summed gradients": count * gradients} if work.microbatches > 1 else {}
    activations = footprint.forward(trained, work.rows(goal.objective.student_views)) + visible
    return (
        {**begun, "student's activations": activations},
        {**begun, **scored, "first cotangents": pulled * own, "chunk buffers": buffers},
        {**pending, "student's activations": activations},
        {**pending, **scored, "chunk buffers": buffers},
        {**pending, **summed, "backward": backward + count * head + saved},
    )


def _in_one_pass(pair: Pair, work: Work, goal: Goal, held: Parts, gradients: int) -> tuple[Parts, ...]:
    """Micro-batch by micro-batch: what the first tree's backward pass needs of all its views is there while the
    chunks are compared. The other trees follow as in two passes, from the cotangents of this micro-batch alone.

    The teacher's hidden states go with the micro-batches: at the first one, all are there.
    """
    trained, checkpointed = pair.student, work.recipe.train.grad_checkpoint
    count = trees(goal.objective, separate=goal.separate)
    visible, saved = _trained_vision(pair, work)
    head, own = _head_gradient(pair), hidden_states(trained, work.microbatch * work.length)
    begun = {**held, **teacher_states(pair, work, goal)}
    if work.microbatches > 1:
        begun["summed gradients"] = count * gradients
    scored = {
        "student's own hidden states": own * len(goal.objective.student_views),
        "cotangents": own * _pulls(pair, goal),
    }
    first, others = _trees(goal)
    together = _together(work.rows(first))
    kept = footprint.kept(trained, together, checkpointed) + saved
    passes = [together, *work.rows(others)]
    backward = max(footprint.backward(trained, each, checkpointed, gradients) for each in passes)
    views = work.rows(goal.objective.student_views)
    return (
        {**begun, "student's activations": footprint.forward(trained, views) + visible},
        {**begun, **scored, "kept for the backward pass": kept, "chunk buffers": _buffers(pair, work, goal)},
        {**begun, **scored, "backward": backward + count * head + saved},
    )


def _trees(goal: Goal) -> tuple[set[str], set[str]]:
    """The views that go to the tree with most of them, and those that go to the other trees."""
    by_tree: dict[str, set[str]] = {}
    for part in goal.objective.parts:
        by_tree.setdefault(part.role if goal.separate else "total", set()).add(TERMS[part.term].pulls)
    first, *others = sorted(by_tree.values(), key=len, reverse=True)
    return first, set().union(*others)


def _together(views: list[Pass]) -> Pass:
    """Rows of several views that are differentiated at one time."""
    return Pass(views[0].rows, tuple(block for view in views for block in view.blocks))


def _pulls(pair: Pair, goal: Goal) -> int:
    known = goal.one_pass or head_trains(pair)
    return pulls(goal.objective, separate=goal.separate, head_trains=known)


def _buffers(pair: Pair, work: Work, goal: Goal) -> int:
    """A chunk's arrays, and the head's gradients that they add to."""
    pulled, count = _pulls(pair, goal), trees(goal.objective, separate=goal.separate)
    arrays = loss_arrays(goal.objective, pulled, sliced=sliced(pair)) * chunk_array(pair, work)
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
