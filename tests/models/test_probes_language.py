"""Student and teacher must read the same ids, prompts and pictures: any difference is refused in one line."""

import copy
from collections.abc import Callable

import pytest

from vgs_mlx.data import pairing
from vgs_mlx.errors import Refusal
from vgs_mlx.models.loading import find_folder, load_processor


@pytest.fixture(scope="module")
def student():
    return load_processor(find_folder("embedded:student", "--student"), "--student")


def test_the_embedded_student_and_teacher_share_their_language(student):
    pairing.same_language(student, load_processor(find_folder("embedded:teacher", "--teacher"), "--teacher"))
    pairing.same_language(student, copy.deepcopy(student))


def another_word(processor):
    processor.tokenizer.add_tokens(["unheard-of"])


def another_end(processor):
    processor.tokenizer.eos_token = "<|endoftext|>"


def another_padding(processor):
    processor.tokenizer.pad_token = "<|im_end|>"


def template(change: Callable[[str], str]):
    def damage(processor):
        processor.inner.chat_template = processor.tokenizer.chat_template = change(processor.chat_template)

    return damage


def setting(name: str, value):
    return lambda processor: setattr(processor.inner.image_processor, name, value)


UNASKED = "{%- if messages[0].role != 'system' %}{{- 'You are helpful.' }}{%- endif %}"
NUMBERED = "{%- set n = namespace(all=0) %}"


def numbered(text: str) -> str:
    """Pictures counted from the second on, as some templates do."""
    place = "{{- '<|vision_start|><|image_pad|><|vision_end|>' }}"
    assert place in text
    count = "{%- set n.all = n.all + 1 %}{%- if n.all > 1 %}{{- 'Picture 2: ' }}{%- endif %}"
    return NUMBERED + text.replace(place, count + place)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (another_word, "different vocabularies (1 entries differ)"),
        (another_end, "end-of-sequence"),
        (another_padding, "padding tokens"),
        (template(lambda text: text.replace("assistant", "helper")), "chat templates"),
        (template(lambda text: UNASKED + text), "chat templates"),  # shows without a system prompt alone
        (template(numbered), "chat templates"),  # shows with two pictures alone
        (setting("patch_size", 14), "(patch_size "),
        (setting("merge_size", 3), "merge_size"),
        (setting("temporal_patch_size", 1), "temporal_patch_size"),
        (setting("min_pixels", 1), "min_pixels"),
        (setting("max_pixels", 10**6), "max_pixels"),
        (setting("image_mean", [0.48, 0.46, 0.41]), "image_mean"),
        (setting("image_std", [0.27, 0.26, 0.28]), "image_std"),
        (setting("do_normalize", False), "do_normalize"),
        (setting("do_rescale", False), "do_rescale"),
        (setting("rescale_factor", 1.0), "rescale_factor"),
    ],
)
def test_a_teacher_with_another_language_is_refused(student, damage, reason):
    teacher = copy.deepcopy(student)
    damage(teacher)
    for pair in ((student, teacher), (teacher, student)):
        with pytest.raises(Refusal) as refused:
            pairing.same_language(*pair)
        line = str(refused.value)
        assert "\n" not in line and reason in line
        assert line.index(reason) < line.index("take a student and a teacher of one model family")
