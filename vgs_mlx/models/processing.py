"""Whether a model folder's processor does its work: asked once, before any weight is read.

Its files are read by libraries that check little. Damaged ones, and those of another model, would show as an error in
the midst of a run, or as pictures that are no numbers and questions that are never asked.
"""

import math
from typing import Any

import numpy as np
from PIL import Image

from vgs_mlx.errors import Refusal
from vgs_mlx.formats import texts

QUESTION = "What colour is it? 0123456789"
SIDE = 64  # pixels of the picture that is asked about
LARGEST = 10**8  # pixels that a small picture may be scaled up to: there is no such model
LONGEST = 50_000  # characters of a short question with all that its template adds
SIDES = ("patch_size", "temporal_patch_size", "merge_size")
SWITCHES = ("do_rescale", "do_normalize", "do_convert_rgb")
SAME = {
    "patch_size": "patch_size",
    "temporal_patch_size": "temporal_patch_size",
    "merge_size": "spatial_merge_size",
}
"""The processor's word and that of a config's vision_config for what both must agree on."""
COPY_THEM = "copy the tokenizer's and processor's files and the chat template from the original model"


def refuse_unusable(processor: Any, where: str) -> None:
    """A processor must put a picture and a question into numbers. Raises `Refusal`."""
    try:
        fault = _fault_of_settings(processor.image_processor) or _fault_of_prompt(processor)
    except Exception as error:  # templates, tokenizers and processors raise many kinds
        fault = f"it can't put a picture before a question ({texts.one_line(error, 200)})"
    if fault:
        raise Refusal(f"{where}: its processor doesn't work: {fault}: {COPY_THEM}")


def refuse_other_config(processor: Any, config: Any, where: str) -> None:
    """A processor must cut pictures, and mark their places, as the config of its model says. Raises `Refusal`."""
    ours, theirs = processor.image_processor, config.vision_config
    pairs = [(name, getattr(ours, name), getattr(theirs, other)) for name, other in SAME.items()]
    marker = processor.tokenizer.convert_tokens_to_ids(processor.image_token)
    for name, has, needs in [*pairs, ("picture placeholder", marker, config.image_token_id)]:
        if has != needs:
            raise Refusal(
                f"{where}: its processor's {name} is {has}, its config.json's {needs}: one of the two is of another "
                f"model: {COPY_THEM}, or config.json"
            )


def _fault_of_settings(settings: Any) -> str | None:
    """What of the settings for pictures is not a number that can be computed with; None where all are."""
    limits = {"min_pixels": settings.min_pixels, "max_pixels": settings.max_pixels}
    for name, value in {**{name: getattr(settings, name) for name in SIDES}, **limits}.items():
        if type(value) is not int or value < 1:
            return f"{name} is {value!r:.60}, not a whole number above 0"
    if settings.min_pixels > min(settings.max_pixels, LARGEST):
        return f"min_pixels is {settings.min_pixels:,}, more than a picture may have"
    for name in SWITCHES:
        if type(getattr(settings, name)) is not bool:
            return f"{name} is {getattr(settings, name)!r:.60}, not true or false"
    if not _is_number(settings.rescale_factor):
        return f"rescale_factor is {settings.rescale_factor!r:.60}, not a number above 0"
    for name, values in {"image_mean": settings.image_mean, "image_std": settings.image_std}.items():
        sound = isinstance(values, list | tuple) and len(values) == 3
        if not sound or not all(
            _is_number(each, least=-math.inf if "mean" in name else 0) for each in values
        ):
            return f"{name} is {values!r:.60}, not three numbers"
    return None


def _is_number(value: Any, least: float = 0) -> bool:
    return type(value) in (int, float) and least < value < math.inf


def _fault_of_prompt(processor: Any) -> str | None:
    """What is wrong with a question about a grey picture; None where it is as it should be."""
    content = [{"type": "image"}, {"type": "text", "text": QUESTION}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    if text.count(QUESTION) != 1 or text.count(processor.image_token) != 1:
        return "its chat template doesn't hold the question and the picture's place once each"
    if len(text) > LONGEST:
        return f"its chat template writes {len(text):,} characters around a question"
    if processor.video_token in text:
        return "its chat template makes a video's place for a picture"
    inputs = processor(text=[text], images=[Image.new("RGB", (SIDE, SIDE), "grey")])
    ids, grid, pixels = (np.array(inputs[name]) for name in ("input_ids", "image_grid_thw", "pixel_values"))
    ids = ids.reshape(-1)
    marker = processor.tokenizer.convert_tokens_to_ids(processor.image_token)
    if np.count_nonzero(ids == marker) * processor.image_processor.merge_size**2 != grid.prod():
        return "the picture has more or fewer places in the prompt than parts"
    if not np.isfinite(pixels.astype(np.float32)).all():
        return "the picture becomes numbers that aren't finite"
    if QUESTION not in processor.tokenizer.decode(ids.tolist()):
        return "its tokenizer doesn't give the question back"
    return None
