"""What is in memory all the time: weights as the device keeps them, adapters, the optimiser's moments."""

from vgs_mlx.models.precision import QUANTISATION_GROUP
from vgs_mlx.planning.footprint import FLOAT, Body, Device
from vgs_mlx.planning.sizes import ModelSize, Weights, linears
from vgs_mlx.recipe.options import Recipe, Student


def of_training(
    recipe: Recipe, student: ModelSize, teacher: ModelSize | None, device: Device
) -> dict[str, int]:
    """The resting parts of a run. AdamW keeps two float32 moments of each weight that trains."""
    cache = round(recipe.train.picture_cache_gb * 1e9)
    return {
        **of_models(recipe, student, teacher, device),
        "optimiser": 2 * trainable(recipe.student, student) * FLOAT,
        **({"picture cache": cache} if cache else {}),
    }


def of_models(
    recipe: Recipe, student: ModelSize, teacher: ModelSize | None, device: Device
) -> dict[str, int]:
    """The student as its recipe trains it, its adapters, and the teacher if there is one."""
    settings = recipe.student
    full = settings.train == "full"
    language, vision = student.language_weights, student.vision_weights
    body = language.elements * FLOAT if full else stored(language, device)
    seeing = vision.elements * FLOAT if settings.train_vision else stored(vision, device)
    added = trainable(settings, student) - (vision.elements if settings.train_vision else 0)
    return {
        "student": body + seeing,
        "teacher": of_model(teacher, device, recipe.teacher.bits) if teacher else 0,
        "adapters": 0 if full else added * FLOAT,
    }


def of_model(size: ModelSize, device: Device, bits: int | None = None) -> int:
    """A frozen model's bytes; `bits`: what its language model is quantised to."""
    return stored(size.language_weights, device, bits) + stored(size.vision_weights, device)


def fused(recipe: Recipe, student: ModelSize, device: Device, number: int) -> int:
    """Bytes of a fused student, `number` for each changed weight: all of the language model's count as changed."""
    vision = student.vision_weights
    seeing = vision.elements * number if recipe.student.train_vision else stored(vision, device)
    body = student.language_weights.elements * (FLOAT if device.widens else number)
    return max(body, stored(student.language_weights, device)) + seeing


def stored(weights: Weights, device: Device, bits: int | None = None) -> int:
    """Bytes in memory: float32 where the device widens; else as stored, or packed with a scale and a bias per group."""
    if device.widens:
        return weights.elements * FLOAT
    if not bits or not weights.packable:
        return weights.stored
    width = weights.stored // weights.elements
    packed = weights.packable * bits // 8 + 2 * width * weights.packable // QUANTISATION_GROUP
    return weights.stored - width * weights.packable + packed


def trainable(settings: Student, size: ModelSize) -> int:
    """How many weights train. DoRA has a magnitude for every output as well."""
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


def trained_body(recipe: Recipe, student: ModelSize, device: Device) -> Body:
    """The student as its passes see it: activations are float32 where all weights train."""
    settings = recipe.student
    number = FLOAT if settings.train == "full" else _number(student, device)
    return Body(student, device, number, settings.train, settings.rank)


def frozen_body(size: ModelSize, device: Device) -> Body:
    """A model without anything that trains, as its passes see it."""
    return Body(size, device, _number(size, device), None)


def _number(size: ModelSize, device: Device) -> int:
    """Bytes of an activation: as many as a weight has."""
    return FLOAT if device.widens else size.dtype_bytes
