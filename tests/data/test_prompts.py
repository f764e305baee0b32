"""Both views are the same messages; the text view knows nothing of a picture, and nothing is cut or resized."""

from dataclasses import replace

import mlx.core as mx
import mlx_vlm.utils
import numpy as np
import pytest
from mlx_vlm.prompt_utils import apply_chat_template
from PIL import Image

from vgs_mlx.data.prompts import image_tokens, problem, render
from vgs_mlx.models.loading import find_folder, load_processor, read_config
from vgs_mlx.recipe.options import Data
from vgs_mlx.types import Example, Picture

QUESTION = "How many red circles are there?"
SYSTEM = "Look at the picture first."
VISION = ("<|vision_start|>", "<|image_pad|>", "<|vision_end|>", "<|video_pad|>")


@pytest.fixture(scope="module")
def processor():
    return load_processor(find_folder("embedded:student", "--student"), "--student")


@pytest.fixture(scope="module")
def side(processor) -> int:
    """Pixels, in each direction, that make one image token."""
    return processor.image_processor.patch_size * processor.image_processor.merge_size


def noise(seed: int, width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def example(*images: Image.Image, question: str = QUESTION) -> Example:
    pictures = tuple(Picture(f"picture-{at}", image.copy) for at, image in enumerate(images))
    return Example(id="row", question=question, answer="3", pictures=pictures)


def rendered(processor, *images, question=QUESTION, system_prompt=SYSTEM, max_pixels=None, **options):
    row = example(*images, question=question)
    return render(processor, row, Data(system_prompt=system_prompt, max_pixels=max_pixels), **options)


def ids_of(processor, names=VISION) -> set[int]:
    return {processor.tokenizer.get_vocab()[name] for name in names}


def one_or_two(side: int) -> list[tuple[Image.Image, ...]]:
    return [(noise(1, 3 * side, 3 * side),), (noise(1, 2 * side, 3 * side), noise(2, 4 * side, 2 * side))]


# --- the two views ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("system_prompt", [SYSTEM, ""])
def test_the_text_view_is_the_image_view_without_its_vision_tokens(processor, side, count, system_prompt):
    prompt = rendered(processor, *one_or_two(side)[count - 1], system_prompt=system_prompt)
    vision = ids_of(processor)
    assert vision & set(prompt.student["with_image"].ids.tolist()) and not vision & set(
        prompt.student["text_only"].ids.tolist()
    )
    left = [each for each in prompt.student["with_image"].ids.tolist() if each not in vision]
    assert left == prompt.student["text_only"].ids.tolist()
    assert (not prompt.student["text_only"].media) and (not prompt.student["text_only"].media)


def test_a_row_without_pictures_is_the_same_in_both_views(processor):
    prompt = rendered(processor)
    np.testing.assert_array_equal(prompt.student["with_image"].ids, prompt.student["text_only"].ids)
    assert not prompt.student["with_image"].media


def test_a_system_prompt_is_there_or_not(processor, side):
    """No template may put in one of its own."""
    pictures = one_or_two(side)[0]
    prompts = [rendered(processor, *pictures, system_prompt=each) for each in (SYSTEM, "")]
    present, absent = (processor.tokenizer.decode(each.student["text_only"].ids) for each in prompts)
    assert SYSTEM in present and present.count("<|im_start|>") == 3  # system, user, assistant
    assert SYSTEM not in absent and absent.count("<|im_start|>") == 2
    assert all(QUESTION in each and each.endswith("<|im_start|>assistant\n") for each in (present, absent))


def test_arrays_have_the_promised_types(processor, side):
    view = rendered(processor, *one_or_two(side)[1]).student["with_image"]
    assert view.ids.dtype == np.int32 and view.ids.ndim == 1
    assert view.media["pixel_values"].dtype == np.float32 and view.media["image_grid_thw"].dtype == np.int64
    assert view.media["image_grid_thw"].tolist() == [[1, 6, 4], [1, 4, 8]]
    settings = processor.image_processor
    width = 3 * settings.temporal_patch_size * settings.patch_size**2
    assert view.media["pixel_values"].shape == (24 + 32, width)


# --- against stock mlx-vlm --------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 2])
def test_the_prompt_is_what_stock_mlx_vlm_makes_of_the_same_message(processor, side, count):
    config = read_config(find_folder("embedded:student", "--student"), "--student")
    images = [(), *one_or_two(side)][count]
    text = apply_chat_template(processor, config, QUESTION, num_images=count)
    stock = mlx_vlm.utils.prepare_inputs(processor, images=list(images) or None, prompts=text)
    ours = rendered(processor, *images, system_prompt="").student["with_image"]
    np.testing.assert_array_equal(ours.ids, np.array(stock["input_ids"])[0])
    if count:
        np.testing.assert_array_equal(ours.pixel_values, np.array(stock["pixel_values"].astype(mx.float32)))
        np.testing.assert_array_equal(ours.image_grid_thw, np.array(stock["image_grid_thw"]))


def test_with_a_system_prompt_too(processor, side):
    config = read_config(find_folder("embedded:student", "--student"), "--student")
    images = one_or_two(side)[0]
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": QUESTION}]
    text = apply_chat_template(processor, config, messages, num_images=1)
    stock = mlx_vlm.utils.prepare_inputs(processor, images=list(images), prompts=text)
    np.testing.assert_array_equal(
        rendered(processor, *images).student["with_image"].ids, np.array(stock["input_ids"])[0]
    )


# --- pictures ---------------------------------------------------------------------------------------------------


def pixels_of(processor, view, picture: int = 0) -> np.ndarray:
    """The picture (height, width, 3), 0-255, put together from the patches that the model is fed."""
    settings = processor.image_processor
    counts = view.media["image_grid_thw"].prod(axis=1)
    patches = view.media["pixel_values"][counts[:picture].sum() :][: counts[picture]]
    _, rows, columns = view.media["image_grid_thw"][picture]
    merge, patch, times = settings.merge_size, settings.patch_size, settings.temporal_patch_size
    blocks = patches.reshape(rows // merge, columns // merge, merge, merge, 3, times, patch, patch)
    whole = blocks[:, :, :, :, :, 0].transpose(0, 2, 5, 1, 3, 6, 4).reshape(rows * patch, columns * patch, 3)
    return np.rint((whole * settings.image_std + settings.image_mean) * 255).astype(int)


def test_a_picture_reaches_the_model_pixel_for_pixel(processor, side):
    """Where its sides fit the patches, no one resizes it: not even by a copy."""
    images = one_or_two(side)[1]
    view = rendered(processor, *images).student["with_image"]
    for at, image in enumerate(images):
        np.testing.assert_array_equal(pixels_of(processor, view, at), np.asarray(image))


SIZES = [(72, 72), (10, 10), (100, 30), (31, 200), (500, 400), (1, 150)]


@pytest.mark.parametrize("max_pixels", [None, 5_000, 1])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_image_tokens_are_counted_as_the_processor_makes_them(processor, size, max_pixels):
    row = example(noise(1, *size), noise(2, *SIZES[0]))
    view = render(processor, row, Data(system_prompt="", max_pixels=max_pixels)).student["with_image"]
    [placeholder] = ids_of(processor, ["<|image_pad|>"])
    assert image_tokens(processor, row, max_pixels) == (view.ids == placeholder).sum() > 1


def test_max_pixels_narrows_the_processors_limit_and_never_widens_it(processor, side):
    row = example(noise(1, 20 * side, 20 * side))
    own, narrower, wider = (image_tokens(processor, row, each) for each in (None, 4 * side**2, 10**9))
    assert narrower == 4 < own == wider < 400


def test_blank_pictures_are_grey_and_leave_the_tokens_alone(processor, side):
    prompt = rendered(processor, *one_or_two(side)[1], text_view="blank")
    np.testing.assert_array_equal(prompt.student["text_only"].ids, prompt.student["with_image"].ids)
    np.testing.assert_array_equal(
        prompt.student["text_only"].media["image_grid_thw"],
        prompt.student["with_image"].media["image_grid_thw"],
    )
    for at in range(2):
        assert np.abs(pixels_of(processor, prompt.student["text_only"], at) - 128).max() == 0


def test_degraded_pictures_keep_a_tenth_of_each_side(processor, side):
    """Of noise, one square of one colour remains for each pixel of the small picture."""
    width = 5 * side
    image = noise(1, width, width)
    prompt = rendered(processor, image, text_view="degraded")
    np.testing.assert_array_equal(prompt.student["text_only"].ids, prompt.student["with_image"].ids)
    found = pixels_of(processor, prompt.student["text_only"])
    small = round(width * 0.1)
    colours = [len(np.unique(each.reshape(-1, 3), axis=0)) for each in (found, np.asarray(image))]
    assert colours[0] <= small**2 < colours[1]
    corner = width // small - 1
    assert (found[:corner, :corner] == found[0, 0]).all()  # the first square is of one colour
    assert abs(found.mean() - np.asarray(image).mean()) < 3  # and the whole as bright as before
    np.testing.assert_array_equal(pixels_of(processor, prompt.student["with_image"]), np.asarray(image))


# --- rows that can not be prompts -------------------------------------------------------------------------------


def why(processor, row, max_length=500, system_prompt=SYSTEM, max_pixels=None):
    settings = Data(system_prompt=system_prompt, max_pixels=max_pixels, max_prompt_length=max_length)
    return problem(processor, row, settings)


@pytest.mark.parametrize("token", [*VISION, "<|im_end|>", "<|im_start|>", "<|endoftext|>", "<|placeholder|>"])
def test_a_special_token_in_the_question_is_a_problem(processor, side, token):
    row = example(noise(1, side, side), question=f"What is {token} here?")
    assert why(processor, row) == f"the question holds the special token {token}"


@pytest.mark.parametrize("field", ["solution", "answer"])
def test_a_special_token_in_an_answer_is_a_problem_and_a_marker_is_none(processor, side, field):
    row = example(noise(1, side, side))
    assert (
        why(processor, replace(row, **{field: "so <|im_end|>"}))
        == f"the {field} holds the special token <|im_end|>"
    )
    assert why(processor, replace(row, **{field: "so <image>"})) is None


def test_what_only_looks_like_a_special_token_is_none(processor, side):
    assert why(processor, example(noise(1, side, side), question="Is <image> or |im_end| > 3?")) is None


@pytest.mark.parametrize("system_prompt", [SYSTEM, ""])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_the_length_that_counts_is_the_prompts_own_to_the_token(processor, side, count, system_prompt):
    images = [(), *one_or_two(side)][count]
    length = len(rendered(processor, *images, system_prompt=system_prompt).student["with_image"].ids)
    assert why(processor, example(*images), length, system_prompt) is None
    said = f"the prompt has {length:,} tokens, data.max_prompt_length allows {length - 1:,}"
    assert why(processor, example(*images), length - 1, system_prompt) == said


def test_max_pixels_makes_a_long_prompt_shorter(processor, side):
    row = example(noise(1, 5 * side, 5 * side))
    length = len(rendered(processor, *[each.open() for each in row.pictures]).student["with_image"].ids)
    assert why(processor, row, length - 1) is not None
    assert why(processor, row, length - 1, max_pixels=4 * side**2) is None


@pytest.mark.parametrize(
    ("width", "height", "said"),
    [(2, 500, "250 times as high as wide"), (6000, 28, "214 times as wide as high")],
)
def test_a_picture_far_too_narrow_is_a_problem_said_by_its_ratio(processor, width, height, said):
    reason = why(processor, example(noise(1, 9, 9), noise(1, width, height)))
    assert reason.startswith(f"picture picture-1: {width}x{height} pixels, {said}: ") and "crop it" in reason


def test_a_noted_size_is_enough_to_count_tokens(processor):
    def never():
        raise AssertionError("opened")

    noted = replace(example(), pictures=(Picture("noted", never, size=(100, 30)),))
    assert image_tokens(processor, noted, None) == image_tokens(processor, example(noise(1, 100, 30)), None)
