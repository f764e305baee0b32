"""A model's processor, used through its family, and the checks that it works, run once before weights are read.

The libraries that read a processor's files check little. Damaged files, and files of another model, would cause an
error in the middle of a run, pictures with values that aren't finite, or prompts without the question.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from vgs_mlx.errors import Refusal
from vgs_mlx.formats import texts
from vgs_mlx.models.families.base import Family, PictureTokens
from vgs_mlx.types import View

QUESTION = "What colour is it? 0123456789"
SIDE = 64  # pixels of the test picture's sides
LONGEST = 50_000  # characters of a short question with everything that the template adds
COPY_THEM = "copy the tokenizer's and processor's files and the chat template from the original model"


@dataclass(frozen=True, eq=False)
class Processor:
    """Turns messages with pictures into what a model reads."""

    family: Family
    inner: Any  # the transformers processor: tokenizer, chat template, image processor

    @property
    def tokenizer(self) -> Any:
        return self.inner.tokenizer

    @property
    def chat_template(self) -> Any:
        """The template's text, which may belong to the tokenizer; a dict if there are several templates."""
        return self.inner.chat_template or self.tokenizer.chat_template

    def apply_chat_template(self, messages: Sequence[Mapping[str, Any]], **options: Any) -> str:
        """The messages as text; one token marks the place of each picture."""
        owner = self.inner if self.inner.chat_template else self.tokenizer
        return self.family.conversation(
            lambda given: owner.apply_chat_template(list(given), **options), messages
        )

    def render(self, text: str, pictures: Sequence[Image.Image], limit: int | None = None) -> View:
        """See `Family.render`."""
        return self.family.render(self.inner, text, pictures, limit)

    def picture_tokens(self, width: int, height: int, limit: int | None) -> PictureTokens:
        """See `Family.picture_tokens`."""
        return self.family.picture_tokens(self.inner, width, height, limit)

    @property
    def special_texts(self) -> tuple[str, ...]:
        """See `Family.special_texts`."""
        return self.family.special_texts(self.inner)

    @property
    def preparation(self) -> Mapping[str, Any]:
        """See `Family.preparation`."""
        return self.family.preparation(self.inner)


def refuse_unusable(processor: Processor, where: str) -> None:
    """A processor must turn a picture and a question into numbers. Raises `Refusal`."""
    try:
        fault = processor.family.fault(processor.inner) or _fault_of_prompt(processor)
    except Exception as error:  # templates, tokenizers and processors raise many kinds of error
        fault = f"it can't process a picture with a question ({texts.one_line(error, 200)})"
    if fault:
        raise Refusal(f"{where}: its processor doesn't work: {fault}: {COPY_THEM}")


def refuse_other_config(processor: Processor, config: Any, where: str) -> None:
    """A processor must cut pictures, and mark their places, as its model's config says. Raises `Refusal`."""
    for name, (has, needs) in processor.family.other_config(processor.inner, config).items():
        if has != needs:
            raise Refusal(
                f"{where}: its processor's {name} is {has}, its config.json's {needs}: one of the two belongs "
                f"to another model: {COPY_THEM}, config.json too"
            )


def _fault_of_prompt(processor: Processor) -> str | None:
    """What is wrong with the prompt of a question, with and without a grey picture; None if nothing is."""
    place, texts_by_view = processor.inner.image_token, {}
    for name, pictures in (("with_image", [{"type": "image"}]), ("text_only", [])):
        messages = [{"role": "user", "content": [*pictures, {"type": "text", "text": QUESTION}]}]
        text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        if text.count(QUESTION) != 1 or text.count(place) != len(pictures):
            return "its chat template doesn't write the question and the picture's place exactly once"
        if (video := vars(processor.inner).get("video_token")) and video in text:
            return "its chat template treats a picture as a video"
        if len(text) > LONGEST:
            return f"its chat template writes {len(text):,} characters around a question"
        texts_by_view[name] = text
    grey = Image.new("RGB", (SIDE, SIDE), "grey")
    seen = processor.render(texts_by_view["with_image"], [grey])
    blind = processor.render(texts_by_view["text_only"], [])
    return _fault_of_views(processor, seen, blind)


def _fault_of_views(processor: Processor, seen: View, blind: View) -> str | None:
    """What is wrong with the two views of one question; None if nothing is."""
    tokenizer, pixels = processor.tokenizer, seen.media["pixel_values"]
    marker = tokenizer.convert_tokens_to_ids(processor.inner.image_token)
    adds = processor.picture_tokens(SIDE, SIDE, None)
    if np.count_nonzero(seen.ids == marker) != adds.features:
        return "the prompt doesn't have exactly one place for each feature of the picture"
    if not np.isfinite(pixels).all():
        return "the picture's values aren't finite numbers"
    for view in (seen, blind):
        if QUESTION not in tokenizer.decode(view.ids.tolist()):
            return "its tokenizer doesn't decode the question to the same text"
        if tokenizer.bos_token_id is not None and (view.ids[:2] == tokenizer.bos_token_id).all():
            return "a prompt begins with two begin-of-sequence ids"
    if not inserted(blind.ids, seen.ids) or len(seen.ids) != len(blind.ids) + adds.features + adds.marks:
        return "the prompt with a picture and the prompt without it differ in more than the picture"
    return None


def inserted(shorter: np.ndarray, longer: np.ndarray) -> bool:
    """Whether `longer` is `shorter` with one run of ids inserted somewhere."""
    count = len(shorter)
    if count > len(longer):
        return False
    before = np.cumprod(shorter == longer[:count]).sum()
    after = np.cumprod((shorter == longer[len(longer) - count :])[::-1]).sum()
    return bool(before + after >= count)
