"""A family whose tower looks at tiles: its sizes without mlx-vlm, and plans beside what is measured."""

import dataclasses
import functools
import json
import math
import subprocess
import sys
from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten
from mlx_vlm.models import smolvlm as stock

from model_folders import load
from random_models import loaded, made_prompt
from smolvlm_folder import SIDE, build, write_smolvlm
from toy_runs import ROOT
from vgs_mlx.errors import Refusal
from vgs_mlx.models import adapters, families
from vgs_mlx.models.families.smolvlm import FAMILY
from vgs_mlx.models.headers import Tensor
from vgs_mlx.models.loading import load_processor
from vgs_mlx.planning import footprint
from vgs_mlx.planning.footprint import Body, device_of
from vgs_mlx.planning.sizes import parse, read_size
from vgs_mlx.types import View

sys.path.insert(0, str(ROOT / "scripts"))
from benchmarks import step_peaks

DECLARED = families.declared("smolvlm")
SIZES = [(1, 1), (1, 500), (500, 1), (64, 64), (129, 128), (640, 480), (3, 4)]
LIMITS = [1, SIDE**2, 2 * SIDE**2, 5 * SIDE**2, 9 * SIDE**2, 10**9]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_smolvlm(tmp_path_factory.mktemp("smolvlm") / "model")


def test_sizes_are_those_of_the_loaded_model(folder):
    module, size = load(folder, native=True).module, read_size(str(folder), "--student")
    parts = (size.language_weights, size.vision_weights)
    assert sum(each.stored for each in parts) == sum(
        each.nbytes for _, each in tree_flatten(module.parameters())
    )
    seeing = [*tree_flatten(module.vision_model.parameters()), *tree_flatten(module.connector.parameters())]
    assert size.vision_weights.elements == sum(each.size for _, each in seeing)
    alone = parse("x", json.loads((folder / "config.json").read_text()), None)
    assert (alone.language_weights, alone.vision_weights.elements) == (parts[0], parts[1].elements)
    assert alone.max_pixels == size.max_pixels == (4 * SIDE) ** 2


@pytest.mark.parametrize(
    ("text", "weights"),
    [((576, 1536, 9, 3, 30), 256_484_928), ((960, 2560, 15, 5, 32), 507_482_304)],
    ids=["256M", "500M"],
)
def test_published_sizes_are_met(text, weights):
    """Weights as published; a picture costs 64 tokens for each of 17 tiles, and the marks around the tiles."""
    names = (
        "hidden_size",
        "intermediate_size",
        "num_attention_heads",
        "num_key_value_heads",
        "num_hidden_layers",
    )
    config = dict(
        model_type="smolvlm", scale_factor=4, text_config=dict(zip(names, text, strict=True), vocab_size=49_280),
        vision_config=dict(hidden_size=768, num_attention_heads=12, patch_size=16, image_size=512),
    )  # fmt: skip
    size = parse("x", config, None)
    assert size.language_weights.elements + size.vision_weights.elements == weights
    assert size.max_pixels == 2048**2 and size.vision.image_tokens(size.max_pixels) == 17 * (64 + 3) + 1


@pytest.mark.parametrize(
    ("text", "vision"),
    [({}, {}), ({"head_dim": 64}, {"hidden_size": 768}), ({"hidden_size": 960}, {"hidden_size": 96})],
)
def test_what_a_config_lacks_is_what_mlx_vlm_takes_for_it(text, vision):
    found = DECLARED.architecture({"model_type": "smolvlm", "text_config": text, "vision_config": vision})
    theirs = stock.TextConfig.from_dict(text)
    assert dataclasses.astuple(found.text)[:-1] == (
        theirs.num_hidden_layers, theirs.hidden_size, theirs.intermediate_size, theirs.num_attention_heads,
        theirs.num_key_value_heads, theirs.hidden_size // theirs.num_attention_heads, theirs.vocab_size,
    )  # fmt: skip
    tower = stock.VisionConfig.from_dict(vision)
    assert (found.vision.depth, found.vision.hidden, found.vision.intermediate, found.vision.heads) == (
        tower.num_hidden_layers, tower.hidden_size, tower.intermediate_size, tower.num_attention_heads,
    )  # fmt: skip
    assert found.vision.tile.patches == (tower.image_size // tower.patch_size) ** 2 and not found.tied


@pytest.mark.parametrize(
    ("section", "value"),
    [("text_config", {"hidden_size": "576"}), ("text_config", []), ("vision_config", {"patch_size": 0}),
     ("vision_config", {"patch_size": 999}), ("scale_factor", 1.5)],
)  # fmt: skip
def test_a_number_of_a_config_that_is_none_is_refused(section, value):
    config = {"model_type": "smolvlm", "text_config": {}, "vision_config": {}} | {section: value}
    with pytest.raises(Refusal, match=section):
        parse("x", config, None)


def test_a_plan_has_as_many_image_tokens_as_a_picture_may_cost(folder):
    """A few more: each tile is counted as if it were its row's last."""
    vision = DECLARED.architecture(json.loads((folder / "config.json").read_text())).vision
    processor = load_processor(folder, "--student")
    for limit in LIMITS:
        pixels = min(limit, (4 * SIDE) ** 2)
        costs = [processor.picture_tokens(*size, limit) for size in SIZES]
        most = max(each.features + each.marks for each in costs)
        assert most <= vision.image_tokens(pixels) <= 1.25 * most


def test_a_plan_starts_without_mlx_vlm(folder):
    code = "import sys; sys.modules.update(dict.fromkeys(('mlx_vlm', 'mlx_lm', 'transformers', 'torch')))\n"
    code += "from vgs_mlx.cli import main; main(sys.argv[1:])"
    line = [sys.executable, "-c", code, "plan", "--student", str(folder), "--teacher", str(folder)]
    done = subprocess.run(line, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == 0 and "peak at most" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("tiles", "trained"), [(5, False), (17, False), (17, True)], ids=["few tiles", "many tiles", "trained"]
)
def test_the_tower_s_measured_peak_is_within_15_percent_of_the_plan(tiles, trained):
    model, size = mid_size()
    view = random_view(model, tiles)
    body, patches = Body(size, device_of("cpu"), 4, None), tiles * size.vision.tile.patches
    if not trained:
        measured = peak(lambda: mx.eval(model.family.encode(model.module, view).arrays()))
        assert measured == pytest.approx(footprint.see(body, patches, 1), rel=0.15)
        return
    for part in model.family.media_modules(model.module).values():
        part.unfreeze()
    weights = model.module.trainable_parameters()

    def loss(changed):
        model.module.update(changed)
        return model.family.encode(model.module, view).embeddings.square().sum()

    measured = peak(lambda: mx.eval(mx.value_and_grad(loss)(weights)))
    planned = footprint.see_together(body, patches, 1) + footprint.seen_saved(body, patches, 1)
    assert measured == pytest.approx(planned + 4 * size.vision_weights.elements, rel=0.15)


def mid_size():
    """Tiles of 64 x 64 pixels in patches of 8, three blocks of width 256."""
    config = dict(
        model_type="smolvlm", image_token_id=3, scale_factor=2, vocab_size=64, eos_token_id=[2],
        text_config=dict(model_type="llama", hidden_size=64, intermediate_size=64, num_attention_heads=1,
                         num_key_value_heads=1, num_hidden_layers=1, vocab_size=64, rope_theta=1e4),
        vision_config=dict(model_type="siglip_vision_model", hidden_size=256, intermediate_size=1024,
                           num_hidden_layers=3, num_attention_heads=4, patch_size=8, image_size=64),
    )  # fmt: skip
    model = loaded("mid-size", build(config), FAMILY, 1.0, 64)
    return model, size_of(model, config)


def size_of(model, config):
    listed = [Tensor(name, "F32", value.shape) for name, value in tree_flatten(model.module.parameters())]
    return parse("x", config, listed)


def random_view(model, tiles):
    vision = model.module.config.vision_config
    side = vision.image_size
    tokens = tiles * (side // vision.patch_size // model.module.config.scale_factor) ** 2
    pixels = np.random.default_rng(0).normal(size=(1, tiles, 3, side, side)).astype(np.float32)
    return View(np.full(tokens, 3, np.int32), {"pixel_values": pixels})


def peak(function) -> int:
    function()
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    function()
    return mx.get_peak_memory() - before


def test_a_step_s_measured_peak_is_within_15_percent_of_the_plan(monkeypatch):
    """The models of tests/planning/test_plan.py, smaller, with heads that are not normalised and a head apart."""
    case = next(each for each in step_peaks.cases(small=True) if each.name == "LoRA, vgs")
    (student, student_size), (teacher, teacher_size) = (step_model(128, 8, 0), step_model(192, 4, 1))
    monkeypatch.setattr(step_peaks.made, "prompts", functools.partial(tiled_prompts, student))
    adapters.prepare(student, case.recipe.student, seed=0)
    before = mx.get_active_memory() - nbytes(student) - nbytes(teacher)  # models that other tests keep
    found = step_peaks.measure(student, teacher, case)
    expected = step_peaks.planned(student_size, teacher_size, case)
    for phase, measured in found.items():
        assert measured - before == pytest.approx(expected[phase], rel=0.15), phase


def step_model(hidden, layers, seed):
    """Tiles of 128 x 128 pixels, 16 image tokens each."""
    config = dict(
        model_type="smolvlm", image_token_id=3, scale_factor=4, vocab_size=4096, eos_token_id=[2],
        text_config=dict(model_type="llama", hidden_size=hidden, intermediate_size=3 * hidden, rope_theta=1e4,
                         num_attention_heads=hidden // 64, num_key_value_heads=1, num_hidden_layers=layers,
                         vocab_size=4096),
        vision_config=dict(model_type="siglip_vision_model", hidden_size=64, intermediate_size=256,
                           num_hidden_layers=2, num_attention_heads=2, patch_size=8, image_size=128),
    )  # fmt: skip
    mx.random.seed(seed)
    model = replace(loaded(f"step-{hidden}", build(config), FAMILY, 1.0, 4096), end_ids=frozenset())
    return model, replace(size_of(model, config), ids=4096)


def tiled_prompts(model, count, image, words):
    found = []
    for row in range(count):
        words_ids = np.random.default_rng(row).integers(6, 4096, words).astype(np.int32)
        tiles = random_view(model, image // 16)
        seen = View(np.concatenate([[5], tiles.ids, words_ids]).astype(np.int32), tiles.media)
        found.append(made_prompt(f"row-{row}", seen, View(words_ids, {})))
    return found


def nbytes(model) -> int:
    return sum(each.nbytes for _, each in tree_flatten(model.module.parameters()))


def test_scores_are_made_on_metal_where_no_fused_kernel_has_the_width():
    """The 2.2B's heads are 72 wide: mlx-vlm pads them in no way."""
    wide = {"hidden_size": 1152, "num_attention_heads": 16}
    made = []
    for vision in (wide, wide | {"num_attention_heads": 18}):  # 64 wide
        size = parse("x", {"model_type": "smolvlm", "text_config": {}, "vision_config": vision}, None)
        made.append(footprint.see(Body(size, device_of("metal"), 2, None), 17 * 729, 1))
    assert made[0] - made[1] == 2 * 16 * 17 * 729**2
    assert math.isclose(made[1], 17 * 729 * 2 * (6 * 1152 + 5 * 4304) + 2 * 17 * 729 * 4 * 588, rel_tol=1e-6)
