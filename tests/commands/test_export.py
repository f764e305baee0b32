"""The export is the trained model, as stock mlx-vlm loads it; or it says why not, and leaves nothing."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import mlx_vlm.utils
import numpy as np
import pytest
from mlx.optimizers import AdamW
from mlx.utils import tree_flatten
from mlx_vlm.models import qwen3_vl

from model_folders import language_part, silent, stored_packed
from vgs_mlx.commands.export import ExportSettings, _beside, export
from vgs_mlx.data import shapes
from vgs_mlx.data.prompts import render
from vgs_mlx.device import KEEP_PRECISION
from vgs_mlx.errors import Refusal
from vgs_mlx.exporting import card as model_card
from vgs_mlx.exporting import fusing, proof
from vgs_mlx.exporting.prompts import ProofPrompts
from vgs_mlx.formats import strict_yaml
from vgs_mlx.models import adapters, precision
from vgs_mlx.models.loading import load_model, load_processor
from vgs_mlx.models.rows import Continued
from vgs_mlx.recipe import file as recipe_file
from vgs_mlx.recipe.options import Data, Grpo, Recipe, Rollout, Student, Teacher
from vgs_mlx.resources import tiny_model
from vgs_mlx.runs import checkpoint, trained
from vgs_mlx.runs.folder import FINAL, RECIPE
from vgs_mlx.train.step import Progress

KINDS = ("lora", "dora", "full")
LEARNT, LITTLE, HARDLY = 0.1, 6e-3, 1e-5  # the update's size, relative to the weight it changes


@pytest.fixture(scope="session")
def packed_student(tmp_path_factory) -> Path:
    """The tiny student with its language model in 4 bits, vision plain, as mlx-vlm stores it."""
    return stored_packed(tmp_path_factory.mktemp("packed"), group_size=64, class_predicate=language_part)


@pytest.fixture(scope="session")
def packed_tower(tmp_path_factory) -> Path:
    """The tiny student with its vision tower in 4 bits too, as foreign conversions have it."""

    def wide(_: str, layer: nn.Module) -> bool:
        return hasattr(layer, "to_quantized") and layer.weight.shape[-1] % 32 == 0

    return stored_packed(tmp_path_factory.mktemp("tower"), group_size=32, class_predicate=wide)


@pytest.fixture(scope="session")
def prompts():
    processor = load_processor(tiny_model("student"), "student")
    rows = shapes.examples("held_out", 6)
    return [render(processor, row, Data(system_prompt="", max_pixels=None)) for row in rows]


@pytest.fixture(scope="session")
def wide_student(tmp_path_factory) -> tuple[Path, int]:
    """The tiny student made wide, in bfloat16, with random weights; and its bytes in float32."""
    folder = tmp_path_factory.mktemp("wide") / "student"
    shutil.copytree(tiny_model("student"), folder)
    config = json.loads((folder / "config.json").read_text())
    config["text_config"] |= {"hidden_size": 384, "intermediate_size": 1152, "num_hidden_layers": 8}
    config["text_config"] |= {"num_attention_heads": 12, "num_key_value_heads": 4}
    config["vision_config"]["out_hidden_size"] = 384
    (folder / "config.json").write_text(json.dumps(config))
    mx.random.seed(0)
    module = qwen3_vl.Model(qwen3_vl.ModelConfig.from_dict(config))
    module.set_dtype(mx.bfloat16)
    mlx_vlm.utils.save_weights(folder, module)
    return folder, sum(4 * value.size for _, value in tree_flatten(module.parameters()))


def make_run(folder: Path, student: Path, *, size: float = LEARNT, weights: str = FINAL, **settings) -> Path:
    """A run folder whose student has moved by `size`, relative to its weights, in a random direction."""
    how = Student(path=str(student), rank=4, **settings)
    recipe = Recipe(student=how, rollout=Rollout(max_completion_length=24))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RECIPE).write_text(recipe_file.dump(recipe))
    model = load_model(str(student), "student", say=silent)
    adapters.prepare(model, recipe.student, seed=0)
    move(model.module, size)
    checkpoint.write_weights(folder / weights, model, recipe.student)
    return folder


def move(module: nn.Module, size: float) -> None:
    """Change every trainable weight by random numbers of relative `size`; an adapted layer by that size."""
    mx.random.seed(1)
    layers = dict(module.named_modules())
    moved = {}
    for name, weight in adapters.trainable_weights(module).items():
        noise = mx.random.normal(weight.shape)
        owner, _, last = name.rpartition(".")
        if last == "lora_b":
            layer = layers[owner]
            update = layer.scale * (noise.T @ layer.lora_a.T)
            moved[name] = noise * size * mx.linalg.norm(layer.linear.weight) / mx.linalg.norm(update)
        elif last != "lora_a":
            moved[name] = weight + noise * size * mx.sqrt(mx.mean(weight * weight))
    adapters.set_weights(module, moved)


def weights_of(folder: Path) -> dict[str, mx.array]:
    module, _ = mlx_vlm.utils.load(str(folder))
    return dict(tree_flatten(module.parameters()))


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
@pytest.mark.parametrize(
    "settings",
    [
        {"train": "lora"},
        {"train": "dora"},
        {"train": "full"},
        {"train": "lora", "train_vision": True},
        {"train": "full", "train_vision": True},
    ],
    ids=["lora", "dora", "full", "lora+vision", "full+vision"],
)
def test_the_export_is_the_trained_model(tmp_path, packed_student, prompts, packed, settings):
    student = packed_student if packed else tiny_model("student")
    run = make_run(tmp_path / "run", student, **settings)
    found = export(run, tmp_path / "model", ProofPrompts(prompts), say=silent)
    assert found.kept and not found.hardly_trained
    assert found.fused.mean < 0.01 * found.untrained.mean
    assert found.fused.agreement > 0.9
    weights_of(tmp_path / "model")  # stock mlx-vlm's strict loading


@pytest.mark.parametrize("settings", [{"train": "lora"}, {"train": "dora"}, {"train": "full"}], ids=KINDS)
def test_on_an_accelerator_packed_layers_are_fused_too(
    tmp_path, packed_student, prompts, settings, monkeypatch
):
    monkeypatch.setenv(KEEP_PRECISION, "1")  # models stay packed and bfloat16 then
    run = make_run(tmp_path / "run", packed_student, **settings)
    assert export(run, tmp_path / "model", ProofPrompts(prompts), say=silent).kept
    embedding = "language_model.model.embed_tokens.scales"  # adapters leave it alone
    assert (embedding in weights_of(tmp_path / "model")) == (settings["train"] != "full")


@pytest.mark.parametrize("settings", [{"train": "lora"}, {"train": "dora"}, {"train": "full"}], ids=KINDS)
@pytest.mark.parametrize("vision", [True, False], ids=["tower trained", "tower frozen"])
def test_a_packed_tower_trains_unpacked_is_saved_and_exported(
    tmp_path, packed_tower, prompts, settings, vision, monkeypatch
):
    monkeypatch.setenv(KEEP_PRECISION, "1")
    run = make_run(tmp_path / "run", packed_tower, **settings, train_vision=vision)
    moved = trained.load(run, trained.find(run), silent)
    assert precision.is_quantised(moved.module.vision_tower) != vision
    assert export(run, tmp_path / "model", ProofPrompts(prompts[:2]), say=silent).kept
    stored = weights_of(tmp_path / "model")
    assert ("vision_tower.blocks.0.attn.qkv.scales" in stored) != vision


def test_layers_that_training_left_alone_stay_as_the_checkpoint_has_them(tmp_path, packed_student, prompts):
    run = make_run(tmp_path / "run", packed_student, train="lora", targets=("q_proj",))
    export(run, tmp_path / "model", ProofPrompts(prompts), say=silent)
    before, after = weights_of(packed_student), weights_of(tmp_path / "model")
    changed = {name for name in before if name not in after or not mx.array_equal(before[name], after[name])}
    assert {name.split(".")[-2] for name in changed} == {"q_proj"}
    assert {str(after[name].dtype) for name in after if "q_proj" in name} == {"mlx.core.bfloat16"}


def test_auto_takes_the_narrowest_dtype_that_keeps_the_training(tmp_path, prompts, monkeypatch):
    monkeypatch.setattr(proof, "HARDLY_TRAINED", 1e-7)
    small = make_run(tmp_path / "small", tiny_model("student"), size=LITTLE, train="lora")
    large = make_run(tmp_path / "large", tiny_model("student"), size=LEARNT, train="lora")
    assert export(large, tmp_path / "a", ProofPrompts(prompts), say=silent).dtype == "bfloat16"
    assert export(small, tmp_path / "b", ProofPrompts(prompts), say=silent).dtype == "float16"
    assert export(small, tmp_path / "c", ProofPrompts(prompts), ExportSettings(dtype="float32"), silent).kept


@pytest.mark.parametrize("how", [{"dtype": "bfloat16"}, {"bits": 4}], ids=["bfloat16", "4 bits"])
def test_lost_training_is_refused_with_the_mend_and_nothing_is_left(tmp_path, prompts, monkeypatch, how):
    monkeypatch.setattr(proof, "HARDLY_TRAINED", 1e-7)
    run = make_run(tmp_path / "run", tiny_model("student"), size=LITTLE, train="lora")
    said = []
    with pytest.raises(Refusal, match=r"lost in the export.*(--dtype float32|--bits 8)"):
        export(run, tmp_path / "new" / "model", ProofPrompts(prompts), ExportSettings(**how), said.append)
    assert "KL(trained ‖ fused)" in said[-1]  # the figures
    assert [each.name for each in tmp_path.iterdir()] == ["run"]


def test_hardly_any_training_is_said_kindly_and_accepted(tmp_path, prompts):
    run = make_run(tmp_path / "run", tiny_model("student"), size=HARDLY, train="lora")
    said = []
    settings = ExportSettings(dtype="bfloat16")
    assert export(run, tmp_path / "model", ProofPrompts(prompts), settings, said.append).hardly_trained
    assert any("hardly any training to lose" in line for line in said)


def test_eight_bits_hold_a_language_model_that_learnt_something(tmp_path, prompts):
    run = make_run(tmp_path / "run", tiny_model("student"), train="lora")
    found = export(run, tmp_path / "model", ProofPrompts(prompts), ExportSettings(bits=8), silent)
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert found.acceptable and found.bits == 8
    assert config["quantization"] == {"group_size": 64, "bits": 8, "mode": "affine"}
    packed = {name for name in weights_of(tmp_path / "model") if name.endswith(".scales")}
    assert packed and all(name.startswith("language_model.") for name in packed)


@pytest.mark.parametrize("train", ["lora", "full"])
def test_an_export_holds_one_model_at_a_time(tmp_path, wide_student, prompts, train):
    student, size = wide_student
    run = make_run(tmp_path / "run", student, train=train)
    assert size > 50e6
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    export(run, tmp_path / "model", ProofPrompts(prompts[:2]), say=silent)
    assert mx.get_peak_memory() - before < 1.3 * size
    assert mx.get_active_memory() - before < 0.1 * size


def test_on_an_accelerator_no_model_is_widened_as_a_whole(wide_student, prompts):
    student, size = wide_student
    model = load_model(str(student), "student", native=True, say=silent)
    sequences = [Continued(prompt.student["with_image"], np.arange(10, 20)) for prompt in prompts[:2]]
    expected = proof.states(load_model(str(student), "student", say=silent), sequences, 2)
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    found = proof.states(model, sequences, 2)
    assert mx.get_peak_memory() - before < 0.35 * size
    np.testing.assert_array_equal(found, expected)


def test_a_file_of_weights_is_in_memory_at_a_time_while_they_are_written(tmp_path, wide_student, monkeypatch):
    student, size = wide_student

    def small(weights, _):  # as `make_shards` cuts them, at 1/10 of the model
        found, held = [], {}
        for name, value in weights.items():
            if held and sum(each.nbytes for each in held.values()) + value.nbytes > size / 20:
                found, held = [*found, held], {}
            held[name] = value
        return [*found, held]

    monkeypatch.setattr(mlx_vlm.utils, "make_shards", small)
    module = load_model(str(student), "student", native=True, lazy=True, say=silent).module
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    fusing.save(module, tmp_path)
    assert mx.get_peak_memory() - before < size / 10
    assert len(list(tmp_path.glob("model-000*.safetensors"))) > 5
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())["weight_map"]
    stored = mx.load(str(student / "model.safetensors"))
    assert index.keys() == stored.keys()
    assert all(mx.array_equal(mx.load(str(tmp_path / index[name]))[name], stored[name]) for name in stored)


def test_exporting_twice_gives_the_same_bytes(tmp_path, prompts):
    run = make_run(tmp_path / "run", tiny_model("student"), train="dora")
    for name in ("first", "second"):
        export(run, tmp_path / name, ProofPrompts(prompts), say=silent)
    first, second = (
        {f.name: f.read_bytes() for f in (tmp_path / each).iterdir()} for each in ("first", "second")
    )
    assert first == second


def test_the_folder_is_complete_and_explains_itself(tmp_path, prompts):
    run = make_run(tmp_path / "run", tiny_model("student"), train="lora")
    (run / "result.json").write_text(json.dumps({"accuracy_before": 0.25, "accuracy_after": 0.75}))
    (run / "versions.json").write_text(json.dumps({"mlx": "0.32.4"}))
    found = export(run, tmp_path / "model", ProofPrompts(prompts), say=silent)
    student, model = tiny_model("student"), tmp_path / "model"
    for file in student.iterdir():
        if file.suffix != ".safetensors" and file.name not in ("config.json", "README.md"):
            assert (model / file.name).read_bytes() == file.read_bytes()
    card = (model / "README.md").read_text()
    results = "0.250 before, 0.750 after", f"{found.fused.mean:.3g}", f"{found.untrained.largest:.3g}"
    for part in (*results, "mlx 0.32.4", "rank: 4", "mlx_vlm.generate --model"):
        assert part in card


def test_the_card_of_a_checkpoint_says_what_that_one_scored(tmp_path, prompts):
    run = make_run(tmp_path / "run", tiny_model("student"), train="lora")
    state = checkpoint.save(
        run, trained.load(run, trained.find(run), silent), AdamW(1e-3), Progress(step=20, best_step=20),
        trained.find(run).recipe.student, {},
    )  # fmt: skip
    (run / "result.json").write_text(
        json.dumps({"steps": 40, "accuracy_before": 0.25, "accuracy_after": 0.5})
    )
    rows = [
        {"step": step, "accuracy": accuracy, "low": 0.0, "high": 1.0, "prompts": 4}
        for step, accuracy in ((0, 0.25), (20, 0.75), (40, 0.5))
    ]
    (run / "evaluations.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    export(run, tmp_path / "model", ProofPrompts(prompts), ExportSettings(checkpoint="best"), silent)
    card = (tmp_path / "model" / "README.md").read_text()
    assert state.name == "step-000020" and "step 20: the best of its evaluations" in card
    assert "0.250 before, 0.750 after" in card


def test_the_card_names_no_folder_of_the_user_s_and_its_front_matter_is_yaml(tmp_path, monkeypatch):
    home = tmp_path / "home" / "someone"
    home.mkdir(parents=True)
    places = {
        "student": Student(path=str(home / "models" / "small")),
        "teacher": Teacher(path=str(home / "big one")),
    }
    data = Data(source=str(home / "mine" / "rows.jsonl"), held_out=str(home / "rest.jsonl"))
    recipe = Recipe(**places, data=data, grpo=Grpo(reward=f"{home}/rewards.py:reward"))
    found = trained.TrainedWeights(recipe, home / "run" / FINAL, "run-1, a finished run", 4)
    same = proof.Difference(0.1, 0.2, 0.9, 100)
    (tmp_path / "model").mkdir()

    def card(recipe):
        model_card.write(
            tmp_path / "model",
            home,
            replace(found, recipe=recipe),
            proof.Proof("float32", None, same, same),
            "rows",
        )
        text = (tmp_path / "model" / "README.md").read_text()
        _, front, body = text.split("---\n", 2)
        return strict_yaml.load(front, "front"), body

    front, body = card(recipe)
    assert "home" not in body and "someone" not in body
    assert front["library_name"] == "mlx" and "base_model" not in front and "mlx-vlm" in front["tags"]
    written = strict_yaml.load(body.split("```yaml\n")[1].split("```")[0], "recipe")
    assert (written["student"]["path"], written["teacher"]["path"]) == ("small", "big one")
    assert (written["data"]["source"], written["data"]["held_out"]) == ("rows.jsonl", "rest.jsonl")
    assert written["grpo"]["reward"] == "rewards.py:reward"
    hub = Recipe(student=Student(path="owner/na: me"), data=Data(source="shapes:24", held_out=0.5))
    front, body = card(hub)
    assert front["base_model"] == "owner/na: me"  # a name that is no YAML as it stands
    assert "license" not in front  # that of a model of someone else is not ours to say
    assert body.startswith("\n# owner/na: me, trained by vgs\n")
    written = strict_yaml.load(body.split("```yaml\n")[1].split("```")[0], "recipe")
    assert written["data"]["source"] == "shapes:24" and written["data"]["held_out"] == 0.5
    embedded = replace(
        hub, student=Student(path="embedded:student"), teacher=Teacher(path="embedded:teacher")
    )
    front, body = card(embedded)
    assert body.startswith("\n# student, distilled from teacher\n") and "path: embedded:student" in body
    assert front["license"] == "mit"


@pytest.mark.parametrize("where", ["filled", "a file", "run/final/model", "run/checkpoints/model", "run"])
def test_an_output_that_would_harm_something_is_refused_before_any_work(tmp_path, prompts, where):
    run = make_run(tmp_path / "run", tiny_model("student"), train="lora")
    (tmp_path / "filled").mkdir()
    (tmp_path / "filled" / "mine").touch()
    (tmp_path / "a file").touch()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(Refusal, match=r"--output .*: give a") as refusal:
        export(run, tmp_path / where, ProofPrompts(prompts), say=silent)
    assert "\n" not in str(refusal.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_what_went_wrong_is_said_even_where_the_new_folders_are_in_use_by_now(tmp_path):
    with pytest.raises(ZeroDivisionError), _beside(tmp_path / "new" / "deep" / "model") as folder:
        (folder / "half").touch()
        (tmp_path / "new" / "mine").touch()  # somebody else's, meanwhile
        raise ZeroDivisionError
    assert [each.name for each in (tmp_path / "new").iterdir()] == ["mine"]


def test_an_output_that_appeared_meanwhile_is_refused_and_stays(tmp_path):
    with (
        pytest.raises(Refusal, match=r"--output .*can't be written there"),
        _beside(tmp_path / "new" / "model"),
    ):
        (tmp_path / "new" / "model").mkdir()
        (tmp_path / "new" / "model" / "mine").touch()
    assert [each.name for each in (tmp_path / "new").rglob("*")] == ["model", "mine"]
    with pytest.raises(Refusal, match=r"--output .*can't be written there"), _beside(tmp_path / ("x" * 300)):
        pass


def test_an_empty_output_folder_may_be_there_already(tmp_path, prompts):
    run = make_run(tmp_path / "run", tiny_model("student"), train="lora")
    (tmp_path / "model").mkdir()
    export(run, tmp_path / "model", ProofPrompts(prompts), say=silent)
    assert (tmp_path / "model" / "model.safetensors").exists()


def test_without_prompts_there_is_no_proof_and_no_export(tmp_path):
    run = make_run(tmp_path / "run", tiny_model("student"), train="lora")
    with pytest.raises(Refusal, match="no held-out prompts"):
        export(run, tmp_path / "model", ProofPrompts([]), say=silent)


@pytest.mark.parametrize("train", ["lora", "dora"])
def test_mlx_vlm_takes_every_weight_of_the_adapter(tmp_path, packed_student, train):
    """Its own loading is not strict: a name that fits nothing would be dropped in silence."""
    run = make_run(tmp_path / "run", packed_student, train=train)
    module, _ = mlx_vlm.utils.load(str(packed_student), adapter_path=str(run / FINAL))
    loaded = {name: w for name, w in tree_flatten(module.parameters()) if adapters.is_adapter_weight(name)}
    saved = mx.load(str(run / FINAL / adapters.ADAPTER_FILE))
    assert loaded.keys() == saved.keys()
    assert all(bool(mx.array_equal(loaded[name], saved[name])) for name in saved)


def test_mlx_vlm_s_own_command_answers_with_the_export_and_with_the_adapter(tmp_path, prompts):
    run = make_run(tmp_path / "run", tiny_model("student"), train="lora")
    export(run, tmp_path / "model", ProofPrompts(prompts), say=silent)
    picture = tmp_path / "picture.png"
    prompts[0].example.pictures[0].open().save(picture)
    for model in ([tmp_path / "model"], [tiny_model("student"), "--adapter-path", run / FINAL]):
        command = [
            sys.executable,
            "-m",
            "mlx_vlm.generate",
            "--model",
            *map(str, model),
            "--image",
            str(picture),
        ]
        done = subprocess.run(
            [*command, "--prompt", "How many?", "--max-tokens", "8", "--verbose"],
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert re.search(r"Generation: [1-8] tokens", done.stdout), done.stdout
