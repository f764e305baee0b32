"""A marker at an end of the question is removed; any other would misplace a picture, and is refused."""

import pytest

from vgs_mlx.data import markers
from vgs_mlx.errors import Refusal


@pytest.mark.parametrize(
    ("question", "pictures"),
    [
        ("Which?", 0),
        ("Which?", 3),
        ("<image>Which?", 1),
        (" <image>\n<image> Which? ", 2),
        ("Which?\n<image>", 1),
        ("<image>Which?<image> ", 2),
    ],
)
def test_markers_at_the_ends_are_removed(question, pictures):
    assert markers.taken_out(question, pictures) == "Which?"


def test_a_question_of_markers_alone_is_empty():
    assert markers.taken_out("<image> <image>", 2) == ""


@pytest.mark.parametrize(
    "marker",
    [
        "<image>", "<IMAGE>", "<image 1>", "<image1>", "<image_1>", "<|image|>", "<|image_1|>", "<|image_pad|>",
        "<|vision_start|>", "<img>", "<img src='a.png'>", "<img/>", "</img>", "[IMG]", "[IMG_END]", "[image 2]",
        "<ImageHere>", "<image_placeholder>", "<image_soft_token>", "<start_of_image>", "<IMG_CONTEXT>",
        "<fake_token_around_image>", "<picture 1>", "![](a.png)", "![a chart](figures/7.png)",
    ],
)  # fmt: skip
def test_a_marker_inside_the_text_is_refused_with_its_place_and_the_fix(marker):
    with pytest.raises(Refusal) as caught:
        markers.taken_out(f"<image>See {marker} here.", 1)
    assert str(caught.value).startswith(
        f"the question holds the marker {marker} at character 12: pictures come "
    )
    assert "write 'picture 1'" in str(caught.value)


@pytest.mark.parametrize("marker", ["<video>", "<|video_pad|>", "<audio 1>", "[VIDEO]", "<speech>"])
def test_a_marker_of_a_video_or_a_sound_is_refused_wherever_it_stands(marker):
    for question in (f"{marker}Which?", f"Which? {marker}", f"Which {marker}?"):
        with pytest.raises(Refusal, match="videos and sounds are not read"):
            markers.taken_out(question, 1)


@pytest.mark.parametrize(
    "question", ["<image 1>Which?", "Which? <|image_1|>", "<IMAGE>Which?", "[IMG] Which?"]
)
def test_a_marker_of_another_form_is_refused_at_the_ends_too(question):
    with pytest.raises(Refusal, match="holds the marker"):
        markers.taken_out(question, 1)


@pytest.mark.parametrize(
    ("question", "pictures", "said"),
    [
        ("<image>Which?", 2, "has 1 x <image> for 2 pictures"),
        ("<image><image>Which?", 1, "has 2 x <image> for 1 picture:"),
        ("<image>Which?<image>", 3, "has 2 x <image> for 3 pictures"),
    ],
)
def test_another_number_of_markers_than_of_pictures_is_refused(question, pictures, said):
    with pytest.raises(Refusal, match=said):
        markers.taken_out(question, pictures)


@pytest.mark.parametrize(
    "question",
    [
        "Is a < image and b > 3?", "What is in the image?", "See picture 1 and [picture 2].", "Is 3 <x> 4?",
        r"The image \text{image} of f(x) in [a, b](c)?", "f: [image processing] or not!", "x <= images > y",
    ],
)  # fmt: skip
def test_words_and_mathematics_are_not_markers(question):
    assert markers.taken_out(question, 1) == question
