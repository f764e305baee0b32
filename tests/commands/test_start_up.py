"""A command says what it does, or refuses, before it loads what takes seconds; a lack of MLX is said in one line."""

import json
import subprocess
import sys

import pytest

from toy_runs import ROOT

HEAVY = ("mlx_vlm", "mlx_lm", "transformers", "datasets", "torch")
REFUSED = {  # without MLX: nothing of it is needed to see what is wrong
    "--set train.stepz=3": ("distill", "--set", "train.stepz=3"),
    "--recipe none": ("distill", "--recipe", "none.yaml"),
    "--resume alone": ("distill", "--resume"),
    "--resume of nothing": ("distill", "--resume", "--output", "none"),
    "a dry run": ("distill", "--dry-run", "--set", "train.steps=none"),
    "an output in use": ("distill", "--output", "used"),
    "ablate alone": ("ablate",),
    "two things to ask": ("evaluate", "x", "--data", "y", "--suite", "all"),
    "no suite": ("evaluate", "x", "--against", "y"),
}
NEED_MLX = {  # but neither mlx-vlm nor transformers
    "no such student": ("distill", "--student", "./none"),
    "off-policy": ("distill", "--set", "rollout.top_p=0.9"),
    "a long warm-up": ("distill", "--set", "train.warmup_steps=60"),
    "plan of nothing": ("plan", "--student", "./none"),
    "samples": ("evaluate", "x", "--samples", "2"),
    "how to ask": ("evaluate", "embedded:student", "--set", "train.stepz=3"),
    "analyze": ("analyze", "embedded:student"),
    "export of nothing": ("export", "none", "--output", "model"),
    "report of nothing": ("report", "none"),
    "ablate of nothing": ("ablate", "none.yaml", "--output", "x"),
    "ablate --resume": ("ablate", "--resume", "none"),
}
# every command in one process: what one of them imports would be seen with the next, so none may import any
CODE = """
import json, sys, vgs_mlx
for name in sys.argv[2:]:
    sys.modules[name] = None  # makes its import fail
from click.testing import CliRunner
from vgs_mlx.cli import main
ended = {}
for name, arguments in json.loads(sys.argv[1]).items():
    done = CliRunner().invoke(main, arguments)
    ended[name] = (done.exit_code, done.stdout, done.stderr, repr(done.exception))
print(json.dumps(ended))
"""


def run(folder, commands, *without) -> dict:
    """How each command ends in an empty folder where these modules can't be imported."""
    line = [sys.executable, "-c", CODE, json.dumps(commands), *without]
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def here(tmp_path):
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "notes.txt").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("commands", "without"),
    [(REFUSED, ("mlx.core", *HEAVY)), (NEED_MLX, HEAVY)],
    ids=["no mlx", "no mlx-vlm"],
)
def test_an_option_is_refused_before_heavy_libraries_load(commands, without, here):
    for name, (code, _, errors, exception) in run(here, commands, *without).items():
        assert code == 2, (name, errors, exception)
        assert "Traceback" not in errors and "MLX" not in errors, name
    assert [each.name for each in here.iterdir()] == ["used"]


def test_help_and_the_doctor_need_no_mlx_and_the_plan_no_mlx_vlm(here):
    light = {"help": ("--help",), "of a command": ("plan", "--help"), "doctor": ("doctor",)}
    ended = run(here, light, "mlx.core", *HEAVY)
    assert {name: code for name, (code, *_) in ended.items()} == dict.fromkeys(light, 0), ended
    assert "MLX can't be imported" in ended["doctor"][1] and "platform" in ended["doctor"][1]
    (planned,) = run(here, {"plan": ("plan",)}, *HEAVY).values()
    assert planned[0] == 0 and "peak at most" in planned[1], planned


def test_the_first_line_comes_before_mlx_loads_and_without_it_one_line_says_so(here):
    (ended,) = run(here, {"distill": ("distill",)}, "mlx.core").values()
    assert ended[1] == "run      runs/quickstart-1\n"
    assert ended[0] == 2 and ended[2].startswith("vgs-mlx: MLX can't be imported"), ended
    assert len(ended[2].splitlines()) == 1
    assert not (here / "runs").exists()


def test_a_dry_run_prints_what_it_will_do_before_mlx_loads(here):
    (ended,) = run(here, {"dry": ("distill", "--dry-run", "--set", "train.steps=7")}, "mlx.core").values()
    assert "steps: 7" in ended[1]
