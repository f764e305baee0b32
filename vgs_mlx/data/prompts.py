"""Builds the prompts of an example: chat-templated, in each view (METHOD, "Views")."""

from collections.abc import Callable, Set
from typing import Any, Literal

from PIL import Image

from vgs_mlx.data import markers, templates
from vgs_mlx.errors import Refusal
from vgs_mlx.formats import texts
from vgs_mlx.models.families.base import PictureTokens
from vgs_mlx.recipe.options import Data
from vgs_mlx.types import Example, Picture, Prompt, View

TextView = Literal["omit", "blank", "degraded"]
DEGRADED_SHARE = 0.1  # of the picture's width and height, as in arXiv 2605.21924
NARROW = 20  # ratio of sides above which a processor rejects a picture as too narrow


def render(
    processor: Any,
    example: Example,
    settings: Data,
    *,
    text_view: TextView = "omit",
    more: Set[str] = frozenset(),
) -> Prompt:
    """The prompt in its views. Nothing is cut; only the model's own processor scales pictures.

    The text view has the same messages without pictures (`omit`), or with grey pictures (`blank`) or with
    pictures scaled down to a tenth and back up (`degraded`). `more` names further views to build:
    `degraded`, `white`.
    """
    pictures = [picture.open() for picture in example.pictures]

    def view(changed: Callable[[Image.Image], Image.Image] | None) -> View:
        shown = [] if changed is None else [changed(picture) for picture in pictures]
        return processor.render(_text(processor, example, len(shown), settings), shown, settings.max_pixels)

    changes = {"with_image": lambda picture: picture, "text_only": CHANGES[text_view]}
    views = {
        name: view(change) for name, change in {**changes, **{name: CHANGES[name] for name in more}}.items()
    }
    return Prompt(example, student=views, teacher=views)


def image_tokens(processor: Any, example: Example, max_pixels: int | None) -> int:
    """The number of image tokens of the example's pictures, from their sizes. Opens only pictures of unknown size.

    Raises `Refusal` for a picture that the processor doesn't accept.
    """
    return sum(_picture_tokens(processor, picture, max_pixels).features for picture in example.pictures)


def prompt_length(processor: Any, example: Example, settings: Data) -> int:
    """The length in tokens of the prompt with its pictures; renders nothing. Raises `Refusal` like `image_tokens`."""
    return image_tokens(processor, example, settings.max_pixels) + text_tokens(processor, example, settings)


def text_tokens(processor: Any, example: Example, settings: Data) -> int:
    """The number of its tokens that are words or picture marks. Opens only pictures of unknown size."""
    # not verbose: `problem` reports a prompt that is too long, so the tokenizer need not warn
    text = processor.tokenizer(_text(processor, example, 0, settings), verbose=False)["input_ids"]
    marks = (_picture_tokens(processor, each, settings.max_pixels).marks for each in example.pictures)
    return len(text) + sum(marks)


def problem(processor: Any, example: Example, settings: Data) -> str | None:
    """Why the example can't become a prompt, or None.

    Reasons: a special token in its texts, a picture that the processor rejects, or too many tokens.
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
    """Which special token a text holds, for a message; None if it has none."""
    tokenizer = processor.tokenizer
    added = (str(each) for each in tokenizer.added_tokens_decoder.values() if each.special)
    special = dict.fromkeys([*tokenizer.all_special_tokens, *added, *processor.special_texts])
    held = [each for each in special if each in text]
    return f"holds the special token {held[0]}" if held else None


def refuse_system_prompt(processor: Any, text: str) -> None:
    """Raises `Refusal` for a system prompt that holds special tokens or picture markers."""
    if fault := texts.fault(text):
        raise Refusal(f"data.system_prompt {fault}")
    if fault := special_token(processor, text):
        raise Refusal(f"data.system_prompt {fault}: remove it")
    if fault := markers.fault(text):
        raise Refusal(f"data.system_prompt {fault}")


def _picture_tokens(processor: Any, picture: Picture, limit: int | None) -> PictureTokens:
    width, height = picture.size or picture.open().size
    try:
        return processor.picture_tokens(width, height, limit)
    except ValueError as error:
        long, short = ("wide", "high") if width > height else ("high", "wide")
        ratio = max(width, height) / min(width, height)
        reason = f"{ratio:,.0f} times as {long} as {short}" if ratio > NARROW else str(error)
        raise Refusal(
            f"picture {picture.name}: {width}x{height} pixels, {reason}: the model's processor doesn't accept it: "
            "crop it, or pad it"
        ) from error


def _text(processor: Any, example: Example, pictures: int, settings: Data) -> str:
    content = [{"type": "image"}] * pictures + [{"type": "text", "text": example.question}]
    messages = [{"role": "user", "content": content}]
    if settings.system_prompt:
        messages.insert(0, {"role": "system", "content": [{"type": "text", "text": settings.system_prompt}]})
    return templates.apply(processor, messages, settings.template_options)


def _blank(picture: Image.Image) -> Image.Image:
    return Image.new("RGB", picture.size, (128, 128, 128))


def _white(picture: Image.Image) -> Image.Image:
    return Image.new("RGB", picture.size, (255, 255, 255))


def _degraded(picture: Image.Image) -> Image.Image:
    width, height = (max(1, round(side * DEGRADED_SHARE)) for side in picture.size)
    small = picture.resize((width, height), Image.Resampling.BILINEAR)
    return small.resize(picture.size, Image.Resampling.NEAREST)


CHANGES = {"omit": None, "blank": _blank, "degraded": _degraded, "white": _white}
"""How other views than `with_image` change a picture; None: they omit it."""
