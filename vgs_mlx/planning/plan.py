"""What a run will need: bytes by kind and by phase, from a recipe and the sizes of two models. Arithmetic alone.

Every completion is taken to reach its full length and every prompt to be as long as `Lengths` says.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil

from vgs_mlx.models.precision import QUANTISATION_GROUP
from vgs_mlx.models.sizes import ModelSize, Weights, linears
from vgs_mlx.objective.chunked import chunk_length
from vgs_mlx.objective.terms import TERMS
from vgs_mlx.planning import footprint
from vgs_mlx.planning.footprint import DEVICES, FLOAT, Body, Device, Pass, packed, plain
from vgs_mlx.planning.loss import SCORE_ARRAYS, loss_arrays, pulls, trees
from vgs_mlx.recipe import Recipe, Student
from vgs_mlx.recipe_objective import resolved

TEXT_TOKENS = 160  # of a prompt without its picture: the default system prompt, the template, a question
BLOCK = 11  # measured: vocabulary-wide float32 arrays of a batch while two tokens are on their way

SEEN = ("student's picture features",)
HANDED = (*SEEN, "teacher's picture features", "teacher's hidden states", "summed gradients")
MOMENTS = {
    "rollouts": (("student's vision",), (*SEEN, "prefill"), (*SEEN, "KV cache", "drawing")),
    "teacher": (
        (*SEEN, "teacher's vision"),
        (*HANDED[:-1], "teacher's activations"),
        (*HANDED[:-1], "dependency buffers"),
    ),
    "student": (
        (*HANDED, "student's activations"),
        (*HANDED, "student's own hidden states", "chunk buffers"),
        (*HANDED, "student's own hidden states", "backward"),
    ),
    "update": ((*SEEN, "update"),),
}
"""What is there together, beside what rests, in those moments of a phase that may be its fullest."""


@dataclass(frozen=True)
class Lengths:
    """The longest prompt, in tokens."""

    text: int
    image: int  # image tokens, of all its pictures together
    packs: bool = True  # completions share a row with their prompt


@dataclass(frozen=True)
class Plan:
    """Bytes. `resting` parts are there all the time; a phase's peak is their sum and that of its fullest moment."""

    resting: dict[str, int]  # student, teacher, adapters, optimiser
    parts: dict[str, int]  # all that comes and goes: KV cache, activations, chunk buffers, ...
    fullest: dict[str, tuple[str, ...]]  # phase -> the parts that are there in its fullest moment
    tokens: dict[str, int]  # a step: sampled, computed

    @property
    def peaks(self) -> dict[str, int]:
        """By phase: rollouts, teacher, student, update."""
        rest = sum(self.resting.values())
        return {phase: rest + _total(self.parts, there) for phase, there in self.fullest.items()}

    @property
    def peak(self) -> int:
        return max(self.peaks.values())

    @property
    def phase(self) -> str:
        """The phase that needs most."""
        return max(self.peaks, key=lambda name: self.peaks[name])


def lengths(recipe: Recipe, student: ModelSize) -> Lengths:
    """Prompts as long as the recipe allows: one picture of `data.max_pixels`, some text."""
    vision = student.vision
    pixels = min(student.max_pixels, recipe.data.max_pixels or student.max_pixels)
    image = max(1, pixels // (vision.patch * vision.merge) ** 2)
    return Lengths(TEXT_TOKENS, min(image, max(1, recipe.data.max_prompt_length - TEXT_TOKENS)))


def make(
    recipe: Recipe, student: ModelSize, teacher: ModelSize | None, seen: Lengths, device: str | Device = "cpu"
) -> Plan:
    """The plan of a run on a device."""
    kind = DEVICES[device] if isinstance(device, str) else device
    trained = Body(
        student, kind, _number(student, kind, recipe.student), recipe.student.train, recipe.student.rank
    )
    frozen = Body(teacher, kind, _number(teacher, kind, None), None) if teacher else None
    resting = _resting(recipe, student, teacher, kind)
    gradients = trainable(recipe.student, student) * FLOAT
    parts = _parts(recipe, trained, frozen, seen, gradients)
    fullest = {
        phase: max(moments, key=lambda there: _total(parts, there)) for phase, moments in MOMENTS.items()
    }
    return Plan(resting, parts, fullest, _tokens(recipe, seen))


def _total(parts: Mapping[str, int], names: tuple[str, ...]) -> int:
    return sum(parts[name] for name in names)


def trainable(settings: Student, size: ModelSize) -> int:
    """How many weights train. DoRA adds a magnitude for every output."""
    vision = size.vision_weights.elements if settings.train_vision else 0
    if settings.train == "full":
        return vision + size.language_weights.elements
    chosen = [
        sides
        for name, sides in linears(size.text).items()
        if settings.targets is None or name in settings.targets
    ]
    extra = sum(outputs for _, outputs in chosen) if settings.train == "dora" else 0
    return vision + size.text.layers * (settings.rank * sum(map(sum, chosen)) + extra)


def _resting(recipe: Recipe, student: ModelSize, teacher: ModelSize | None, device: Device) -> dict[str, int]:
    """Weights as they lie in memory, and AdamW's two float32 moments for all that trains."""
    settings = recipe.student
    language = student.language_weights
    vision = _stored(student.vision_weights, device, None)
    if settings.train_vision:
        vision = student.vision_weights.elements * FLOAT
    body = language.elements * FLOAT if settings.train == "full" else _stored(language, device, None)
    count = trainable(settings, student)
    added = count - (student.vision_weights.elements if settings.train_vision else 0)
    return {
        "student": body + vision,
        "teacher": _teacher_bytes(teacher, device, recipe.teacher.bits) if teacher else 0,
        "adapters": 0 if settings.train == "full" else added * FLOAT,
        "optimiser": 2 * count * FLOAT,
        **(
            {"picture cache": round(recipe.train.picture_cache_gb * 1e9)}
            if recipe.train.picture_cache_gb
            else {}
        ),
    }


def _teacher_bytes(teacher: ModelSize, device: Device, bits: int | None) -> int:
    return _stored(teacher.language_weights, device, bits) + _stored(teacher.vision_weights, device, None)


def _stored(weights: Weights, device: Device, bits: int | None) -> int:
    """A part's bytes: float32 on the CPU; else as stored, or packed with a 16-bit scale and bias a group."""
    if device.widens:
        return weights.elements * FLOAT
    if not bits or not weights.packable:
        return weights.stored
    width = weights.stored // weights.elements
    packed = weights.packable * bits // 8 + 2 * width * weights.packable // QUANTISATION_GROUP
    return weights.stored - width * weights.packable + packed


def _number(size: ModelSize, device: Device, settings: Student | None) -> int:
    """Bytes of an activation: those of the weights, float32 where all of them train."""
    return FLOAT if device.widens or (settings and settings.train == "full") else size.dtype_bytes


def _parts(
    recipe: Recipe, trained: Body, frozen: Body | None, seen: Lengths, gradients: int
) -> dict[str, int]:
    settings = recipe.rollout
    group = min(settings.prompts_per_step, max(1, settings.batch_size // settings.completions_per_prompt))
    batch = group * settings.completions_per_prompt
    length = seen.text + seen.image
    patches = seen.image * trained.size.vision.merge**2
    pictures = settings.prompts_per_step * (1 if recipe.objective.text_view == "omit" else 2)
    return {
        "student's vision": footprint.see(trained, patches, pictures),
        "student's picture features": footprint.picture_features(trained, pictures * seen.image),
        "prefill": footprint.forward(trained, [plain(group, length)])
        + footprint.cache(trained, group, length),
        "KV cache": footprint.decoding_cache(trained, batch, length, settings.max_completion_length),
        "drawing": BLOCK * batch * trained.size.text.vocabulary * FLOAT,
        **_teacher_parts(recipe, frozen, seen, pictures),
        **_student_parts(recipe, trained, seen, gradients),
        "summed gradients": (trees(recipe) if _batches(recipe, seen) > 1 else 0) * gradients,
        "update": round(_updating(recipe) * gradients),
    }


def _teacher_parts(recipe: Recipe, frozen: Body | None, seen: Lengths, pictures: int) -> dict[str, int]:
    """The teacher's phase; its hidden states of the whole batch are kept for the student's."""
    names = ("vision", "picture features", "activations", "hidden states")
    views = resolved(recipe).teacher_views
    if frozen is None or not views:
        return {**{f"teacher's {name}": 0 for name in names}, "dependency buffers": 0}
    settings = recipe.rollout
    positions = settings.prompts_per_step * settings.completions_per_prompt * settings.max_completion_length
    chunk = _chunk(recipe, frozen, seen)
    figures = (
        footprint.see(frozen, seen.image * frozen.size.vision.merge**2, pictures),
        footprint.picture_features(frozen, pictures * seen.image),
        footprint.forward(frozen, micro_batch(recipe, seen, views)),
        positions * frozen.size.text.hidden * frozen.number * len(views),
    )
    parts = {f"teacher's {name}": value for name, value in zip(names, figures, strict=True)}
    buffers = max((SCORE_ARRAYS[score] for score in resolved(recipe).scores), default=0)
    return {**parts, "dependency buffers": buffers * chunk}


def _student_parts(recipe: Recipe, trained: Body, seen: Lengths, gradients: int) -> dict[str, int]:
    """The student's phase: a forward pass, the loss in chunks, a backward pass; one after another."""
    wanted = resolved(recipe)
    passes = micro_batch(recipe, seen, wanted.student_views)
    pulled = micro_batch(recipe, seen, {TERMS[part.term].pulls for part in wanted.parts})
    tokens = _count(recipe, seen) * recipe.rollout.max_completion_length
    states = tokens * trained.size.text.hidden * trained.number
    visible = saved = 0
    if recipe.student.train_vision:
        patches = seen.image * trained.size.vision.merge**2
        visible = footprint.see_together(trained, patches, passes[0].rows)
        saved = visible + footprint.seen_saved(trained, patches, passes[0].rows)
    again = recipe.train.grad_checkpoint
    # one view after the other: the second adds to the first one's tree, and the head's gradients wait
    backward = max(
        earlier * gradients + footprint.backward(trained, each, again, gradients)
        for earlier, each in enumerate(pulled)
    )
    return {
        "student's activations": footprint.forward(trained, passes) + visible,
        "student's own hidden states": states * (len(passes) + pulls(recipe)),  # and their cotangents
        "chunk buffers": loss_arrays(recipe) * _chunk(recipe, trained, seen)
        + (trees(recipe) + pulls(recipe)) * _head_gradient(recipe, trained),  # sums, products on their way
        "backward": backward + trees(recipe) * _head_gradient(recipe, trained) + saved,
    }


def _chunk(recipe: Recipe, body: Body, seen: Lengths) -> int:
    """One array of chunk x vocabulary, float32."""
    positions = _count(recipe, seen) * recipe.rollout.max_completion_length
    return chunk_length(positions, recipe.objective.chunk_size) * body.size.text.vocabulary * FLOAT


def _count(recipe: Recipe, seen: Lengths) -> int:
    """Rollouts of a micro-batch: as many as its two limits allow, one at least."""
    settings, most = recipe.rollout, recipe.train.max_tokens_per_microbatch
    count = min(recipe.train.microbatch_size, settings.prompts_per_step * settings.completions_per_prompt)

    def positions(rollouts: int) -> int:
        prompts = ceil(rollouts / settings.completions_per_prompt) if seen.packs else rollouts
        return prompts * (seen.text + seen.image) + rollouts * settings.max_completion_length

    while count > 1 and most is not None and positions(count) > most:
        count -= 1
    return count


def micro_batch(recipe: Recipe, seen: Lengths, views: set[str]) -> list[Pass]:
    """The rows of a micro-batch in each of the views, with the image first.

    Packed, the completions of a prompt share one row with it; else each has a row of its own.
    """
    count = _count(recipe, seen)
    together = min(count, recipe.rollout.completions_per_prompt) if seen.packs else 1
    rows, answer = ceil(count / together), recipe.rollout.max_completion_length
    seeing = seen.text + seen.image
    lengths = {
        "with_image": seeing,
        "degraded": seeing,
        "text_only": seen.text if recipe.objective.text_view == "omit" else seeing,
    }
    if not seen.packs:
        return [plain(rows, lengths[view] + answer) for view in lengths if view in views]
    return [packed(rows, lengths[view], together, answer) for view in lengths if view in views]


def _head_gradient(recipe: Recipe, trained: Body) -> int:
    """Of a head that trains."""
    text = trained.size.text
    return text.vocabulary * text.hidden * FLOAT if recipe.student.train == "full" else 0


def _updating(recipe: Recipe) -> float:
    """Gradient trees that an update holds, measured: one and its scaled copy, or all that steering reads and makes."""
    return trees(recipe) + (1.75 if trees(recipe) > 1 else 1.1)


def _batches(recipe: Recipe, seen: Lengths) -> int:
    settings = recipe.rollout
    return ceil(settings.prompts_per_step * settings.completions_per_prompt / _count(recipe, seen))


def _tokens(recipe: Recipe, seen: Lengths) -> dict[str, int]:
    """At most: tokens drawn in a step, and positions that a pass of the student over its views computes."""
    settings = recipe.rollout
    drawn = settings.prompts_per_step * settings.completions_per_prompt * settings.max_completion_length
    one = sum(each.tokens for each in micro_batch(recipe, seen, resolved(recipe).student_views))
    return {"sampled": drawn, "computed": one * _batches(recipe, seen)}


def changed(recipe: Recipe, key: str, value) -> Recipe:
    """The recipe with one dotted key set."""
    section, name = key.split(".")
    return replace(recipe, **{section: replace(vars(recipe)[section], **{name: value})})
