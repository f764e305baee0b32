"""The phases that commands are made of, each with what it holds in memory in the moments that may be its fullest."""

from collections.abc import Collection
from dataclasses import dataclass

from vgs_mlx.objective.chunked import chunk_length
from vgs_mlx.objective.objectives import Objective
from vgs_mlx.objective.terms import TERMS
from vgs_mlx.planning import footprint
from vgs_mlx.planning.footprint import FLOAT, Body, packed, plain
from vgs_mlx.planning.loss import loss_arrays, pulls, score_arrays, trees
from vgs_mlx.planning.plan import Lengths, Parts, Phase
from vgs_mlx.planning.sizes import ModelSize, linears
from vgs_mlx.planning.work import Work

GREEDY, DRAWN, TRUNCATED = (
    11,
    14.5,
    20,
)  # measured: arrays of batch x vocabulary while two tokens are on their way
SCORED = 3  # measured: arrays of chunk x vocabulary of tokens' log-probabilities
SCORED_AT_ONCE = 64  # the chunk of models/logprobs.py


@dataclass(frozen=True)
class Sampled:
    """What is sampled: prompts whose pictures are encoded together, and the largest batch of completions."""

    pictured: int  # pictures that are encoded before the first completion
    prompts: int
    completions: int
    length: int
    temperature: float = 0.0
    top_p: float = 1.0

    @property
    def arrays(self) -> float:
        """Arrays of completions x vocabulary while tokens are drawn."""
        return TRUNCATED if self.top_p < 1 else DRAWN if self.temperature else GREEDY


@dataclass(frozen=True)
class Pair:
    """Both models as their passes see them."""

    student: Body
    teacher: Body | None


@dataclass(frozen=True)
class Asked:
    """The objective whose gradients a phase computes; `separate`: a tree for each role, as η needs it."""

    objective: Objective
    separate: bool


def sampling(
    name: str, role: str, body: Body, seen: Lengths, asked: Sampled, held: Parts | None = None
) -> Phase:
    """Pictures, then prompts, then token by token. `held` is there from before."""
    held = held or {}
    features = {**held, **picture_features(role, body, seen, asked.pictured)}
    prompt = seen.text + seen.image
    prefill = footprint.forward(body, [plain(asked.prompts, prompt)]) + footprint.cache(
        body, asked.prompts, prompt
    )
    drawing = round(asked.arrays * asked.completions * body.size.text.vocabulary * FLOAT)
    return Phase(
        name,
        (
            {**held, **seeing(role, body, seen, asked.pictured)},
            {**features, "prefill": prefill},
            {
                **features,
                "KV cache": footprint.decoding_cache(body, asked.completions, prompt, asked.length),
                "drawing": drawing,
            },
        ),
    )


def seeing(role: str, body: Body, seen: Lengths, pictures: int) -> Parts:
    """The vision tower over pictures, one after the other."""
    return {f"{role}'s vision": footprint.see(body, _patches(body, seen), pictures)}


def picture_features(role: str, body: Body, seen: Lengths, pictures: int) -> Parts:
    """What the tower made of them."""
    return {f"{role}'s picture features": footprint.picture_features(body, pictures * seen.image)}


def teacher_scores(name: str, pair: Pair, work: Work, asked: Asked, held: Parts) -> Phase:
    """The teacher's pass over an update's rollouts; its hidden states of all of them are kept for the student's."""
    frozen, views = pair.teacher, asked.objective.teacher_views
    if frozen is None or not views:
        return Phase(name, ({},))
    pictures = work.prompts * len(_pictured(work, views))
    features = {**held, **picture_features("teacher", frozen, work.seen, pictures)}
    states = {**features, **_teacher_states(pair, work, asked)}
    arrays = score_arrays(asked.objective, sliced=_sliced(pair)) if _head_trains(pair) else 0
    return Phase(
        name,
        (
            {**held, **seeing("teacher", frozen, work.seen, pictures)},
            {**states, "teacher's activations": footprint.forward(frozen, work.rows(views))},
            {**states, "dependency buffers": arrays * _chunk(pair, work)},
        ),
    )


def student_gradients(name: str, pair: Pair, work: Work, asked: Asked, held: Parts, gradients: int) -> Phase:
    """The forward pass and the loss in chunks of every micro-batch, then their backward passes; `gradients`: a tree's
    bytes.

    The teacher's hidden states go with the micro-batches, whose cotangents wait for the backward passes. In these,
    one view follows the other: the second adds to the first one's tree, and the head's gradients wait.
    """
    trained, pulled = pair.student, _pulls(pair, asked)
    count = trees(asked.objective, separate=asked.separate)
    visible, saved = _trained_vision(pair, work)
    head, own = _head_gradient(pair), _states(trained, work.microbatch * work.length)
    scored = {"student's own hidden states": own * len(asked.objective.student_views)}
    begun = {**held, **_teacher_states(pair, work, asked)}
    pending = {**held, "cotangents": pulled * _states(trained, work.positions)}
    buffers = (
        loss_arrays(asked.objective, pulled, sliced=_sliced(pair)) * _chunk(pair, work)
        + (count + pulled) * head
    )
    passes = work.rows({TERMS[part.term].pulls for part in asked.objective.parts})
    backward = max(
        earlier * gradients + footprint.backward(trained, each, work.recipe.train.grad_checkpoint, gradients)
        for earlier, each in enumerate(passes)
    )
    summed = {"summed gradients": count * gradients} if work.microbatches > 1 else {}
    activations = footprint.forward(trained, work.rows(asked.objective.student_views)) + visible
    return Phase(
        name,
        (
            {**begun, "student's activations": activations},
            {**begun, **scored, "first cotangents": pulled * own, "chunk buffers": buffers},
            {**pending, "student's activations": activations},
            {**pending, **scored, "chunk buffers": buffers},
            {**pending, **summed, "backward": backward + count * head + saved},
        ),
    )


def student_terms(name: str, pair: Pair, work: Work, objective: Objective, held: Parts) -> Phase:
    """The same without gradients: the terms' values alone."""
    asked = Asked(objective, separate=False)
    seen = {**held, **_teacher_states(pair, work, asked)}
    own = _states(pair.student, work.microbatch * work.length) * len(objective.student_views)
    buffers = loss_arrays(objective, 0, sliced=_sliced(pair)) * _chunk(pair, work)
    activations = footprint.forward(pair.student, work.rows(objective.student_views))
    return Phase(
        name,
        (
            {**seen, "student's activations": activations},
            {**seen, "student's own hidden states": own, "chunk buffers": buffers},
        ),
    )


def dense_rewards(name: str, pair: Pair, work: Work, held: Parts, *, white: bool) -> Phase:
    """PACR and PDCR score what a micro-batch holds of answers, closed after each of their steps, in one view."""
    body = pair.student
    features = {**held, **(picture_features("white", body, work.seen, work.prompts) if white else {})}
    positions = work.microbatch * work.length
    buffers = (SCORED + _sliced(pair)) * min(SCORED_AT_ONCE, positions) * body.size.text.vocabulary * FLOAT
    return Phase(
        name,
        (
            {**held, **(seeing("white", body, work.seen, work.prompts) if white else {})},
            {**features, "scored activations": footprint.forward(body, work.rows({"with_image"}))},
            {**features, "scored hidden states": _states(body, positions), "scoring buffers": buffers},
        ),
    )


def float32_states(name: str, body: Body, seen: Lengths, rows: int, length: int) -> Phase:
    """An export's scoring pass: in float32, whatever the model is stored in, one layer after the other.

    The hidden states of all answers stay; they are as nothing beside the rest.
    """
    wide = Body(body.size, body.device, FLOAT, body.train, body.rank)
    text = body.size.text
    layer = sum(inputs * outputs for inputs, outputs in linears(text).values())
    widened = 0 if body.device.widens else FLOAT * (layer + text.vocabulary * text.hidden)
    tower = 0 if body.device.widens else FLOAT * body.size.vision_weights.elements
    passed = packed(rows, seen.text + seen.image, 1, length)
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
    """Two float32 heads, and log-probabilities of both for a chunk of positions."""
    text = body.size.text
    arrays = (
        2 * SCORED + 2 * _unanswerable(body.size) + 2
    )  # of each log-probabilities; the divergence's terms
    states = 2 * positions * text.hidden * FLOAT
    buffers = arrays * min(chunk, positions) * text.vocabulary * FLOAT
    return Phase(
        name,
        ({"two heads": 2 * text.vocabulary * text.hidden * FLOAT, "states": states, "buffers": buffers},),
    )


def token_scores(name: str, body: Body, seen: Lengths, length: int, chunk: int) -> Phase:
    """The report's scores of one answer's tokens, in both views."""
    views = [packed(1, prompt, 1, length) for prompt in (seen.text + seen.image, seen.text)]
    arrays = 2 * (SCORED + _unanswerable(body.size)) + 2
    buffers = arrays * min(chunk, length) * body.size.text.vocabulary * FLOAT
    return Phase(
        name,
        (
            seeing("teacher", body, seen, 1),
            {**picture_features("teacher", body, seen, 1), "activations": footprint.forward(body, views)},
            {"hidden states": 2 * _states(body, length), "buffers": buffers},
        ),
    )


def update(name: str, asked: Asked, held: Parts, gradients: int) -> Phase:
    """AdamW. Measured: one tree and its scaled copy, or all trees that steering reads and what it makes of them."""
    count = trees(asked.objective, separate=asked.separate)
    return Phase(name, ({**held, "update": round((count + (1.75 if count > 1 else 1.1)) * gradients)},))


def _patches(body: Body, seen: Lengths) -> int:
    return seen.image * body.size.vision.token_patches


def _pictured(work: Work, views: Collection[str]) -> set[str]:
    """Which of the teacher's views hold a picture."""
    return set(views) - ({"text_only"} if work.recipe.objective.text_view == "omit" else set())


def _teacher_states(pair: Pair, work: Work, asked: Asked) -> Parts:
    views = asked.objective.teacher_views
    if pair.teacher is None or not views:
        return {}
    return {"teacher's hidden states": len(views) * _states(pair.teacher, work.positions)}


def _states(body: Body, positions: int) -> int:
    """Hidden states of so many positions."""
    return positions * body.size.text.hidden * body.number


def _pulls(pair: Pair, asked: Asked) -> int:
    return pulls(asked.objective, separate=asked.separate, head_trains=_head_trains(pair))


def _trained_vision(pair: Pair, work: Work) -> tuple[int, int]:
    """Of a trained tower: what it holds in a forward pass, and in a backward one; 0 where it is frozen."""
    if not work.recipe.student.train_vision:
        return 0, 0
    patches, rows = _patches(pair.student, work.seen), work.rows({"with_image"})[0].rows
    visible = footprint.see_together(pair.student, patches, rows)
    return visible, visible + footprint.seen_saved(pair.student, patches, rows)


def _chunk(pair: Pair, work: Work) -> int:
    """One array of chunk x vocabulary, float32."""
    length = chunk_length(work.microbatch * work.length, work.recipe.objective.chunk_size)
    return length * pair.student.size.text.vocabulary * FLOAT


def _sliced(pair: Pair) -> bool:
    return _unanswerable(pair.student.size)


def _unanswerable(size: ModelSize) -> bool:
    """Whether the head has rows that are not ids; where the number of ids is unknown, it is taken to."""
    return size.ids is None or size.ids < size.text.vocabulary


def _head_trains(pair: Pair) -> bool:
    return pair.student.train == "full"


def _head_gradient(pair: Pair) -> int:
    text = pair.student.size.text
    return text.vocabulary * text.hidden * FLOAT if _head_trains(pair) else 0
