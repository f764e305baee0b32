"""The memory that a model's passes need, in bytes, from its size alone.

Arrays that a backward pass must save follow from each operation's derivative and are counted one by one. Temporary
arrays depend on MLX's order of evaluation (breadth first from the outputs, 20 arrays wide, run backwards). The few
factors for them are measured, and are marked as measured.
"""

from dataclasses import dataclass
from math import ceil, log2
from typing import Literal

from vgs_mlx import device
from vgs_mlx.planning.sizes import ModelSize, linears

FLOAT = 4  # bytes of a float32
FUSED_WIDTHS = (64, 80, 128)  # of a head
CACHE_STEP = 256  # positions by which mlx-lm's KVCache grows


@dataclass(frozen=True)
class Device:
    """What makes a difference between the memory needs of devices."""

    widens: bool  # weights are unpacked and float32
    fused: bool  # attention without gradients makes no scores; normalisation saves only its input


def device_of(kind: str) -> Device:
    """The device of a kind, as this process would use it."""
    return Device(widens=device.widens(kind), fused=kind != "cpu")


@dataclass(frozen=True)
class Pass:
    """Rows that go through a model together, and the blocks that attention computes in each row."""

    rows: int
    blocks: tuple[tuple[int, int], ...]  # (queries, keys); a separate row is one block

    @property
    def tokens(self) -> int:
        return self.rows * sum(queries for queries, _ in self.blocks)

    @property
    def pairs(self) -> int:
        """Pairs of a query and a key, each of which has a score in every head."""
        return self.rows * sum(queries * keys for queries, keys in self.blocks)

    @property
    def joined(self) -> int:
        """Keys of blocks that also see earlier tokens: those of prompt and completion, copied into one array."""
        return self.rows * sum(keys for queries, keys in self.blocks if keys > queries)


def plain(rows: int, length: int) -> Pass:
    """Rows with one sequence each."""
    return Pass(rows, ((length, length),))


def continued(rows: int, prompt: int, answers: int, length: int) -> Pass:
    """Prompts and the answers that continue them. A prompt attends to itself, an answer to its prompt and itself."""
    return Pass(rows, ((prompt, prompt), *[(length, prompt + length)] * answers))


@dataclass(frozen=True)
class Body:
    """A model and how it is run: what decides the memory of its passes."""

    size: ModelSize
    device: Device
    number: int  # bytes of an activation
    train: Literal["lora", "dora", "full"] | None  # None: frozen
    rank: int = 0


def scores(body: Body, rows: Pass) -> int:
    """One layer's attention probabilities: heads x queries x keys of every block, in the activations' type."""
    return body.number * body.size.text.heads * rows.pairs


def _worked_on(body: Body, rows: Pass, times: int) -> int:
    """Scores beside the saved ones, while a layer is computed. Measured: a prompt with answers has its scores once."""
    first = rows.blocks[0]
    prompt = scores(body, Pass(rows.rows, (first,))) if len(rows.blocks) > 1 else 0
    return times * (scores(body, rows) - prompt) + prompt


def _saved(body: Body, rows: Pass) -> int:
    """What one decoder layer saves for its backward pass, without attention probabilities."""
    text = body.size.text
    keys_and_values = 2 * text.kv_heads * text.head_dim * rows.joined * body.number
    return rows.tokens * saved_per_token(body) + keys_and_values


def _copies(body: Body) -> bool:
    """Whether adapters copy inputs: they are float32, and each saves its own float32 copy of a narrower input."""
    return body.train in ("lora", "dora") and body.number < FLOAT


def saved_per_token(body: Body) -> int:
    """What one decoder layer saves per token for its backward pass, without attention probabilities.

    hidden: the two residuals (inputs of the norms) and the two normed states (inputs of linear layers);
    queries: before their norm if they have one, rotated, attention's output; keys and values: before the norm if
    there is one, rotated, values;
    intermediate: gate, up, sigmoid, SiLU and their product. Unfused norms whose weights train save the
    normalised input too, and narrow ones a float32 copy. Copies for adapters replace their originals:
    three of the first normed state (q, k, v), two of the second (gate, up), one of each other input.
    """
    text, b = body.size.text, body.number
    queries, keys = text.heads * text.head_dim, text.kv_heads * text.head_dim
    norm_input = FLOAT if _copies(body) and not body.device.fused else b
    unfused = b if body.train == "full" and not body.device.fused else 0
    if _copies(body):
        normed, output = 5 * FLOAT, FLOAT
    else:
        normed, output = 2 * b, b
    wide = text.hidden * (2 * norm_input + normed + 2 * unfused)
    normed_head = (norm_input + unfused) * text.norms_heads
    wide += queries * (normed_head + b + output)
    wide += keys * (normed_head + 2 * b)
    wide += text.intermediate * (4 * b + output)
    low_rank = FLOAT * body.rank * len(linears(text)) if body.train in ("lora", "dora") else 0
    # DoRA's magnitudes multiply each output, so the output before that is saved
    outputs = b * sum(width for _, width in linears(text).values()) if body.train == "dora" else 0
    return wide + low_rank + outputs


def forward(body: Body, views: list[Pass]) -> int:
    """The most that a pass without gradients holds, all views evaluated together.

    Measured: 4.2 arrays of every width of a layer for the larger view (the other hasn't started or is done). If
    attention makes scores, those of all views and all blocks are held together.
    """
    text = body.size.text
    width = text.hidden + (text.heads + text.kv_heads) * text.head_dim + text.intermediate
    number = body.number + (FLOAT if _copies(body) else 0)
    largest = max(each.tokens for each in views)
    made = 0 if body.device.fused else sum(scores(body, each) for each in views)
    return round(4.2 * number * width * largest) + made


def backward(body: Body, view: Pass, checkpointed: bool, gradients: int) -> int:
    """The most that the backward pass over all layers holds, its own `gradients` (bytes) included.

    Everything saved is alive when the first gradient is computed; only gradients are alive at the end.
    Measured: a layer in progress holds about its saved arrays once more, and its probabilities twice. A
    recomputed layer overlaps with the one before: 3.3 times one's saved arrays, 3 times its probabilities.
    """
    saved, most = _saved(body, view), max(kept(body, view, checkpointed), gradients)
    if checkpointed:
        return round(most + 3.3 * saved + _worked_on(body, view, 3))
    return most + saved + _worked_on(body, view, 2)


def kept(body: Body, view: Pass, checkpointed: bool) -> int:
    """What all layers keep from a forward pass for the backward pass."""
    text = body.size.text
    if checkpointed:
        return text.layers * view.tokens * text.hidden * body.number
    return text.layers * (_saved(body, view) + scores(body, view))


def picture_features(body: Body, tokens: int) -> int:
    """The vision tower's output for `tokens` image tokens: embeddings and one feature per level."""
    return tokens * body.size.text.hidden * (1 + body.size.vision.levels) * body.number


def _padded_heads(body: Body) -> int:
    """Numbers per patch in queries whose heads are padded to a width with a fused kernel, as in some families."""
    vision = body.size.vision
    width = vision.hidden // vision.heads
    return vision.heads * next((wide for wide in FUSED_WIDTHS if width <= wide), width)


def vision_scores(body: Body, patches: int) -> int:
    """One block's attention probabilities over a picture, or over all of its tiles."""
    return body.number * _vision_pairs(body, patches)


def _vision_pairs(body: Body, patches: int) -> int:
    """Pairs of patches that attend to each other, counted for every head."""
    tile = body.size.vision.tile
    return body.size.vision.heads * patches * (patches if tile is None else tile.patches)


def _vision_fused(body: Body) -> bool:
    """Whether the tower's attention makes no scores: MLX has fused kernels for some head widths."""
    vision = body.size.vision
    return body.device.fused and (vision.pads_heads or vision.hidden // vision.heads in FUSED_WIDTHS)


def see(body: Body, patches: int, pictures: int) -> int:
    """The most that the vision tower holds for pictures that are encoded one after the other.

    All pixels are in memory at the start; each picture's are released with it.
    """
    return _one_picture(body, patches) + (pictures - 1) * _pixels(body, patches)


def see_together(body: Body, patches: int, pictures: int) -> int:
    """The same if all are evaluated together. Measured: each doubling of the pictures adds 0.85 of one."""
    return round(_one_picture(body, patches) * (1 + 0.85 * log2(max(1, pictures))))


def _one_picture(body: Body, patches: int) -> int:
    """Measured: arrays of the blocks' widths (position embeddings and features for later layers included) and any
    scores; or 3.5 times the pixels, if that is more.
    """
    vision, held = body.size.vision, body.size.vision.measured
    numbers = held.hidden * vision.hidden + held.intermediate * vision.intermediate
    numbers += held.padded_heads * _padded_heads(body)
    made = 0 if _vision_fused(body) else vision_scores(body, patches)
    pixels = _pixels(body, patches)
    return max(numbers * patches * body.number + made + round(held.pixels * pixels), round(3.5 * pixels))


def _pixels(body: Body, patches: int) -> int:
    return FLOAT * patches * body.size.vision.pixel_values


def seen_saved(body: Body, patches: int, pictures: int) -> int:
    """What a trained vision tower saves: arrays of its widths, and the attention probabilities of each block.

    Trained weights are float32, so all results are too.
    """
    vision, held = body.size.vision, body.size.vision.measured
    block = held.saved_hidden * vision.hidden + held.saved_intermediate * vision.intermediate
    block += held.saved_padded_heads * _padded_heads(body)
    whole = block * patches + _vision_pairs(body, patches)
    return vision.depth * pictures * whole * FLOAT


def cache(body: Body, rows: int, length: int) -> int:
    """Keys and values of `length` positions, which mlx-lm allocates in steps."""
    text = body.size.text
    positions = ceil(length / CACHE_STEP) * CACHE_STEP
    return 2 * text.layers * rows * text.kv_heads * text.head_dim * positions * body.number


def decoding_cache(body: Body, rows: int, prompt: int, answer: int) -> int:
    """The cache at its longest. A layer whose cache grows briefly exists twice."""
    steps = ceil(prompt / CACHE_STEP) + ceil(
        max(0, prompt + answer - ceil(prompt / CACHE_STEP) * CACHE_STEP) / CACHE_STEP
    )
    return round(cache(body, rows, steps * CACHE_STEP) * (1 + 1 / body.size.text.layers))
