"""The data that flows through the package: Example -> Prompt (two views) -> Rollout. Plain and frozen."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Picture:
    """A picture of an example, decoded when asked for: data sets can be larger than memory."""

    name: str  # for messages and logs: a file name, "data URI", "shapes/train/17"
    open: Callable[[], Image.Image]  # RGB, EXIF orientation applied
    encoded: Callable[[], bytes] | None = None  # the bytes that it is decoded from; None: it is drawn
    size: tuple[int, int] | None = None  # width and height in pixels, as opened; None: not looked at yet
    digest: str = ""  # of its bytes when it was looked at; "": not looked at yet, or drawn


@dataclass(frozen=True)
class Example:
    """A row of a data set: a question about pictures, and the right final answer or several that are right."""

    id: str  # where it comes from, unique in its data set: "train.jsonl:12", "shapes/train/17"
    question: str
    answer: str
    pictures: tuple[Picture, ...]
    kind: str = ""  # the question's kind, by which accuracy is also reported
    solution: str = ""  # a worked answer, where the data set has one
    facts: tuple[str, ...] = ()  # the objects truly in the picture, where known ("red circle")
    also: tuple[str, ...] = ()  # other answers that are as right as `answer`
    options: tuple[str, ...] = ()  # the texts of the options A, B, C, ... where the question has such

    @property
    def answers(self) -> tuple[str, ...]:
        """All right final answers."""
        return (self.answer, *self.also)

    @property
    def expected(self) -> str:
        """All right final answers in one text for readers: "car or automobile"."""
        return " or ".join(self.answers)


@dataclass(frozen=True, eq=False)
class PromptView:
    """A prompt as one view of it is fed to a model."""

    ids: np.ndarray  # (P,) int32, image placeholders expanded
    pixel_values: np.ndarray | None  # (patches, channels*time*height*width) float32
    image_grid_thw: np.ndarray | None  # (pictures, 3) int64, in patches


@dataclass(frozen=True, eq=False)
class Prompt:
    """An example ready for the models, in its views. A completion is the same tokens after each of them."""

    example: Example
    with_image: PromptView
    text_only: PromptView
    degraded: PromptView | None = None  # the pictures scaled down and up again, where the objective needs it
    white: PromptView | None = None  # white pictures, where the reward needs them


@dataclass(frozen=True, eq=False)
class Rollout:
    """A prompt with one completion that the student sampled."""

    prompt: Prompt
    completion: np.ndarray  # (T,) int32; the end-of-sequence token stays in, where there is one
    sampling_logprobs: np.ndarray  # (T,) float32, nats, of the distribution sampled from
    ended: bool  # False: cut off at max_completion_length
