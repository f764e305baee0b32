"""A recipe is read strictly: what is wrong is one line that says what, where and how to fix it."""

import dataclasses
import os
from pathlib import Path

import pytest

from vgs_mlx.ablation import grid_file
from vgs_mlx.errors import Refusal
from vgs_mlx.recipe import file as recipe_file
from vgs_mlx.recipe.options import Recipe
from vgs_mlx.recipe.paths import path_of
from vgs_mlx.resources import PACKAGE, recipes_folder


def refusal(*sets, file=None):
    with pytest.raises(Refusal) as caught:
        recipe_file.load_recipe(file, sets)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("train.stepz=3", "unknown key train.stepz: did you mean train.steps?"),
        ("steps=3", "unknown key steps: did you mean train.steps?"),
        ("trian.steps=3", "unknown key trian: did you mean train?"),
        ("train.nope=1", f"unknown key train.nope: all keys are in {recipe_file.DEFAULTS}"),
        ("train.steps=3.5", "train.steps: input should be a valid integer, got 3.5"),
        ("train.steps=0", "train.steps: input should be greater than or equal to 1, got 0"),
        ("train.steps=true", "train.steps: input should be a valid integer"),
        ("train.steps='7'", "train.steps: input should be a valid integer"),
        ("train.learning_rate=-1", "train.learning_rate: input should be greater than 0"),
        ("train.learning_rate=.nan", "train.learning_rate"),
        ("objective.norm_scale=exakt", "objective.norm_scale"),
        ("objective.name=vsg", "'sft' or 'grpo', got 'vsg': did you mean vgs?"),
        ("student.bits=4", "unknown key student.bits: did you mean teacher.bits?"),
        ("teacher.bits=3", "teacher.bits"),
        ("rollout.top_p=1.5", "rollout.top_p"),
        ("train=3", "train needs keys below it"),
        ("train.steps", "write it as key=value"),
        ("train.steps=[", "fix the YAML there"),
        (
            'data.system_prompt="a\\ud800"',
            r"data.system_prompt is not valid Unicode (lone surrogate \ud800 at character 2)",
        ),
        ('data.source="a\\0b"', "data.source holds a NUL (at character 2)"),
        (
            'student.targets=[a, "\\udfff"]',
            r"student.targets is not valid Unicode (lone surrogate \udfff at character 1)",
        ),
        ('data.columns={"question": "\\ud83d"}', r"data.columns is not valid Unicode (lone surrogate \ud83d"),
        ("data.source=!!python/object/apply:os.system [id]", "a tag (tag:yaml.org,2002:python/object"),
        ("data.columns={[1]: x}", "a list or a section as a key"),
        ("train={steps: 2}", "train is a section: set its keys one by one, as in --set train.KEY=VALUE"),
        ("data.columns=&a {image: *a}", "an alias that refers to the node it is part of"),
        ("data.columns={image: 2020-01-01}", "put it in quotes"),
        ("train.steps=" + "9" * 5000, "a number of 5,000 characters"),
        ("train.grad_checkpoint=yes", "train.grad_checkpoint: input should be a valid boolean, got 'yes'"),
        ("student.path=" + "x" * 5000, "can't be looked up (File name too long)"),
        ("student.path=~nobody-of-that-name/x", "can't be looked up"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(text, said):
    assert said in refusal(text)


def test_a_file_is_named_with_the_line_of_its_fault(tmp_path):
    file = tmp_path / "r.yaml"
    file.write_text("train:\n  steps: 3\n  steps: 4\n")
    assert f"{file}, line 3: the key 'steps' appears twice" in refusal(file=file)
    file.write_text("- a\n- b\n")
    assert "expected keys" in refusal(file=file)
    assert "can't be read" in refusal(file=tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"train:\n  steps: 3\xff\n", ", line 2: not UTF-8 text: give a YAML file"),
        (b"\x00\x01\x02", ", line 1: holds the character U+0000: fix the YAML there"),
        (b"train: {steps: 3}\nx: !!binary aGk=\n", ", line 2: a tag (tag:yaml.org,2002:binary)"),
        (b" " * 2_000_000, ": larger than a recipe ever is (1,048,576 bytes)"),
    ],
    ids=range(4),
)
def test_a_file_that_is_not_a_recipe_is_refused(content, said, tmp_path):
    file = tmp_path / "r.yaml"
    file.write_bytes(content)
    assert f"{file}{said}" in refusal(file=file)


def test_what_is_not_a_file_is_refused_and_not_waited_for(tmp_path):
    assert f"{tmp_path}: can't be read (it is not a file)" in refusal(file=tmp_path)
    assert "can't be read (no such file)" in refusal(file=tmp_path / "none.yaml")
    os.mkfifo(tmp_path / "pipe.yaml")
    assert "can't be read (it is not a file)" in refusal(file=tmp_path / "pipe.yaml")
    assert "can't be read (File name too long)" in refusal(file=tmp_path / ("x" * 5000))


def test_a_split_of_a_name_that_is_too_long_for_a_file_stays_a_name():
    assert path_of("x" * 5000) == "x" * 5000
    assert recipe_file.load_recipe(None, ["data.held_out=" + "x" * 5000]).data.held_out == "x" * 5000


def test_a_recipe_may_merge_and_alias_its_sections(tmp_path):
    file = tmp_path / "r.yaml"
    file.write_text("student: &tiny {path: embedded:student}\nteacher:\n  <<: *tiny\n  bits: 4\n")
    recipe = recipe_file.load_recipe(file)
    assert (recipe.teacher.path, recipe.teacher.bits) == ("embedded:student", 4)


def test_a_dumped_recipe_reads_back_equal(tmp_path):
    recipe = recipe_file.load_recipe(
        None,
        [
            "train.learning_rate=1e-6",
            "student.targets=[q_proj, v_proj]",
            "objective.norm_scale=0.41",
            "teacher.bits=8",
        ],
    )
    assert recipe.train.learning_rate == 1e-6 and recipe.student.targets == ("q_proj", "v_proj")
    file = tmp_path / "r.yaml"
    file.write_text(recipe_file.dump(recipe))
    assert recipe_file.load_recipe(file) == recipe


def test_paths_in_a_file_are_relative_to_it_and_hub_ids_stay(tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "rows.jsonl").touch()
    file = tmp_path / "there" / "r.yaml"
    file.write_text("data: {source: rows.jsonl}\nstudent: {path: Qwen/Qwen3-VL-2B-Instruct}\n")
    monkeypatch.chdir(tmp_path)
    recipe = recipe_file.load_recipe(file)
    assert recipe.data.source == str(tmp_path / "there" / "rows.jsonl")
    assert recipe.student.path == "Qwen/Qwen3-VL-2B-Instruct"


def test_a_split_is_never_a_folder(tmp_path, monkeypatch):
    for name in ("test", "validation", "owner"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "r.yaml"
    for split in ("test", "validation"):
        file.write_text(f"data: {{source: owner/name, held_out: {split}}}\n")
        for recipe in (
            recipe_file.load_recipe(file),
            recipe_file.load_recipe(None, ["data.source=owner/name", f"data.held_out={split}"]),
        ):
            assert (recipe.data.source, recipe.data.held_out) == ("owner/name", split)
    assert recipe_file.load_recipe(None, ["data.held_out=./test"]).data.held_out == str(tmp_path / "test")
    assert recipe_file.load_recipe(None, ["data.held_out=test/"]).data.held_out == str(tmp_path / "test")


def test_a_bare_word_that_can_only_be_a_folder_is_that_folder(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    for key in ("student.path", "teacher.path", "data.source"):
        section, name = key.split(".")
        for given, meant in (("mine", str(tmp_path / "mine")), ("other", "other")):
            recipe = recipe_file.load_recipe(None, [f"{key}={given}"])
            assert getattr(getattr(recipe, section), name) == meant


@pytest.mark.parametrize("key", ["source", "held_out"])
def test_a_split_may_follow_a_folder_s_name(key, tmp_path, monkeypatch):
    (tmp_path / "there" / "rows").mkdir(parents=True)
    file = tmp_path / "there" / "r.yaml"
    file.write_text(f"data: {{{key}: './rows:hard:test'}}\n")
    monkeypatch.chdir(tmp_path)
    assert getattr(recipe_file.load_recipe(file).data, key) == f"{tmp_path}/there/rows:hard:test"
    for given, meant in (
        ("there/rows:test", f"{tmp_path}/there/rows:test"),
        ("owner/name:test", "owner/name:test"),
    ):
        assert getattr(recipe_file.load_recipe(None, [f"data.{key}={given}"]).data, key) == meant


def test_a_folder_goes_before_the_hub_s_name_of_the_same_form(tmp_path, monkeypatch):
    (tmp_path / "owner" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    recipe = recipe_file.load_recipe(None, ["student.path=owner/name", "data.source=owner/name"])
    assert recipe.student.path == recipe.data.source == str(tmp_path / "owner" / "name")


def test_a_folder_whose_name_is_not_unicode_is_refused(tmp_path, monkeypatch):
    odd = tmp_path / "caf\udce9"
    odd.mkdir()
    (odd / "rows.jsonl").touch()
    monkeypatch.chdir(odd)
    said = refusal("data.source=rows.jsonl")
    assert r"caf\udce9/rows.jsonl: its name is not valid Unicode (lone surrogate \udce9" in said


def test_a_set_wins_over_the_file_and_the_file_over_the_default(tmp_path):
    file = tmp_path / "r.yaml"
    file.write_text("train: {steps: 7, weight_decay: 0.5}\n")
    recipe = recipe_file.load_recipe(file, ["train.steps=9"])
    assert (recipe.train.steps, recipe.train.weight_decay, recipe.seed) == (9, 0.5, Recipe().seed)


def test_every_shipped_recipe_is_valid():
    files = sorted(recipes_folder().glob("*.yaml"))
    assert files
    for file in files:
        if "cells" in recipe_file.read(file):
            assert grid_file.read(file, (), (), None, None)[0].cells
        else:
            recipe_file.load_recipe(file)


def test_every_key_is_read_somewhere():
    """No option is decoration: each one's name is used in the package outside the files that declare and parse it."""
    own = {recipe_file.DEFAULTS, Path(recipe_file.__file__)}
    code = "".join(each.read_text() for each in PACKAGE.rglob("*.py") if each not in own)
    for section in dataclasses.fields(Recipe):
        inner = dataclasses.fields(section.type) if dataclasses.is_dataclass(section.type) else [section]
        for key in inner:
            assert f".{key.name}" in code, f"{section.name}.{key.name} is never read"


@pytest.mark.parametrize("source", ["shapes", "shapes:40"])
def test_a_folder_with_the_name_of_the_built_in_data_changes_nothing(source, tmp_path):
    (tmp_path / source).mkdir()
    made = recipe_file.from_values({"data": {"source": source}}, tmp_path, [], "here")
    assert made.data.source == source
    made = recipe_file.from_values({"data": {"source": f"./{source}"}}, tmp_path, [], "here")
    assert made.data.source == str(tmp_path / source)


def test_a_file_of_cells_is_not_a_recipe():
    with pytest.raises(Refusal, match="names the cells of an ablation: run it with vgs-mlx ablate"):
        recipe_file.load_recipe(recipes_folder() / "shapes-ablation.yaml")


@pytest.mark.parametrize(
    "sets",
    [(), ("train.steps=3",), ("seed=4", "data.columns={question: problem}", "student.targets=[q_proj]")],
    ids=len,
)
def test_what_differs_from_the_defaults_is_the_recipe_and_no_more(sets, tmp_path):
    recipe = recipe_file.load_recipe(None, sets)
    (tmp_path / "r.yaml").write_text(recipe_file.dump_differences(recipe))
    assert recipe_file.load_recipe(tmp_path / "r.yaml") == recipe
    said = [key for section in recipe_file.read(tmp_path / "r.yaml").values()
            for key in (section if isinstance(section, dict) else [section])]  # fmt: skip
    assert len(said) == len(sets)


def test_every_key_has_a_short_description_of_its_own():
    described = {"seed": Recipe.__pydantic_fields__["seed"].description}
    for section in dataclasses.fields(Recipe):
        if dataclasses.is_dataclass(section.type):
            fields = section.type.__pydantic_fields__
            described |= {f"{section.name}.{name}": each.description for name, each in fields.items()}
    assert set(described) == set(recipe_file.flat(Recipe()))
    assert [key for key, text in described.items() if not text or len(text) > 160] == []
    assert len(set(described.values())) == len(described)


def test_every_key_is_where_the_message_about_an_unknown_one_sends_its_reader():
    text = recipe_file.DEFAULTS.read_text()
    assert all(f"{key.rpartition('.')[2]}:" in text for key in recipe_file.flat(Recipe()))
