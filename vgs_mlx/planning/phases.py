"""The phases of commands, and what each holds at the moments when its memory may peak."""

from dataclasses import dataclass

from vgs_mlx.objective.chunked import chunk_length
from vgs_mlx.objective.objectives import Objective
from vgs_mlx.planning import footprint
from vgs_mlx.planning.footprint import FLOAT, Body, plain
from vgs_mlx.planning.loss import loss_arrays, score_arrays, trees
from vgs_mlx.planning.plan import Lengths, Parts, Phase
from vgs_mlx.planning.sizes import ModelSize, linears
from vgs_mlx.planning.work import Work

GREEDY, DRAWN, TRUNCATED = 11, 14.5, 20
"""Measured: arrays of batch × vocabulary while two tokens are being computed."""
SCORED = 3  # measured: arrays of chunk × vocabulary for the log-probabilities of tokens
SCORED_AT_ONCE = 64  # the chunk of models/logprobs.py


@dataclass(frozen=True)
class Draws:
    """What is sampled: pictures, prompts, and the largest batch of completions."""

    pictured: int  # pictures that are encoded before the first completion
    prompts: int
    completions: int
    length: int
    temperature: float = 0.0
    top_p: float = 1.0

    @property
    def arrays(self) -> float:
        """Arrays of completions × vocabulary while tokens are drawn."""
        return TRUNCATED if self.top_p < 1 else DRAWN if self.temperature else GREEDY


@dataclass(frozen=True)
class Pair:
    """Both models as their passes see them; no teacher where none is needed."""

    student: Body
    teacher: Body | None


@dataclass(frozen=True)
class Goal:
    """The objective whose gradients a phase computes; `separate`: a tree for each role, as η needs it."""

    objective: Objective
    separate: bool
    one_pass: bool = False  # body and loss differentiated together


def sampling(
    name: str, role: str, body: Body, seen: Lengths, draws: Draws, held: Parts | None = None
) -> Phase:
    """Encode pictures, then prompts, then sample token by token. `held` stays in memory throughout."""
    held = held or {}
    features = {**held, **picture_features(role, body, seen, draws.pictured)}
    prompt = seen.text + seen.image
    prefill = footprint.forward(body, [plain(draws.prompts, prompt)]) + footprint.cache(
        body, draws.prompts, prompt
    )
    drawing = round(draws.arrays * draws.completions * body.size.text.vocabulary * FLOAT)
    return Phase(
        name,
        (
            {**held, **seeing(role, body, seen, draws.pictured)},
            {**features, "prefill": prefill},
            {
                **features,
                "KV cache": footprint.decoding_cache(body, draws.completions, prompt, draws.length),
                "drawing": drawing,
            },
        ),
    )


def seeing(role: str, body: Body, seen: Lengths, pictures: int) -> Parts:
    """The vision tower over pictures, one after the other."""
    return {f"{role}'s vision": footprint.see(body, patches(body, seen), pictures)}


def picture_features(role: str, body: Body, seen: Lengths, pictures: int) -> Parts:
    """The vision tower's output for the pictures."""
    return {f"{role}'s picture features": footprint.picture_features(body, pictures * seen.image)}


def teacher_scores(name: str, pair: Pair, work: Work, goal: Goal, held: Parts) -> Phase:
    """The teacher's pass over an update's rollouts. Its hidden states are kept for the student's pass."""
    frozen, views = pair.teacher, goal.objective.teacher_views
    if frozen is None or not views:
        return Phase(name, ({},))
    pictures = work.prompts * len(work.pictured(views))
    features = {**held, **picture_features("teacher", frozen, work.seen, pictures)}
    states = {**features, **teacher_states(pair, work, goal)}
    before = goal.one_pass or head_trains(pair)  # the scores are known before the student's pass
    arrays = score_arrays(goal.objective, sliced=sliced(pair)) if before else 0
    return Phase(
        name,
        (
            {**held, **seeing("teacher", frozen, work.seen, pictures)},
            {**states, "teacher's activations": footprint.forward(frozen, work.rows(views))},
            {**states, "dependency buffers": arrays * chunk_array(pair, work)},
        ),
    )


def student_terms(name: str, pair: Pair, work: Work, objective: Objective, held: Parts) -> Phase:
    """The student's part without gradients: the terms' values alone."""
    goal = Goal(objective, separate=False)
    seen = {**held, **teacher_states(pair, work, goal)}
    own = hidden_states(pair.student, work.microbatch * work.length) * len(objective.student_views)
    buffers = loss_arrays(objective, 0, sliced=sliced(pair)) * chunk_array(pair, work)
    activations = footprint.forward(pair.student, work.rows(objective.student_views))
    return Phase(
        name,
        (
            {**seen, "student's activations": activations},
            {**seen, "student's own hidden states": own, "chunk buffers": buffers},
        ),
    )


def dense_rewards(name: str, pair: Pair, work: Work, held: Parts, *, white: bool) -> Phase:
    """PACR's and PDCR's scores of answers cut after each reasoning step: a micro-batch at a time, in one view."""
    body = pair.student
    features = {**held, **(picture_features("white", body, work.seen, work.prompts) if white else {})}
    positions = work.microbatch * work.length
    buffers = (SCORED + sliced(pair)) * min(SCORED_AT_ONCE, positions) * body.size.text.vocabulary * FLOAT
    return Phase(
        name,
        (
            {**held, **(seeing("white", body, work.seen, work.prompts) if white else {})},
            {**features, "scored activations": footprint.forward(body, work.rows({"with_image"}))},
            {**features, "scored hidden states": hidden_states(body, positions), "scoring buffers": buffers},
        ),
    )


def float32_states(name: str, body: Body, seen: Lengths, rows: int, length: int) -> Phase:
    """An export's scoring pass: in float32 whatever the stored type, one layer after the other.

    The hidden states of all answers stay in memory; they are not counted, being tiny beside the rest.
    """
    wide = Body(body.size, body.device, FLOAT, body.train, body.rank)
    text = body.size.text
    layer = sum(inputs * outputs for inputs, outputs in linears(text).values())
    widened = 0 if body.device.widens else FLOAT * (layer + text.vocabulary * text.hidden)
    tower = 0 if body.device.widens else FLOAT * body.size.vision_weights.elements
    passed = plain(rows, seen.text + seen.image + length)
    return Phase(
        name,
        (
            {**seeing("model", wide, seen, rows), "float32 tower": tower},
            {
                **picture_features("model", wide, seen, rows),
                "activations": footprint.forward(wide, [passed]),
                "float32 layer": widened,
            },
        ),
    )


def two_heads(name: str, body: Body, positions: int, chunk: int) -> Phase:
    """Two float32 heads, and both models' log-probabilities for a chunk of positions."""
    text = body.size.text
    arrays = 2 * (SCORED + _unanswerable(body.size)) + 2  # log-probabilities of each; the divergence's terms
    states = 2 * positions * text.hidden * FLOAT
    buffers = arrays * min(chunk, positions) * text.vocabulary * FLOAT
    return Phase(
        name,
        ({"two heads": 2 * text.vocabulary * text.hidden * FLOAT, "states": states, "buffers": buffers},),
    )


def token_scores(name: str, body: Body, seen: Lengths, length: int, chunk: int) -> Phase:
    """The report's scores of one answer's tokens in both views."""
    views = [plain(1, prompt + length) for prompt in (seen.text + seen.image, seen.text)]
    arrays = 2 * (SCORED + _unanswerable(body.size)) + 2
    buffers = arrays * min(chunk, length) * body.size.text.vocabulary * FLOAT
    return Phase(
        name,
        (
            seeing("teacher", body, seen, 1),
            {**picture_features("teacher", body, seen, 1), "activations": footprint.forward(body, views)},
            {"hidden states": 2 * hidden_states(body, length), "buffers": buffers},
        ),
    )


def update(name: str, goal: Goal, held: Parts, gradients: int) -> Phase:
    """AdamW's update. Measured: one tree and its scaled copy, or the trees that steering reads and those it makes."""
    count = trees(goal.objective, separate=goal.separate)
    return Phase(name, ({**held, "update": round((count + (1.75 if count > 1 else 1.1)) * gradients)},))


def patches(body: Body, seen: Lengths) -> int:
    return seen.image * body.size.vision.token_patches


def teacher_states(pair: Pair, work: Work, goal: Goal) -> Parts:
    """The teacher's hidden states of an update's rollouts, in the views that the objective needs."""
    views = goal.objective.teacher_views
    if pair.teacher is None or not views:
        return {}
    return {"teacher's hidden states": len(views) * hidden_states(pair.teacher, work.positions)}


def hidden_states(body: Body, positions: int) -> int:
    """Bytes of the hidden states of that many positions."""
    return positions * body.size.text.hidden * body.number


def chunk_array(pair: Pair, work: Work) -> int:
    """Bytes of one array of chunk × vocabulary, float32."""
    length = chunk_length(work.microbatch * work.length, work.recipe.objective.chunk_size)
    return length * pair.student.size.text.vocabulary * FLOAT


def sliced(pair: Pair) -> bool:
    return _unanswerable(pair.student.size)


def _unanswerable(size: ModelSize) -> bool:
    """Whether the head has rows that are not ids; assumed where the number of ids is unknown."""
    return size.ids is None or size.ids < size.text.vocabulary


def head_trains(pair: Pair) -> bool:
    return pair.student.train == "full"
