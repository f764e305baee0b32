"""A plan: bytes by kind and by phase. Made by `planning.commands`, printed by `planning.report`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from vgs_mlx.planning.sizes import ModelSize
from vgs_mlx.recipe.options import Recipe
from vgs_mlx.types import Prompt

TEXT_TOKENS = (
    160  # tokens of a prompt without its picture: the default system prompt, the template, a question
)

Parts = Mapping[str, int]
"""What is in memory: name -> bytes."""


@dataclass(frozen=True)
class Lengths:
    """The longest prompt in tokens and, if the rows have their own answers, the longest answer."""

    text: int
    image: int  # image tokens of all its pictures together
    answer: int | None = None  # None: unknown; assumed to be as long as sampled answers can get


@dataclass(frozen=True)
class Phase:
    """A part of a command. `moments`: what is in memory beside the resting parts, at each possible peak."""

    name: str
    moments: tuple[Parts, ...]

    @property
    def fullest(self) -> Parts:
        """What is in memory at its peak."""
        return max(self.moments, key=lambda parts: sum(parts.values()))

    def beside(self, parts: Parts) -> "Phase":
        """The same phase with `parts` in memory throughout."""
        return Phase(self.name, tuple({**parts, **moment} for moment in self.moments))


@dataclass(frozen=True)
class Plan:
    """Bytes. Resting parts are always in memory; a phase's peak is their sum plus that of its fullest moment."""

    resting: dict[str, int]  # student, teacher, adapters, optimiser
    phases: tuple[Phase, ...]
    tokens: dict[str, int]  # per step: sampled, computed; {} for a command without steps

    @property
    def peaks(self) -> dict[str, int]:
        """The peak of each phase."""
        rest = sum(self.resting.values())
        return {phase.name: rest + sum(phase.fullest.values()) for phase in self.phases}

    @property
    def peak(self) -> int:
        return max(self.peaks.values())

    @property
    def phase(self) -> str:
        """The phase that needs the most memory."""
        return max(self.peaks, key=lambda name: self.peaks[name])


def lengths_of(prompts: Sequence[Prompt]) -> Lengths:
    """The longest of the rendered prompts."""
    blind, seen = ([len(each.student[view].ids) for each in prompts] for view in ("text_only", "with_image"))
    return Lengths(max(blind), max(longer - text for longer, text in zip(seen, blind, strict=True)))


def lengths(recipe: Recipe, student: ModelSize) -> Lengths:
    """Prompts as long as the recipe allows: one picture of `data.max_pixels` and some text."""
    pixels = min(student.max_pixels, recipe.data.max_pixels or student.max_pixels)
    image = student.vision.image_tokens(pixels)
    return Lengths(TEXT_TOKENS, min(image, max(1, recipe.data.max_prompt_length - TEXT_TOKENS)))


def changed(recipe: Recipe, key: str, value) -> Recipe:
    """The recipe with another value for one dotted key."""
    section, name = key.split(".")
    return replace(recipe, **{section: replace(vars(recipe)[section], **{name: value})})
