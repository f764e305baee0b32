"""The data that flows through the package: Example -> Prompt (views of both models) -> Rollout. Plain and frozen."""

import functools
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Picture:
    """A picture of an example, decoded when asked for: data sets can be larger than memory."""

    name: str  # for messages and logs: a file name, "data URI", "shapes/train/17"
    open: Callable[[], Image.Image]  # RGB, EXIF orientation applied
    encoded: Callable[[], bytes] | None = None  # the bytes it is decoded from; None: the picture is drawn
    size: tuple[int, int] | None = None  # width and height in pixels, as opened; None: not opened yet
    digest: str = ""  # of its bytes when it was first read; "": not read yet, or drawn


@dataclass(frozen=True)
class Example:
    """A row of a data set: a question about pictures, and one or more right final answers."""

    id: str  # its source, unique in its data set: "train.jsonl:12", "shapes/train/17"
    question: str
    answer: str
    pictures: tuple[Picture, ...]
    kind: str = ""  # the question's kind, by which accuracy is also reported
    solution: str = ""  # a worked answer, where the data set has one
    facts: tuple[str, ...] = ()  # the objects that the picture shows, where known ("red circle")
    also: tuple[str, ...] = ()  # other right answers
    options: tuple[str, ...] = ()  # the texts of the options A, B, C, ... where the question has options

    @property
    def answers(self) -> tuple[str, ...]:
        """All right final answers."""
        return (self.answer, *self.also)

    @property
    def expected(self) -> str:
        """All right final answers in one text for readers: "car or automobile"."""
        return " or ".join(self.answers)


@dataclass(frozen=True, eq=False)
class View:
    """A rendered prompt: what a model reads before the completion. Views with equal content have equal keys."""

    ids: np.ndarray  # (P,) int32, image placeholders expanded
    media: Mapping[
        str, np.ndarray
    ]  # the processor's arrays for the pictures; empty without pictures; only the family reads them

    @functools.cached_property
    def key(self) -> bytes:
        """A digest of ids and media, the same in every process. Results computed from a view are stored under it."""
        digest = hashlib.blake2b(self.ids.tobytes(), digest_size=16)
        digest.update(self.media_key)
        return digest.digest()

    @functools.cached_property
    def media_key(self) -> bytes:
        """A digest of the media alone."""
        digest = hashlib.blake2b(digest_size=16)
        for name, array in sorted(self.media.items()):
            digest.update(f"{name} {array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.digest()


Views = Mapping[str, View]
"""By name: "with_image", "text_only", and where needed "degraded" and "white"."""
Side = Literal["student", "teacher"]


@dataclass(frozen=True, eq=False)
class Prompt:
    """An example ready for the models: the views of each. A completion has the same tokens after every view."""

    example: Example
    student: Views
    teacher: Views

    def views(self, side: Side) -> Views:
        return self.student if side == "student" else self.teacher


@dataclass(frozen=True, eq=False)
class Rollout:
    """A prompt with one completion that the student sampled."""

    prompt: Prompt
    completion: np.ndarray  # (T,) int32; the end-of-sequence token stays in, where there is one
    sampling_logprobs: np.ndarray  # (T,) float32, nats, of the distribution sampled from
    ended: bool  # False: cut off at max_completion_length
    number: int  # of its prompt in the step; rollouts of one prompt share it
