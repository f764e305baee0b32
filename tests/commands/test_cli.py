"""The command line: help with an example first, dry runs that write nothing, the main job from end to end."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from toy_runs import GOOD, ROOT, command, data_file, names, options
from vgs_mlx.recipe import file as recipe_file
from vgs_mlx.resources import recipes_folder, tiny_model
from vgs_mlx.runs import folder as run_folder
from vgs_mlx.runs import recipes
from vgs_mlx.train import loop


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """Commands run in an empty folder; a test sees what they leave there."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


# --- help


@pytest.mark.parametrize("name", ["distill", "ablate", "evaluate", "export", "doctor"])
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_starts_with_an_example(name, flag):
    shown = command(name, flag)
    assert shown.exit_code == 0
    lines = [line.strip() for line in shown.stdout.splitlines() if line.strip()]
    assert lines[0].startswith("Usage:")
    assert lines[1].startswith(f"vgs-mlx {name}")
    assert "--debug" in shown.stdout


def test_the_commands_are_listed_with_the_main_one_as_an_example():
    shown = command("--help").stdout
    assert all(f"\n  {name} " in shown for name in ("distill", "ablate", "evaluate", "export", "doctor"))
    assert "vgs-mlx distill --student S --teacher T --data D.jsonl" in shown


def test_help_names_the_key_that_an_option_is_short_for():
    shown = " ".join(command("distill", "--help").stdout.split())
    for short, key in (
        ("--student", "student.path"),
        ("--teacher", "teacher.path"),
        ("--data", "data.source"),
    ):
        assert short in shown and f"Short for --set {key}=..." in shown


def test_help_needs_neither_mlx_nor_transformers():
    code = "import sys; from vgs_mlx.cli import main; main(['distill', '--help'], standalone_mode=False);"
    code += "sys.exit('mlx.core' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True).returncode == 0


# --- what the command line makes of its options


def test_without_a_model_the_embedded_default_is_what_options_change():
    quickstart = recipe_file.load_recipe(recipes_folder() / "quickstart.yaml")
    recipe, name = recipes.resolve(None, {"data": "mine.jsonl"}, ["train.steps=7"])
    assert (recipe.student.path, recipe.teacher.path) == ("embedded:student", "embedded:teacher")
    assert (recipe.data.source, recipe.train.steps, name) == ("mine.jsonl", 7, "quickstart")
    assert (recipe.student, recipe.rollout) == (quickstart.student, quickstart.rollout)


@pytest.mark.parametrize("value", ['a"b.jsonl', "C:\\new\\data.jsonl", "7", "[a", "a: b"])
def test_the_value_of_a_shorthand_is_taken_as_it_stands(value):
    assert recipes.resolve(None, {"data": value}, ())[0].data.source == value


def test_with_a_model_the_defaults_of_a_real_run_count():
    recipe, name = recipes.resolve(None, {"student": "a/b"}, ["teacher.path=c/d"])
    assert (recipe.student.path, recipe.teacher.path, name) == ("a/b", "c/d", "run")
    assert (recipe.student.train, recipe.train.steps) == ("lora", 200)


def test_a_recipe_file_names_its_run_and_later_options_win(tmp_path):
    (tmp_path / "mine.yaml").write_text("train: {steps: 3}\nstudent: {path: a/b}\n")
    recipe, name = recipes.resolve(
        tmp_path / "mine.yaml", {"student": "1e5"}, ["train.steps=4", "train.steps=5"]
    )
    assert (recipe.train.steps, recipe.student.path, name) == (5, "1e5", "mine")


# --- dry run


def test_a_dry_run_tells_the_recipe_hours_and_tokens_and_writes_nothing(monkeypatch):
    monkeypatch.setattr(loop, "run", lambda *_: pytest.fail("trained"))
    shown = command("distill", "--dry-run", *options("train.steps=1000"))
    assert shown.exit_code == 0, shown.output
    assert f"the defaults, which are in {recipe_file.DEFAULTS}" in shown.stdout
    assert "learning_rate: 0.0001" in shown.stdout
    assert "steering_coef" not in shown.stdout, "a default"
    assert "probes   all passed" in shown.stdout
    told = re.search(
        r"and ([\d,]+) sampled tokens a step; ([\d.]+) hours and ([\d,]+) tokens for 1,000 steps",
        shown.stdout,
    )
    per_step, total = (int(told[group].replace(",", "")) for group in (1, 3))
    assert 4 <= per_step <= 4 * 8 and total == 1000 * per_step
    assert "nothing was trained or written" in shown.stdout
    assert names(Path.cwd()) == []


def test_a_dry_run_of_sft_counts_one_answer_a_prompt_of_its_own_length():
    """Two prompts a step, and however many completions_per_prompt says, one answer each."""
    shown = command(
        "distill", "--dry-run", *options("objective.name=sft", "rollout.completions_per_prompt=4")
    )
    assert shown.exit_code == 0, shown.output
    [length] = map(int, re.findall(r"completions of (\d+)", shown.stdout))
    [per_step] = map(int, re.findall(r"and (\d+) sampled tokens a step", shown.stdout))
    assert length <= per_step <= 2 * length


# --- the whole of it


def test_a_run_on_a_data_file_from_the_first_line_to_the_next_commands():
    """The main job on rows of one's own, its folder chosen by the program."""
    good = [{**GOOD, "question": f"What colour, {name}?"} for name in "abcdef"]
    data = data_file(Path.cwd().parent / "data", *good, "{")
    small = options(
        "data.on_bad_row=skip", "data.held_out=0.4", "train.steps=1", "rollout.max_completion_length=3"
    )
    done = command("distill", *small, "--set", f"data.source={data}")
    assert done.exit_code == 0, done.output
    run = Path("runs/run-1")
    for line in (
        f"run      {run}",
        f"data     {data}: 4 to train on, 2 held out, 1 bad rows skipped",
        "probes   all passed",
        "before   accuracy",
        "after    accuracy",
        f"everything is in {run}",
        f"vgs-mlx evaluate {run} --no-image",
        f"vgs-mlx export {run} --output {run}-fused",
    ):
        assert line in done.stdout, line
    student = tiny_model("student")
    assert f"python -m mlx_vlm.generate --model {student} --adapter-path {run}/final" in done.stdout
    assert run_folder.rows(run / run_folder.SKIPPED)[0]["where"] == f"{data}:7"
    assert (run / run_folder.FINAL / "adapters.safetensors").is_file()
    assert run_folder.opened(run).data.source == str(data)
