"""An option's value is never lost, nor one taken that no file could hold; the package's own recipes are found."""

import os
import subprocess
import sys

import pytest

from toy_runs import ROOT, command
from vgs_mlx.commands import distill, evaluate
from vgs_mlx.resources import recipes_folder


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def refusal(*arguments) -> str:
    """The one line that a refused command says."""
    refused = command(*arguments)
    assert refused.exit_code == 2 and refused.stderr.startswith("vgs-mlx: "), refused.output
    assert refused.stderr.count("\n") == 1
    return refused.stderr


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("distill", "--data"), ("distill", "--student"), ("distill", "--teacher"), ("distill", "--output"),
        ("distill", "--recipe"), ("plan", "--memory"), ("evaluate", "--limit"), ("analyze", "--teacher"),
        ("export", "--output"), ("report", "--output"), ("ablate", "--seeds"),
    ],
)  # fmt: skip
def test_an_option_of_one_value_given_twice_is_refused(name, option):
    given = f"{option}: given 2 times, where one value is allowed: give it once"
    assert given in refusal(name, option, "1", "--set" if name == "distill" else "x", "a=1", option, "2")
    assert given in refusal(name, f"{option}=1", f"{option}=1")


def test_what_may_be_given_again_is_not_refused(monkeypatch):
    seen = []
    monkeypatch.setattr(distill, "dry_run", lambda recipe, *_, **__: seen.append(recipe))
    ended = command("distill", "--dry-run", "--dry-run", "--set", "train.steps=3", "--set", "train.steps=4")
    assert ended.exit_code == 0 and seen[0].train.steps == 4


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("distill", "--output", "r\udce9sult"), r"--output r\udce9sult is not valid Unicode (lone surrogate \udce9"),
        (("distill", "--data", "caf\udce9/held.jsonl"), r"--data caf\udce9/held.jsonl is "),
        (("distill", "--set", "data.held_out=caf\udce9.jsonl"), r"--set data.held_out=caf\udce9.jsonl is "),
        (("distill", "--recipe", "caf\udce9.yaml"), r"--recipe caf\udce9.yaml is "),
        (("export", "r\udce9n", "--output", "x"), r"RUN r\udce9n is "),
        (("evaluate", "m\udce9"), r"MODEL m\udce9 is "),
        (("ablate", "--summary", "a\udce9"), r"--summary a\udce9 is "),
    ],
)  # fmt: skip
def test_text_that_is_not_utf8_is_refused_by_the_option_s_name(arguments, named, tmp_path):
    said = refusal(*arguments)
    assert named in said and "rename it, or write it in UTF-8" in said
    assert list(tmp_path.iterdir()) == []


def test_a_locale_without_utf8_is_named_as_the_fault():
    code = "import sys; from vgs_mlx.cli import main; main(sys.argv[1:])"
    settings = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ended = subprocess.run(
        [sys.executable, "-c", code, "distill", "--data", "café/held.jsonl"],
        cwd=ROOT, env=settings, capture_output=True,
    )  # fmt: skip
    assert ended.returncode == 2
    assert rb"--data caf\udcc3\udca9/held.jsonl is not valid Unicode" in ended.stderr
    assert b"the locale is not UTF-8: run it with LC_ALL=C.UTF-8" in ended.stderr


def test_a_recipe_of_the_package_s_own_is_found_from_anywhere(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(distill, "dry_run", lambda recipe, *_, **__: seen.append(recipe))
    ended = command("distill", "--dry-run", "--recipe", "recipes/qwen3-vl-2b-lora.yaml")
    assert ended.exit_code == 0 and seen[0].student.path == "Qwen/Qwen3-VL-2B-Instruct"
    shipped = recipes_folder() / "qwen3-vl-2b-lora.yaml"
    assert (
        f"recipes/qwen3-vl-2b-lora.yaml is not in this folder: using the package's own, {shipped}"
        in ended.stdout
    )
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "qwen3-vl-2b-lora.yaml").write_text(
        "student: {path: mine/own}\nteacher: {path: a/b}\n"
    )
    ended = command("distill", "--dry-run", "--recipe", "recipes/qwen3-vl-2b-lora.yaml")
    assert seen[1].student.path == "mine/own" and "the package's own" not in ended.stdout


def test_a_recipe_that_is_nowhere_is_refused():
    for name in ("recipes/nonesuch.yaml", "quickstart.yaml"):
        assert f"{name}: can't be read" in refusal("distill", "--recipe", name)


def test_every_command_that_takes_a_recipe_finds_the_package_s_own(monkeypatch):
    seen = []
    monkeypatch.setattr(evaluate, "run", lambda model, data, options: seen.append(options.recipe))
    assert command("evaluate", "a/b", "--recipe", "recipes/quickstart.yaml").exit_code == 0
    assert seen == [recipes_folder() / "quickstart.yaml"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("distill", "--recipe"),
        ("distill", "--output"),
        ("plan", "--json"),
        ("ablate", "--summary"),
        ("ablate", "--resume"),
        ("evaluate", "a/b", "--against"),
        ("distill", "--student"),
        ("analyze", "a/b", "--teacher"),
        ("distill", "--data"),
        ("evaluate",),
        ("analyze",),
        ("report",),
        ("export",),
    ],
    ids=" ".join,
)
def test_a_path_that_the_system_can_not_look_up_is_refused_by_the_option_s_name(arguments, tmp_path):
    positional = {"report": "RUN|ABLATION", "export": "RUN", "evaluate": "MODEL", "analyze": "MODEL"}
    name = arguments[-1] if arguments[-1].startswith("-") else positional[arguments[0]]
    end = ("--output", "model") if arguments == ("export",) else ()
    said = refusal(*arguments, "x" * 5000, *end)
    assert f"{name} xxx" in said and "can't be looked up (File name too long): give another path" in said
    (tmp_path / "circle").symlink_to("circle")
    assert "can't be looked up (Too many levels" in refusal(*arguments, tmp_path / "circle", *end)


@pytest.mark.parametrize(
    "arguments", [("distill", "--data"), ("evaluate",), ("analyze", "a/b", "--teacher")], ids=" ".join
)
def test_a_home_of_nobody_is_refused(arguments):
    assert "there is no user of that name" in refusal(*arguments, "~nobody-of-that-name/x")
