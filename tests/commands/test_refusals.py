"""What can't be used is refused in a few lines that name the mend, with exit code 2 and nothing left behind."""

import json
from pathlib import Path

import mlx.core as mx
import pytest

import toy_runs
from toy_runs import GOOD, command, data_file, names, options
from vgs_mlx.commands import distill
from vgs_mlx.errors import Refusal
from vgs_mlx.resources import tiny_model

LONGEST_REFUSAL = 4  # lines


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """Commands run in an empty folder; a test sees what they leave there."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def refusal(*arguments) -> str:
    """What a refused command says: exit code 2, few lines, all on stderr, no traceback, nothing left behind."""
    before = toy_runs.state_of(Path.cwd())
    folders = names(Path.cwd())
    refused = command(*arguments)
    assert refused.exit_code == 2, refused.output
    assert "Traceback" not in refused.output
    assert 0 < len(refused.stderr.splitlines()) <= LONGEST_REFUSAL
    assert toy_runs.state_of(Path.cwd()) == before and names(Path.cwd()) == folders
    return refused.stderr


def distilling(*arguments) -> tuple:
    return ("distill", "--output", "new/deep/run", *arguments)


def model_copy(role: str = "student", folder: str = "model") -> Path:
    """A copy of an embedded model, outside the folder that commands run in."""
    copy = Path.cwd().parent / folder
    copy.mkdir()
    for file in tiny_model(role).iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    return copy


def edit_json(file: Path, **changes) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


FRACTION = ("--set", "data.held_out=0.5")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--set", "train.stepz=3"), "unknown key train.stepz: did you mean train.steps?"),
        (("--set", "train.steps=many"), "train.steps: input should be a valid integer"),
        (("--set", "train.steps"), "write it as key=value"),
        (("--set", "rollout.temperature=0.7"), "rollout.temperature=0.7: the objective needs"),
        (("--set", "rollout.top_p=0.9"), "set rollout.top_p=1"),
        (("--set", "train.warmup_steps=60"), "never reach its peak in train.steps=60 steps"),
        (
            ("--set", "train.warmup_steps=70", "--set", "train.schedule=cosine"),
            "such as train.warmup_steps=6",
        ),
        (("--stepz", "3"), "--stepz"),
        (("--recipe", "none.yaml"), "none.yaml: can't be read"),
        (("--student", "./none"), "--student ./none: no such folder"),
        (("--student", "embedded:student"), "--teacher: no model given"),
        (("--student", "embedded:pupil"), "pupil"),
        (("--data", "none.jsonl", *FRACTION), "data file none.jsonl: No such file or directory"),
        (("--data", "no such set", *FRACTION), "no data set 'no such set'"),
        (
            ("--set", "data.held_out=none.jsonl", "--set", "data.source=shapes:8"),
            "data file none.jsonl: No such file",
        ),
        (("--set", "data.held_out=-1"), "data.held_out=-1"),
        (("--set", "student.targets=[nonesuch]", *options("train.steps=1")), "student.targets"),
        (("--resume",), "not a run folder (no recipe.yaml in it)"),
        (("--resume", "--recipe", "x"), "the recipe is the run's own"),
        (("--resume", "--dry-run"), "the recipe is the run's own"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_wrong_option_is_refused(arguments, said):
    assert said in refusal(*distilling(*arguments))


def test_resuming_without_a_folder_is_refused():
    assert "--resume takes --output DIR" in refusal("distill", "--resume")


def test_a_bad_recipe_is_refused_with_file_and_line():
    Path("bad.yaml").write_text("train:\n  steps: 3\n  steps: 4\n")
    assert "bad.yaml, line 3: the key 'steps' appears twice" in refusal(*distilling("--recipe", "bad.yaml"))
    Path("bad.yaml").write_text("train: {optimiser: sgd}\n")
    assert "bad.yaml: unknown key train.optimiser" in refusal(*distilling("--recipe", "bad.yaml"))


def test_an_output_that_holds_something_is_refused_and_stays():
    Path("new/deep/run").mkdir(parents=True)
    Path("new/deep/run/notes.txt").write_text("mine")
    assert "--output new/deep/run: not empty (it holds notes.txt)" in refusal(*distilling())
    assert "not empty" in refusal(*distilling("--dry-run"))


def test_an_empty_output_stays_there_and_empty():
    Path("new/deep/run").mkdir(parents=True)
    refusal(*distilling("--set", "rollout.top_p=0.9"))
    assert names(Path.cwd()) == ["new", "new/deep", "new/deep/run"]


def test_a_folder_that_is_no_model_is_refused():
    (Path.cwd().parent / "empty").mkdir()
    assert "no readable config.json there: give a model folder" in refusal(
        *distilling("--set", "student.path=../empty")
    )


def test_an_unknown_family_is_refused_with_the_known_ones():
    model = model_copy()
    edit_json(model / "config.json", model_type="llava")
    assert "model_type 'llava' is not supported; supported: qwen3_vl" in refusal(
        *distilling("--set", f"student.path={model}")
    )


def drop_a_weight(weights):
    return {name: value for name, value in weights.items() if "layers.1.mlp.up_proj" not in name}


def add_a_weight(weights):
    return {**weights, "language_model.model.layers.0.nonesuch.weight": mx.zeros((2, 2))}


def reshape_a_weight(weights):
    return {name: value[:-1] if "layers.1.mlp.up_proj" in name else value for name, value in weights.items()}


@pytest.mark.parametrize("change", [drop_a_weight, add_a_weight, reshape_a_weight])
def test_weights_that_do_not_fit_are_refused(change):
    file = model_copy() / "model.safetensors"
    changed = change(mx.load(str(file)))
    mx.save_safetensors(str(file), changed, metadata={"format": "mlx"})
    said = refusal(*distilling("--set", f"student.path={file.parent}", *options()))
    assert said.startswith(f"vgs-mlx: --student {file.parent}: ")
    assert any(word in said for word in ("up_proj", "nonesuch")), said


@pytest.mark.parametrize("damage", ["cut off", "other bytes", "empty", "gone"])
@pytest.mark.parametrize("role", ["student", "teacher"])
def test_a_damaged_weight_file_is_refused(damage, role):
    file = model_copy(role) / "model.safetensors"
    content = file.read_bytes()
    damages = {"cut off": content[:100_000], "other bytes": b"\xff" * 9 + content[9:], "empty": b""}
    file.unlink()
    if damage != "gone":
        file.write_bytes(damages[damage])
    assert refusal(*distilling("--set", f"{role}.path={file.parent}", *options())).startswith(
        f"vgs-mlx: --{role} {file.parent}"
    )


def test_a_teacher_with_another_vocabulary_is_refused():
    teacher = model_copy("teacher")
    tokenizer = json.loads((teacher / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    first, second = sorted(vocabulary, key=vocabulary.get)[300:302]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (teacher / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert "different vocabularies" in refusal(*distilling("--set", f"teacher.path={teacher}"))


def test_a_teacher_with_another_chat_template_is_refused():
    teacher = model_copy("teacher")
    template = teacher / "chat_template.jinja"
    template.write_text(template.read_text() + "!")
    assert "chat template" in refusal(*distilling("--set", f"teacher.path={teacher}"))


@pytest.mark.parametrize(
    "change",
    [{"image_mean": [0.4, 0.5, 0.5]}, {"max_pixels": 10_368}, {"image_std": [0.5, 0.5, 0.4]}],
    ids=str,
)
def test_a_teacher_that_prepares_pictures_differently_is_refused(change):
    teacher = model_copy("teacher")
    edit_json(teacher / "preprocessor_config.json", **change)
    said = refusal(*distilling("--set", f"teacher.path={teacher}"))
    assert f"prepare pictures differently ({next(iter(change))}" in said


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ((), "rows.jsonl is empty: it has no rows"),
        ((GOOD, "{"), "rows.jsonl:2: broken JSON"),
        ((GOOD, {**GOOD, "question": " "}), "rows.jsonl:2: empty question"),
        ((GOOD, {**GOOD, "image": "none.png"}), "rows.jsonl:2: "),
        ((GOOD, {**GOOD, "image": "../outside.png"}), "rows.jsonl:2: "),
        ((GOOD,), "one row can't be divided"),
    ],
    ids=["empty", "broken", "no question", "no picture", "outside", "one"],
)
def test_bad_rows_are_refused_with_their_line_before_any_model_loads(rows, said, monkeypatch):
    monkeypatch.setattr(distill.setup, "load_model", lambda *_, **__: pytest.fail("loaded a model"))
    assert said in refusal(*distilling("--data", data_file(Path.cwd().parent / "data", *rows), *FRACTION))


def test_the_embedded_default_takes_rows_of_one_s_own(monkeypatch):
    monkeypatch.setattr(distill.setup, "load_model", lambda *_, **__: (_ for _ in ()).throw(Refusal("read")))
    assert "read" in refusal(*distilling("--data", data_file(Path.cwd().parent / "data", GOOD, GOOD, GOOD)))


def test_many_rows_that_are_bad_alike_are_counted():
    refused = command(*distilling("--data", data_file(Path.cwd().parent / "data", *["{"] * 23), *FRACTION))
    assert refused.exit_code == 2
    assert len(refused.stderr.splitlines()) == 5
    assert "23 of 23 rows" in refused.stderr and "(and 20 more like it)" in refused.stderr
    assert refused.stderr.splitlines()[-1] == "fix them", "nothing would be left"
    assert names(Path.cwd()) == []


def test_debug_shows_the_traceback_and_still_leaves_nothing():
    shown = command(*distilling("--debug", "--student", "./none"))
    assert shown.exit_code == 2
    assert "Traceback" in shown.stderr and "find_folder" in shown.stderr
    assert shown.stderr.splitlines()[-1].startswith("vgs-mlx: --student ./none: no such folder")
    assert names(Path.cwd()) == []


def test_a_process_ends_with_code_2_and_one_line():
    """Once for real: the entry point in a process of its own."""
    ended = toy_runs.spawned("distill", "--student", "./none", "--output", Path("run").absolute())
    _, errors = ended.communicate()
    assert ended.returncode == 2 and names(Path.cwd()) == []
    assert errors.startswith("vgs-mlx: --student ./none: no such folder") and errors.count("\n") == 1


def test_an_error_of_the_program_is_no_refusal(monkeypatch):
    def fail(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr(distill, "start", fail)
    assert isinstance(command(*distilling()).exception, ZeroDivisionError)


def test_a_dry_run_with_an_output_does_not_make_it():
    refusal("distill", "--dry-run", "--output", "new/run", "--set", "rollout.top_p=0.5")
    assert names(Path.cwd()) == []


def test_export_of_what_is_no_run_is_refused():
    Path("folder").mkdir()
    assert "not a run folder (no recipe.yaml in it)" in refusal("export", "folder", "--output", "fused")
    assert "Missing option '--output'" in refusal("export", "folder")
