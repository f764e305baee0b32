"""An example as the models see it: the chat-templated prompt in both views (METHOD, "Views")."""

from collections.abc import Callable, Set
from typing import Any, Literal

import numpy as np
from PIL import Image

from vgs_mlx.data import markers, templates
from vgs_mlx.errors import Refusal
from vgs_mlx.formats import texts
from vgs_mlx.recipe.options import Data
from vgs_mlx.types import Example, Picture, Prompt, PromptView

TextView = Literal["omit", "blank", "degraded"]
DEGRADED_SHARE = 0.1  # of the picture's width and height, as in arXiv 2605.21924
NARROW = 20  # times as long as wide: what a processor says of such a picture is that it is too narrow
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
    """How many image tokens the example's pictures cost, from their sizes alone: a noted size opens no picture.

    Raises a Refusal for a picture that the processor takes in no size.
    """
    limit = _limit(processor, max_pixels)
    return sum(_picture_tokens(processor, picture, limit) for picture in example.pictures)


def prompt_length(processor: Any, example: Example, settings: Data) -> int:
    """How many tokens the prompt with its pictures has, nothing rendered. Raises a Refusal as `image_tokens` does."""
    return image_tokens(processor, example, settings.max_pixels) + text_tokens(processor, example, settings)


def text_tokens(processor: Any, example: Example, settings: Data) -> int:
    """How many of its tokens are not a picture's own. Opens no picture."""
    # not verbose: how long is too long is said by `problem`, and not before that by a warning of the tokenizer's
    text = processor.tokenizer(_text(processor, example, 0, settings), verbose=False)["input_ids"]
    return len(text) + 2 * len(example.pictures)  # vision start and end


def problem(processor: Any, example: Example, settings: Data) -> str | None:
    """Why the example can't become a prompt, or None.

    A special token in its texts, a picture that the processor refuses, or too many tokens.
    """
    fed = {"question": example.question, "solution": example.solution, "answer": example.answer}
    for name, text in fed.items():
        if fault := special_token(processor, text):
            return f"the {name} {fault}"
    try:
        length = prompt_length(processor, example, settings)
    except Refusal as refusal:
        return str(refusal)
    if length > settings.max_prompt_length:
        return (
            f"the prompt has {length:,} tokens, data.max_prompt_length allows {settings.max_prompt_length:,}"
        )
    return None


def special_token(processor: Any, text: str) -> str | None:
    """Which special token a text holds, for a message; None for a text that is only text to the model."""
    tokenizer = processor.tokenizer
    added = (str(each) for each in tokenizer.added_tokens_decoder.values() if each.special)
    held = [each for each in dict.fromkeys([*tokenizer.all_special_tokens, *added, MARKER]) if each in text]
    return f"holds the special token {held[0]}" if held else None


def refuse_system_prompt(processor: Any, text: str) -> None:
    """Refuses a system prompt that is more than text to the model, or speaks of pictures by their markers."""
    if fault := texts.fault(text):
        raise Refusal(f"data.system_prompt {fault}")
    if fault := special_token(processor, text):
        raise Refusal(f"data.system_prompt {fault}: take it out")
    if fault := markers.fault(text):
        raise Refusal(f"data.system_prompt {fault}")


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


def _picture_tokens(processor: Any, picture: Picture, limit: int) -> int:
    width, height = picture.size or picture.open().size
    try:
        return processor.image_processor.num_image_tokens(height, width, max_pixels=limit)
    except ValueError as error:
        long, short = ("wide", "high") if width > height else ("high", "wide")
        ratio = max(width, height) / min(width, height)
        reason = f"{ratio:,.0f} times as {long} as {short}" if ratio > NARROW else str(error)
        raise Refusal(
            f"picture {picture.name}: {width}x{height} pixels, {reason}: the model's processor takes no such picture: "
            "crop it, or pad it"
        ) from error


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
