"""A run folder is never overwritten, explains itself, and never holds half a file."""

import json
import os
import re
from pathlib import Path

import pytest
from PIL import Image

import toy_runs
from toy_runs import command, copied, finished, names, options, state_of
from vgs_mlx.commands import distill
from vgs_mlx.errors import Refusal
from vgs_mlx.models import adapters
from vgs_mlx.models.loading import load_processor
from vgs_mlx.recipe import file as recipe_file
from vgs_mlx.recipe.options import Recipe
from vgs_mlx.resources import tiny_model
from vgs_mlx.runs import folder as run_folder
from vgs_mlx.runs.versions import PACKAGES
from vgs_mlx.train import loop

BEFORE_MODELS = ["README.md", "recipe.yaml", "versions.json"]


def test_a_finished_run_holds_what_its_readme_says():
    run = finished()
    assert sorted(os.listdir(run)) == [
        "README.md", "answers.jsonl", "checkpoints", "completions.jsonl", "evaluations.jsonl", "final", "metrics.jsonl",
        "recipe.yaml", "result.json", "versions.json",
    ]  # fmt: skip
    assert sorted(os.listdir(run / "final")) == ["adapter_config.json", "adapters.safetensors"]
    assert recipe_file.load_recipe(run / "recipe.yaml") == toy_runs.recipe()
    readme = (run / "README.md").read_text()
    for word in (
        "recipe.yaml",
        "metrics.jsonl",
        "evaluations.jsonl",
        "answers.jsonl",
        "completions.jsonl",
        "final/",
    ):
        assert word in readme
    assert f"vgs-mlx evaluate {run} --checkpoint best" in readme
    for what in ("vgs-mlx distill --resume --output", "vgs-mlx evaluate", "vgs-mlx export"):
        assert f"{what} {run}" in readme


def test_the_commands_in_the_readme_survive_a_space(tmp_path):
    run_folder.create(tmp_path / "my run", Recipe())
    assert f"--resume --output '{tmp_path}/my run'" in (tmp_path / "my run" / "README.md").read_text()


def test_the_versions_name_every_package_that_a_result_depends_on():
    found = toy_runs.read_json(finished() / "versions.json")
    assert set(PACKAGES) < set(found) and {"python", "platform"} < set(found)
    assert all(
        re.match(r"\d+\.\d+", found[name]) for name in ("mlx", "mlx-lm", "mlx-vlm", "transformers", "numpy")
    )


def test_the_result_says_before_and_after():
    found = toy_runs.read_json(finished() / "result.json")
    evaluations = run_folder.rows(finished() / "evaluations.jsonl")
    assert found["steps"] == 4
    assert (found["before"], found["after"]) == (evaluations[0], evaluations[-1])
    assert (found["accuracy_before"], found["accuracy_after"]) == tuple(
        row["accuracy"] for row in evaluations
    )
    best = max(row["accuracy"] for row in evaluations)
    first = next(row["step"] for row in evaluations if row["accuracy"] == best)
    assert found["best"] == {"step": first, "accuracy": best}


def test_the_recipe_is_there_before_any_model_loads_and_the_rest_goes_with_a_refusal(tmp_path, monkeypatch):
    run, seen = tmp_path / "new" / "run", []

    def refuse(*_):
        seen.extend(sorted(os.listdir(run)))
        raise Refusal("no such model")

    monkeypatch.setattr(distill.setup, "load", refuse)
    refused = command("distill", "--output", run, *options())
    assert refused.exit_code == 2
    assert seen == BEFORE_MODELS
    assert names(tmp_path) == []


def test_the_final_weights_are_written_last(tmp_path, monkeypatch):
    """Whoever sees final/ may rely on all the rest."""
    run, seen = copied(finished(), tmp_path / "run"), []
    whole = names(run)
    for name in ("result.json", "final/adapters.safetensors", "final/adapter_config.json"):
        (run / name).unlink()
    (run / "final").rmdir()
    made_ready = toy_runs.ready()
    monkeypatch.setattr(
        loop.run_folder, "replace_folder", lambda beside, folder: seen.append((folder.name, names(run)))
    )
    adapters.set_weights(made_ready.student.module, {})
    loop.run(made_ready, run, toy_runs.QUIET)
    assert [name for name, _ in seen] == ["final"]
    before_it = [name for name in seen[0][1] if not name.startswith(".final.writing")]
    assert before_it == [name for name in whole if not name.startswith("final")]


def test_the_first_free_number_is_taken(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_folder.default_folder("toy") == Path("runs/toy-1")
    for number in (1, 3):
        Path(f"runs/toy-{number}").mkdir(parents=True)
    assert run_folder.default_folder("toy") == Path("runs/toy-2")


def test_a_folder_that_holds_something_is_refused_and_stays_as_it_is(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    before = state_of(tmp_path)
    with pytest.raises(Refusal, match=r"not empty \(it holds notes.txt\): give another folder"):
        run_folder.create(tmp_path, Recipe())
    with pytest.raises(Refusal, match=r"notes\.txt: a file"):
        run_folder.create(tmp_path / "notes.txt", Recipe())
    with pytest.raises(Refusal, match=r"can't be (written|read)"):
        run_folder.create(tmp_path / "notes.txt" / "run", Recipe())
    assert state_of(tmp_path) == before


def test_a_folder_that_holds_a_run_is_refused_with_the_way_to_go_on(tmp_path):
    run_folder.create(tmp_path, Recipe())
    with pytest.raises(Refusal, match=f"holds a run already: .*vgs-mlx distill --resume --output {tmp_path}"):
        run_folder.create(tmp_path, Recipe())


def test_a_folder_that_cannot_be_written_is_refused_and_nothing_is_left(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_folder.os, "fsync", full)
    with pytest.raises(Refusal, match=r"can't be written .No space left on device.: give another folder"):
        run_folder.create(tmp_path / "a" / "b", Recipe())
    assert names(tmp_path) == []


def test_an_empty_folder_is_taken_and_is_empty_again_after_a_failure(tmp_path):
    (tmp_path / "empty").mkdir()
    made = run_folder.create(tmp_path / "empty", Recipe())
    with pytest.raises(KeyError), run_folder.gone_on_failure(tmp_path / "empty", made):
        raise KeyError
    assert names(tmp_path) == ["empty"]


def test_folders_made_for_a_run_stay_when_others_use_them(tmp_path):
    made = run_folder.create(tmp_path / "runs" / "one", Recipe())
    (tmp_path / "runs" / "two").mkdir()
    with pytest.raises(Refusal), run_folder.gone_on_failure(tmp_path / "runs" / "one", made):
        raise Refusal("no")
    assert names(tmp_path) == ["runs", "runs/two"]


def test_resuming_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(Refusal, match=r"not a run folder \(no recipe.yaml in it\)"):
        run_folder.opened(tmp_path)


def test_rows_come_back_as_they_went_whatever_line_ends_they_hold(tmp_path):
    file = tmp_path / "rows.jsonl"
    rows = [{"step": 1, "text": "a\u2028b\x85c\nd\re\x1cf"}, {"step": 2, "text": "🟣"}]
    for row in rows:
        run_folder.append(file, row)
    assert run_folder.rows(file) == rows
    assert run_folder.rows(tmp_path / "none.jsonl") == []


def test_rows_of_steps_that_are_done_again_are_forgotten_and_half_rows_too(tmp_path):
    file = tmp_path / run_folder.METRICS
    for step in range(4):
        run_folder.append(file, {"step": step, "text": "a\u2028b"})
    with file.open("ab") as stream:
        stream.write('{"step": 2, "text": "é'.encode()[:-1])
    run_folder.forget_after(tmp_path, 2)
    assert [row["step"] for row in run_folder.rows(file)] == [0, 1, 2]
    run_folder.forget_after(tmp_path, -1)
    assert file.read_bytes() == b""


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    file = tmp_path / "result.json"
    run_folder.write_text(file, "old")

    def die(*_):
        raise OSError("killed")

    monkeypatch.setattr(run_folder.os, "fsync", die)
    with pytest.raises(OSError, match="killed"):
        run_folder.write_text(file, "new")
    assert file.read_text() == "old"


def test_a_folder_replaces_another_one(tmp_path):
    for name, content in (("final", "old"), (".final.writing", "new")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").write_text(content)
    run_folder.replace_folder(tmp_path / ".final.writing", tmp_path / "final")
    assert names(tmp_path) == ["final", "final/weights"]
    assert (tmp_path / "final" / "weights").read_text() == "new"


def test_rows_that_were_skipped_are_listed_with_their_reason(tmp_path, monkeypatch):
    """A real data file with a bad row in it, read for real; then the models aren't needed any more."""
    data = tmp_path / "rows.jsonl"
    Image.new("RGB", (48, 48), "red").save(tmp_path / "red.png")
    lines = [
        {"image": "red.png", "question": question, "answer": "1"} for question in ("a", "b", "", "c", "d")
    ]
    data.write_text("".join(f"{json.dumps(line)}\n" for line in lines))

    def load(recipe, screen, *_):
        processor = load_processor(tiny_model("student"), "--student")
        found = toy_runs.setup.load_data(recipe, processor, screen)
        return toy_runs.setup.Ready(recipe, None, None, found, {})

    monkeypatch.setattr(distill.setup, "load", load)
    monkeypatch.setattr(distill.loop, "run", stop)
    command("distill", "--data", data, "--output", tmp_path / "run", "--set", "data.on_bad_row=skip",
            "--set", "data.held_out=0.5")  # fmt: skip
    rows = run_folder.rows(tmp_path / "run" / run_folder.SKIPPED)
    assert [(row["where"], row["reason"]) for row in rows] == [(f"{data}:3", "empty question")]


def stop(*_):
    raise KeyboardInterrupt
