"""SmolVLM: pictures in tiles within a limit, and what its files must say."""

import json

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten
from PIL import Image

from model_folders import configure, load, refusal, rewrite
from random_models import loaded
from smolvlm_folder import PICTURES, SIDE, TILE_TOKENS, build, write_smolvlm
from vgs_mlx.data import pairing
from vgs_mlx.data.prompts import prompt_length, render
from vgs_mlx.errors import Refusal
from vgs_mlx.models.families.smolvlm import FAMILY
from vgs_mlx.models.families.smolvlm_tiles import Tiling
from vgs_mlx.models.headers import PICTURE_SETTINGS
from vgs_mlx.models.loading import load_processor
from vgs_mlx.models.logprobs import taken_logprobs
from vgs_mlx.models.precision import is_quantised
from vgs_mlx.models.processing import inserted
from vgs_mlx.models.rows import Continued, encode
from vgs_mlx.planning.sizes import read_size
from vgs_mlx.recipe.options import Data
from vgs_mlx.types import Example, Picture, View

PUBLISHED = Tiling(longest=2048, side=512)
SIZES = [
    (1, 1),
    (1, 500),
    (500, 1),
    (32, 32),
    (33, 32),
    (64, 64),
    (129, 128),
    (7, 900),
    (900, 7),
    (640, 480),
    (3, 4),
]
LIMITS = [None, 1, SIDE**2, 2 * SIDE**2, 5 * SIDE**2, 9 * SIDE**2, 10**9]
WITH, WITHOUT = "<|im_start|>User:<image>What?", "<|im_start|>User:What?"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_smolvlm(tmp_path_factory.mktemp("smolvlm") / "model")


@pytest.fixture(scope="module")
def processor(folder):
    return load_processor(folder, "--student")


@pytest.fixture
def copy(tmp_path):
    return write_smolvlm(tmp_path / "model")


def noise(width, height, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("limit", "square", "wide"),
    [
        (None, (4, 4), (1, 4)),
        (1024 * 32 * 32, (2, 2), (1, 4)),  # the default of data.max_pixels: 4 tiles of 512 x 512
        (1024 * 32 * 32 - 1, (1, 1), (1, 3)),
        (512 * 512, (1, 1), (1, 1)),
        (1, (1, 1), (1, 1)),
    ],
)
def test_a_limit_leaves_the_most_tiles_that_fit_into_it(limit, square, wide):
    for size, grid in {(700, 700): square, (4000, 900): wide, (900, 4000): wide[::-1]}.items():
        assert PUBLISHED.narrowed(*size, limit).grid(*size) == grid


@pytest.mark.parametrize(("longest", "side"), [(4 * SIDE, SIDE), (100, 32), (132, 33), (5000, 1000)])
def test_the_tokens_of_a_picture_follow_from_its_size(longest, side, processor, monkeypatch):
    settings = processor.inner.image_processor
    monkeypatch.setattr(settings, "size", {"longest_edge": longest})
    monkeypatch.setattr(settings, "max_image_size", {"longest_edge": side})
    marker, blind = processor.inner.image_token_id, processor.render(WITHOUT, []).ids
    for size in SIZES if side < 1000 else [(900, 7)]:
        for limit in LIMITS if side < 1000 else [None]:
            view, adds = processor.render(WITH, [noise(*size)], limit), processor.picture_tokens(*size, limit)
            assert np.count_nonzero(view.ids == marker) == adds.features
            assert len(view.ids) - len(blind) == adds.features + adds.marks
            tiles = view.media["pixel_values"].shape[1]
            assert adds.features == tiles * TILE_TOKENS
            assert limit is None or tiles == 1 or (tiles - 1) * side**2 <= limit
            assert inserted(blind, view.ids)


def test_a_prompt_is_as_long_as_it_is_said_to_be_and_its_text_view_lacks_the_picture_alone(processor):
    pictures = tuple(Picture(f"{size}", lambda size=size: noise(*size)) for size in ((50, 40), (9, 90)))
    example = Example(id="row", question="What is it?", answer="1", pictures=pictures)
    for settings in (Data(system_prompt="Look."), Data(system_prompt="", max_pixels=4 * SIDE**2)):
        prompt = render(processor, example, settings, text_view="omit")
        seen, blind = (prompt.student[view].ids for view in ("with_image", "text_only"))
        assert len(seen) == prompt_length(processor, example, settings)
        assert inserted(blind, seen)
        text = processor.tokenizer.decode(blind.tolist())
        assert text.endswith("User:What is it?<end_of_utterance>\nAssistant:")
        assert text.count("<|im_start|>") == 1


def test_features_of_several_pictures_are_those_of_each_in_order(folder):
    model = load(folder)
    pictures = [noise(64, 64, 1), noise(20, 90, 2)]
    together = model.processor.render(WITH.replace("<image>", "<image><image>"), pictures, 4 * SIDE**2)
    apart = [model.processor.render(WITH, [each], 4 * SIDE**2) for each in pictures]
    expected = mx.concatenate([model.family.encode(model.module, view).embeddings for view in apart])
    features = model.family.encode(model.module, together).embeddings
    np.testing.assert_allclose(np.array(features), np.array(expected), atol=1e-5)
    ids = together.ids[together.ids == model.module.config.image_token_id]
    theirs = model.module.get_input_embeddings(mx.array(ids)[None], mx.array(together.media["pixel_values"]))
    np.testing.assert_allclose(np.array(features), np.array(theirs.inputs_embeds[0]), atol=1e-5)


def test_positions_of_patches_are_those_that_mlx_vlm_takes():
    """With 27 patches to a side, as in the 2.2B: its float32 bounds put some of them a place too early."""
    text = dict(model_type="llama", hidden_size=16, intermediate_size=16, num_attention_heads=1,
                num_key_value_heads=1, num_hidden_layers=1, vocab_size=8, rope_theta=1e4)  # fmt: skip
    vision = dict(model_type="smolvlm_vision", hidden_size=16, intermediate_size=16, num_attention_heads=1,
                  num_hidden_layers=1, patch_size=2, image_size=54)  # fmt: skip
    config = dict(
        model_type="smolvlm", image_token_id=3, scale_factor=3, text_config=text, vision_config=vision
    )
    model = loaded("27", build(config), FAMILY, 3.0, 8)
    pixels = np.random.default_rng(0).normal(size=(1, 1, 3, 54, 54)).astype(np.float32)
    view = View(np.full(81, 3, np.int32), {"pixel_values": pixels})
    theirs = model.module.get_input_embeddings(mx.array(view.ids)[None], mx.array(pixels)).inputs_embeds[0]
    ours = model.family.encode(model.module, view).embeddings
    np.testing.assert_allclose(np.array(ours), np.array(theirs), atol=1e-5)


def test_a_tile_of_zeros_is_a_tile(copy):
    """mlx-vlm takes it for padding, and then lacks its features."""
    configure(copy, "preprocessor_config.json", do_normalize=False)
    model = load(copy)
    view = model.processor.render(WITH, [Image.new("RGB", (40, 40))], None)
    assert not view.media["pixel_values"].any()
    assert len(model.family.encode(model.module, view).embeddings) == 17 * TILE_TOKENS


def test_a_checkpoint_of_transformers_has_the_same_weights(folder, tmp_path):
    ours, hub = load(folder), load(write_smolvlm(tmp_path / "hub", hub=True))
    theirs = dict(tree_flatten(hub.module.parameters()))
    assert all(mx.array_equal(value, theirs[name]) for name, value in tree_flatten(ours.module.parameters()))
    assert (
        ours.end_ids == hub.end_ids == {ours.processor.tokenizer.convert_tokens_to_ids("<end_of_utterance>")}
    )


def test_a_packed_language_model_answers_much_as_the_plain_one(tmp_path):
    folder = write_smolvlm(tmp_path / "model", hidden=64, scale=1.0)
    plain, packed = load(folder, native=True), load(folder, native=True, bits=8)
    assert is_quantised(packed.module.language_model) and not is_quantised(packed.module.vision_model)
    view = plain.processor.render(WITH, [noise(64, 64)], SIDE**2)
    ours, theirs = (
        np.array(
            taken_logprobs(model, [Continued(view, np.arange(8, dtype=np.int32))], encode(model, [view]))
        )
        for model in (plain, packed)
    )
    np.testing.assert_allclose(ours, theirs, atol=0.1)
    assert np.abs(ours - theirs).max() > 0


def test_pictures_of_another_number_of_tokens_are_no_pair(processor, copy):
    configure(copy, "preprocessor_config.json", video_sampling={"fps": 2})  # of which no picture takes notice
    pairing.same_language(processor, load_processor(copy, "--teacher"))
    configure(copy, "processor_config.json", image_seq_len=9)
    with pytest.raises(Refusal, match="prepare pictures differently"):
        pairing.same_language(processor, load_processor(copy, "--teacher"))


def text(**changes):
    def change(folder):
        config = json.loads((folder / "config.json").read_text())["text_config"] | changes
        configure(folder, text_config={key: value for key, value in config.items() if value is not None})

    return change


def without(part):
    return lambda folder: rewrite(
        folder, lambda weights: {name: value for name, value in weights.items() if part not in name}
    )


def pictures(**changes):
    return lambda folder: configure(folder, "preprocessor_config.json", **changes)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (
            text(rope_theta=None, rope_parameters={"rope_theta": 1e4}),
            "move rope_theta out of rope_parameters",
        ),
        (text(rope_parameters={"rope_theta": 1234.0}), "one rope_theta in text_config and another"),
        (text(rope_theta=None), "no text_config.rope_theta, which mlx-vlm would replace by its own default"),
        (text(rope_scaling={"rope_type": "llama3", "factor": 8}), "rope_scaling of the kind 'llama3'"),
        (text(rope_parameters={"rope_type": "yarn"}), "rope_parameters of the kind 'yarn'"),
        (without("vision_model"), "lacks its picture part (vision_model): take the whole model"),
        (without("connector"), "lacks its picture part (connector): take the whole model"),
        (without("lm_head"), "can't put its weights into the model"),
        (without("vision_model.post_layernorm"), "can't put its weights into the model"),
        (pictures(do_resize=False), "do_resize and do_pad are not both true"),
        (pictures(do_image_splitting="x"), "do_image_splitting is 'x', not true or false"),
        (pictures(max_image_size={"longest_edge": 64}), "max_image_size is 64, its config.json's 32"),
        (pictures(max_image_size={"longest_edge": "32"}), "max_image_size.longest_edge is '32'"),
        (pictures(size={"height": 64, "width": 64}), "size.longest_edge is None"),
        (pictures(image_std=[0.5, 0]), "image_std"),
        (lambda folder: configure(folder, "processor_config.json", image_seq_len=9), "image_seq_len is 9"),
        (lambda folder: configure(folder, scale_factor=4), "can't put its weights into the model"),
        (lambda folder: configure(folder, image_token_id=3), "picture placeholder"),
        (lambda folder: (folder / "chat_template.jinja").unlink(), "no chat template there"),
        (
            lambda folder: (folder / "processor_config.json").unlink(),
            "no processor_config.json there: copy it",
        ),
    ],
    ids=str,
)
def test_what_cannot_be_computed_with_is_refused_in_one_line(damage, said, copy):
    damage(copy)
    line = refusal(copy)
    assert line.startswith(f"--student {copy}: ") and said in line and "\n" not in line


def test_old_and_new_places_of_the_rotary_base_may_stand_side_by_side(copy):
    text(rope_parameters={"rope_theta": 1e4, "rope_type": "default"})(copy)
    load(copy)


@pytest.mark.parametrize(
    ("plain", "nested"),
    [
        (PICTURES, {}),
        (PICTURES | {"size": {"longest_edge": 96}}, {}),
        (PICTURES | {"size": {"longest_edge": 97}}, {}),
        (PICTURES | {"do_image_splitting": False}, {}),
        (None, {"image_processor": PICTURES | {"size": {"longest_edge": 64}}}),
        (PICTURES, {"image_processor": PICTURES | {"size": {"longest_edge": 64}}}),
    ],
    ids=range(6),
)
def test_the_picture_limit_is_the_processor_s_own(plain, nested, copy):
    for name, changes in zip(PICTURE_SETTINGS, (plain, nested), strict=True):
        (copy / name).unlink() if changes is None else configure(copy, name, **changes)
    view = load_processor(copy, "--student").render(WITH, [noise(50, 50)], None)
    tiles = view.media["pixel_values"].shape[1]
    assert read_size(str(copy), "--student").max_pixels == max(tiles - 1, 1) * SIDE**2
