"""A model folder whose files don't go together, or hold what can't be computed with, is refused before it is used."""

import json

import mlx.core as mx
import pytest

from model_folders import configure, copied, load, refusal, rewrite
from toy_runs import command
from vgs_mlx.errors import Refusal
from vgs_mlx.planning.sizes import read_size

NORM = "language_model.model.norm.weight"
TEMPLATES = (
    "",
    "{{ messages[-1].content[-1].text }}",
    "{{ 1/0 }}",
    "{% for i in range(10**7) %}{% endfor %}",
    "x",
)


def pictures(**changes):
    return lambda folder: configure(folder, "preprocessor_config.json", **changes)


def section(name, **changes):
    def change(folder):
        config = json.loads((folder / "config.json").read_text())
        configure(folder, **{name: config[name] | changes})

    return change


def twice(name, key, value):
    def change(folder):
        text = (folder / name).read_text()
        (folder / name).write_text(f'{{"{key}": {value}, ' + text.lstrip()[1:])

    return change


def weight(value):
    return lambda folder: rewrite(folder, lambda weights: weights | {NORM: value})


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (pictures(min_pixels=[576]), "min_pixels is [576], not a whole number"),
        (pictures(min_pixels=10**12, max_pixels=10**13), "min_pixels is 1,000,000,000,000"),
        (pictures(min_pixels=30_000), "min_pixels is 30,000"),
        (pictures(patch_size="12"), "patch_size is '12'"),
        (pictures(image_std=[0.5, 0.5]), "image_std is [0.5, 0.5], not three numbers"),
        (pictures(image_std=[0.5, 0.5, 0]), "image_std"),
        (pictures(image_mean="grey"), "image_mean"),
        (pictures(do_rescale={}), "do_rescale is {}, not true or false"),
        (pictures(do_convert_rgb="x"), "do_convert_rgb is 'x', not true or false"),
        (pictures(rescale_factor=0), "rescale_factor is 0"),
        (pictures(patch_size=16), "its processor's patch_size is 16, its config.json's 12"),
        (pictures(merge_size=1), "merge_size"),
        (twice("preprocessor_config.json", "min_pixels", 3), "preprocessor_config.json"),
        (twice("config.json", "eos_token_id", 3), "config.json: the key 'eos_token_id' appears twice"),
        (twice("generation_config.json", "eos_token_id", 3), "generation_config.json"),
        (lambda folder: configure(folder, vision_end_token_id={}), "vision_end_token_id {}"),
        (lambda folder: configure(folder, image_token_id=3), "picture placeholder is 5, its config.json's 3"),
        (lambda folder: configure(folder, "generation_config.json", eos_token_id={}), "end-of-sequence ids"),
        (lambda folder: configure(folder, "generation_config.json", eos_token_id=[9_999]), "end-of-sequence"),
        (section("text_config", rope_theta="10000"), "text_config.rope_theta '10000'"),
        (section("text_config", rms_norm_eps=[]), "text_config.rms_norm_eps"),
        (section("vision_config", depth=True), "vision_config.depth True"),
        (lambda folder: configure(folder, vision_config=[]), "no keys below vision_config"),
        (weight(mx.zeros(128, mx.int16)), f"{NORM} is stored as whole numbers"),
        (weight(mx.full(128, float("nan"))), f"{NORM} holds a number that isn't finite"),
        (weight(mx.full(128, float("inf"))), f"{NORM} holds a number that isn't finite"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_computed_with_is_refused_in_one_line(damage, said, tmp_path):
    folder = copied(tmp_path / "model")
    damage(folder)
    line = refusal(folder)
    assert line.startswith(f"--student {folder}: ") and said in line and "\n" not in line


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_that_loses_the_question_or_the_picture_is_refused(template, tmp_path):
    folder = copied(tmp_path / "model")
    (folder / "chat_template.jinja").write_text(template)
    assert "chat template" in refusal(folder)


def test_a_template_that_makes_a_video_of_a_picture_is_refused(tmp_path):
    template = copied(tmp_path / "model") / "chat_template.jinja"
    template.write_text(template.read_text().replace("<|image_pad|>", "<|image_pad|><|video_pad|>"))
    assert "treats a picture as a video" in refusal(template.parent)


def test_a_template_that_writes_without_end_is_refused(tmp_path):
    template = copied(tmp_path / "model") / "chat_template.jinja"
    template.write_text(template.read_text() + "{{ 'a' * 10**6 }}")
    assert "writes 1,000," in refusal(template.parent)


def test_a_plan_is_as_strict_with_what_it_reads_of_a_config(tmp_path):
    folder = copied(tmp_path / "model")
    text = json.loads((folder / "config.json").read_text())["text_config"]
    configure(folder, text_config={**text, "hidden_size": "64"})
    for path in (folder, folder / "config.json"):
        with pytest.raises(Refusal, match="hidden_size '64'"):
            read_size(str(path), "--student")


def test_a_config_may_say_more_and_one_end_token_without_a_list(tmp_path):
    folder = copied(tmp_path / "model")
    configure(folder, something={"new": [None, {}]}, eos_token_id=2)
    assert 2 in load(folder).end_ids


def test_what_a_file_holds_moves_no_cursor(tmp_path):
    folder = copied(tmp_path / "model")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["merges"][0] = ["\x1b[2J", "\0"]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    refused = command("evaluate", folder, "--data", "shapes:2")
    assert refused.exit_code == 2 and refused.stderr.strip().isprintable()
