"""The memory of the student's gradient passes: in two passes with the loss between, or body and loss in one."""

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
    """The passes of all micro-batches; `gradients`: the bytes of one tree."""
    return Phase(name, (_in_one_pass if goal.one_pass else _in_two)(pair, work, goal, held, gradients))


def _in_two(pair: Pair, work: Work, goal: Goal, held: Parts, gradients: int) -> tuple[Parts, ...]:
    """The forward pass and the loss in chunks of every micro-batch, then their backward passes.

    Each micro-batch releases its teacher's hidden states and keeps its cotangents for the backward passes. There, views
    run one after another: the second adds to the tree of the first, and the head's gradients stay in memory.
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
    """Micro-batch by micro-batch: while chunks are compared, everything that the first tree's backward pass needs
    is in memory, for all its views. The other trees follow as in two passes, from this micro-batch's cotangents.

    Each micro-batch releases its teacher's hidden states; the first one still has all of them in memory.
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
    """The views of the tree with the most views, and the views of all other trees."""
    by_tree: dict[str, set[str]] = {}
    for part in goal.objective.parts:
        by_tree.setdefault(part.role if goal.separate else "total", set()).add(TERMS[part.term].pulls)
    first, *others = sorted(by_tree.values(), key=len, reverse=True)
    return first, set().union(*others)


def _together(views: list[Pass]) -> Pass:
    """Rows of several views that are differentiated together."""
    return Pass(views[0].rows, tuple(block for view in views for block in view.blocks))


def _pulls(pair: Pair, goal: Goal) -> int:
    known = goal.one_pass or head_trains(pair)
    return pulls(goal.objective, separate=goal.separate, head_trains=known)


def _buffers(pair: Pair, work: Work, goal: Goal) -> int:
    """A chunk's arrays, and the head's gradients to which they are added."""
    pulled, count = _pulls(pair, goal), trees(goal.objective, separate=goal.separate)
    arrays = loss_arrays(goal.objective, pulled, sliced=sliced(pair)) * chunk_array(pair, work)
    return arrays + (count + pulled) * _head_gradient(pair)


def _trained_vision(pair: Pair, work: Work) -> tuple[int, int]:
    """What a trained tower holds in a forward and in a backward pass; 0 if it is frozen."""
    if not work.recipe.student.train_vision:
        return 0, 0
    pieces, rows = patches(pair.student, work.seen), work.rows({"with_image"})[0].rows
    visible = footprint.see_together(pair.student, pieces, rows)
    return visible, visible + footprint.seen_saved(pair.student, pieces, rows)


def _head_gradient(pair: Pair) -> int:
    text = pair.student.size.text
    return text.vocabulary * text.hidden * FLOAT if head_trains(pair) else 0
