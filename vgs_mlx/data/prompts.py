"""An example as the models see it: the chat-templated prompt in both views (METHOD, "Views")."""

from collections.abc import Callable, Set
from typing import Any, Literal

import numpy as np
from PIL import Image

from vgs_mlx.data import templates
from vgs_mlx.recipe import Data
from vgs_mlx.types import Example, Prompt, PromptView

TextView = Literal["omit", "blank", "degraded"]
DEGRADED_SHARE = 0.1  # of the picture's width and height, as in arXiv 2605.21924
MARKER = "<|placeholder|>"  # mlx-vlm's processors turn it into a picture's token wherever it stands


def render(
    processor: Any,
    example: Example,
    settings: Data,
    *,
    text_view: TextView = "omit",
    more: Set[str] = frozenset(),
) -> Prompt:
    """The prompt in its views. Nothing is cut; pictures are scaled by the model's own processor alone.

    The text view is the same messages without any picture part (`omit`), or with the pictures replaced by
    grey ones (`blank`) or by ones scaled down to a tenth and back up (`degraded`). `more` names further
    views that are wanted: `degraded`, `white`.
    """
    pictures = [picture.open() for picture in example.pictures]

    def view(changed: Callable[[Image.Image], Image.Image] | None) -> PromptView:
        shown = [] if changed is None else [changed(picture) for picture in pictures]
        return _view(processor, example, shown, settings)

    return Prompt(
        example=example,
        with_image=view(lambda picture: picture),
        text_only=view(CHANGES[text_view]),
        **{name: view(CHANGES[name]) for name in more},
    )


def image_tokens(processor: Any, example: Example, max_pixels: int | None) -> int:
    """How many image tokens the example's pictures cost, from their sizes alone."""
    count, limit = processor.image_processor.num_image_tokens, _limit(processor, max_pixels)
    sizes = [picture.open().size for picture in example.pictures]
    return sum(count(height, width, max_pixels=limit) for width, height in sizes)


def prompt_length(processor: Any, example: Example, settings: Data) -> int:
    """How many tokens the prompt with its pictures has, nothing rendered. A refused picture: ValueError."""
    return image_tokens(processor, example, settings.max_pixels) + text_tokens(processor, example, settings)


def text_tokens(processor: Any, example: Example, settings: Data) -> int:
    """How many of its tokens are not a picture's own. Opens no picture."""
    text = processor.tokenizer(_text(processor, example, 0, settings))["input_ids"]
    return len(text) + 2 * len(example.pictures)  # vision start and end


def problem(processor: Any, example: Example, settings: Data) -> str | None:
    """Why the example can't become a prompt, or None.

    A special token in its texts, a picture that the processor refuses, or too many tokens.
    """
    special = processor.tokenizer.all_special_tokens
    for name, text, tokens in (
        ("question", example.question, (*special, MARKER)),
        ("solution", example.solution, special),
        ("answer", example.answer, special),
    ):
        if held := [each for each in tokens if each in text]:
            return f"the {name} holds the special token {held[0]}"
    try:
        length = prompt_length(processor, example, settings)
    except ValueError as error:  # far too long and narrow
        return f"the model's processor refuses a picture: {error}"
    if length > settings.max_prompt_length:
        return (
            f"the prompt has {length:,} tokens, data.max_prompt_length allows {settings.max_prompt_length:,}"
        )
    return None


def _view(processor: Any, example: Example, pictures: list[Image.Image], settings: Data) -> PromptView:
    text = _text(processor, example, len(pictures), settings)
    if not pictures:
        return PromptView(np.array(processor.tokenizer(text)["input_ids"], dtype=np.int32), None, None)
    inputs = processor(text=[text], images=pictures, max_pixels=_limit(processor, settings.max_pixels))
    return PromptView(
        ids=np.array(inputs["input_ids"], dtype=np.int32).reshape(-1),
        pixel_values=np.array(inputs["pixel_values"], dtype=np.float32),
        image_grid_thw=np.array(inputs["image_grid_thw"], dtype=np.int64),
    )


def _text(processor: Any, example: Example, pictures: int, settings: Data) -> str:
    content = [{"type": "image"}] * pictures + [{"type": "text", "text": example.question}]
    messages = [{"role": "user", "content": content}]
    if settings.system_prompt:
        messages.insert(0, {"role": "system", "content": [{"type": "text", "text": settings.system_prompt}]})
    return templates.apply(processor, messages, settings.template_options)


def _limit(processor: Any, max_pixels: int | None) -> int:
    """`data.max_pixels` narrows the processor's own limit and never widens it."""
    own = processor.image_processor.max_pixels
    return own if max_pixels is None else min(own, max_pixels)


def _blank(picture: Image.Image) -> Image.Image:
    return Image.new("RGB", picture.size, (128, 128, 128))


def _white(picture: Image.Image) -> Image.Image:
    return Image.new("RGB", picture.size, (255, 255, 255))


def _degraded(picture: Image.Image) -> Image.Image:
    width, height = (max(1, round(side * DEGRADED_SHARE)) for side in picture.size)
    small = picture.resize((width, height), Image.Resampling.BILINEAR)
    return small.resize(picture.size, Image.Resampling.NEAREST)


CHANGES = {"omit": None, "blank": _blank, "degraded": _degraded, "white": _white}
"""What becomes of a picture in a view other than the one with it; None: there is no picture."""
