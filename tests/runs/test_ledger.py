"""A run keeps the digests of its pictures: whoever reads its rows again, and finds other pictures there, refuses."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import toy_runs
from toy_runs import QUIET, command, copied, options, same_run
from vgs_mlx.ablation import inputs
from vgs_mlx.ablation.jobs import Job
from vgs_mlx.commands import distill
from vgs_mlx.data import datasets
from vgs_mlx.data.datasets import DataSet
from vgs_mlx.errors import Refusal
from vgs_mlx.recipe import file as recipe_file
from vgs_mlx.recipe.options import Recipe
from vgs_mlx.report import examples as shown_examples
from vgs_mlx.runs import checkpoint, ledger
from vgs_mlx.runs import folder as run_folder
from vgs_mlx.train import loop

ROWS = 8


def noise(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def write_data(folder, names=None):
    """A data file whose row n shows picture n (or the one that `names` has for it); row 0 a second one too."""
    folder.mkdir(exist_ok=True)
    for number in range(ROWS + 1):
        noise(number).save(folder / f"p{number}.png")
    names = names or [f"p{number}.png" for number in range(ROWS)]
    rows = [{"images": [name], "question": f"Which is {n}?", "answer": "red"} for n, name in enumerate(names)]
    rows[0]["images"].append(f"p{ROWS}.png")
    (folder / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return folder / "rows.jsonl"


def load(file, **options):
    return datasets.load(str(file), **({"held_out": 0.25} | options))


@pytest.fixture
def noted(tmp_path):
    """A run's folder and its data file, whose pictures the run has noted."""
    file, run = write_data(tmp_path / "data"), tmp_path / "run"
    recipe = recipe_file.build({"data": {"source": str(file), "held_out": 0.25}}, "test")
    run_folder.create(run, recipe)
    ledger.write(run, load(file))
    return run, file


def refused(run, data):
    with pytest.raises(Refusal) as caught:
        ledger.refuse_changes(run, data)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_each_picture_is_noted_with_its_row(noted):
    run, file = noted
    data = load(file)
    lines = run_folder.rows(run / run_folder.PICTURES)
    assert {(line["part"], line["row"]) for line in lines} == {
        *(("train", each.id) for each in data.train), *(("held_out", each.id) for each in data.held_out),
    }  # fmt: skip
    [first] = [line for line in lines if line["row"] == "rows.jsonl:1"]
    assert [name for name, _ in first["pictures"]] == ["p0.png", f"p{ROWS}.png"]
    assert len({digest for line in lines for _, digest in line["pictures"]}) == ROWS + 1


def test_the_same_pictures_are_let_through_whole_or_in_part(noted):
    run, file = noted
    data = load(file)
    ledger.refuse_changes(run, data)
    ledger.refuse_changes(run, DataSet((), data.held_out[:1]))
    (file.parent / "p1.png").rename(file.parent / "renamed.png")
    ledger.refuse_changes(run, load(write_renamed(file)))


def write_renamed(file):
    file.write_text(file.read_text().replace('"p1.png"', '"renamed.png"'))
    return file


def test_a_picture_with_other_pixels_is_refused_by_name_and_row(noted):
    run, file = noted
    noise(99).save(file.parent / "p3.png")
    said = refused(run, load(file))
    assert said.startswith("picture p3.png (rows.jsonl:4): its bytes are not those that")
    assert said.endswith(": put it back, or start a new run") and str(run) in said


def test_a_row_s_second_picture_counts_too(noted):
    run, file = noted
    noise(99).save(file.parent / f"p{ROWS}.png")
    assert refused(run, load(file)).startswith(f"picture p{ROWS}.png (rows.jsonl:1): ")


def test_swapped_pictures_are_refused_by_both_names(noted):
    run, file = noted
    names = [f"p{number}.png" for number in range(ROWS)]
    names[1], names[2] = names[2], names[1]
    said = refused(run, load(write_data(file.parent, names)))
    assert re.match(
        r"rows\.jsonl:[23]: .* started with picture p[12]\.png in this row, not p[12]\.png: put it", said
    )


def test_a_row_with_fewer_pictures_is_refused(noted):
    run, file = noted
    file.write_text(file.read_text().replace(f', "p{ROWS}.png"', ""))
    assert "started with 2 pictures in this row, which has 1 now" in refused(run, load(file))


def test_a_picture_that_broke_is_refused_though_bad_rows_are_skipped(noted):
    run, file = noted
    (file.parent / "p3.png").write_bytes(b"x")
    said = refused(run, load(file, how=datasets.Reading(on_bad_row="skip")))
    assert f"{file}:4: picture p3.png: not a picture" in said and "started with this row" in said


def test_training_and_held_out_rows_of_one_name_are_kept_apart(tmp_path):
    """Folders of other people's data sets often hold files of the same name."""
    train, held_out = write_data(tmp_path / "train"), write_data(tmp_path / "test", ["p7.png"] * ROWS)
    data = load(train, held_out=str(held_out))
    run = tmp_path
    ledger.write(run, data)
    ledger.refuse_changes(run, load(train, held_out=str(held_out)))
    noise(99).save(tmp_path / "test" / "p7.png")
    assert "p7.png (rows.jsonl:1)" in refused(run, load(train, held_out=str(held_out)))


def test_built_in_pictures_leave_no_file_and_a_run_without_one_is_taken_on_trust(tmp_path):
    ledger.write(tmp_path, datasets.load("shapes:4", held_out=2))
    assert toy_runs.names(tmp_path) == []
    ledger.refuse_changes(tmp_path, load(write_data(tmp_path / "data")))
    assert ledger.fingerprint(tmp_path) is None


@pytest.mark.parametrize(
    "line", ["{", "[]", "{}", '{"part": "train", "row": "x", "pictures": [["a"]]}', "\udcff"]
)
def test_a_damaged_file_is_refused_by_its_line(noted, line):
    run, file = noted
    with (run / run_folder.PICTURES).open("a", errors="surrogateescape") as stream:
        stream.write(f"{line}\n")
    said = refused(run, load(file))
    assert f"{run_folder.PICTURES}:{ROWS + 1}: damaged: put it back, or delete it" in said


def test_only_a_recipe_of_the_same_rows_is_a_run_s_own(noted):
    run, _ = noted
    recipe = run_folder.opened(run)
    assert ledger.own_rows(run, recipe)
    assert ledger.own_rows(run, replace(recipe, data=replace(recipe.data, max_pixels=9)))
    for change in ({"source": "other.jsonl"}, {"held_out": 0.5}, {"columns": {"image": "picture"}}):
        assert not ledger.own_rows(run, replace(recipe, data=replace(recipe.data, **change)))


def test_runs_of_one_grid_had_one_set_of_pictures_however_each_cut_its_rows(tmp_path):
    file = write_data(tmp_path / "data")

    def job(cell, seed):
        recipe = recipe_file.build({"seed": seed, "data": {"source": str(file), "held_out": 0.25}}, "test")
        made = Job(cell, recipe, tmp_path / cell / f"seed-{seed}")
        run_folder.create(made.folder, recipe)
        ledger.write(made.folder, load(file, seed=seed))
        return made

    jobs = [job("a", 0), job("a", 1), job("b", 0)]
    inputs.refuse_changed(jobs)
    noise(99).save(file.parent / "p3.png")
    with pytest.raises(Refusal, match=r"b/seed-1: differs from a, seed 0 in the set of pictures"):
        inputs.refuse_changed([*jobs, job("b", 1)])


# --- whole runs -------------------------------------------------------------------------------------------------

TRAINED = ("data.held_out=0.5", "train.steps=2", "train.checkpoint_every=1", "train.evaluate_rows=2")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run on pictures in files, and its data file. Shared: put back what you change."""
    folder = tmp_path_factory.mktemp("ledger")
    file = write_data(folder / "data")
    done = command("distill", "--output", folder / "run", *options(f"data.source={file}", *TRAINED))
    assert done.exit_code == 0, done.output
    return folder / "run", file


@pytest.fixture
def changed(trained):
    """The same, while one held-out row has another picture."""
    run, file = trained
    example = load(file, held_out=0.5).held_out[0]
    picture = file.parent / example.pictures[0].name
    kept = picture.read_bytes()
    noise(99).save(picture)
    yield run, f"picture {picture.name} ({example.id}): its bytes are not those that {run} started with"
    picture.write_bytes(kept)


def test_a_run_notes_its_pictures_before_its_first_step(trained):
    run, file = trained
    assert len(run_folder.rows(run / run_folder.PICTURES)) == ROWS
    ledger.refuse_changes(run, load(file, held_out=0.5))


@pytest.mark.parametrize("verb", ["resume", "evaluate", "analyze", "export"])
def test_every_command_on_a_run_s_own_rows_refuses_other_pictures(changed, verb, tmp_path):
    run, said = changed
    line = {
        "resume": ("distill", "--resume", "--output", run, "--set", "train.steps=3"),
        "evaluate": ("evaluate", run),
        "analyze": ("analyze", run, "--prompts", "1", "--batches", "1"),
        "export": ("export", run, "--output", tmp_path / "model"),
    }[verb]
    before = toy_runs.state_of(run)
    refused = command(*line)
    assert refused.exit_code == 2 and said in " ".join(refused.stderr.split()), refused.output
    assert toy_runs.state_of(run) == before and not (tmp_path / "model").exists()


def test_a_report_leaves_the_answers_out_and_says_why(changed):
    run, said = changed
    found = shown_examples.collect([("Student after", run)], run_folder.opened(run), 4, QUIET)
    assert found.shown == () and said in found.notes[0]


def test_other_rows_may_be_measured(changed, tmp_path):
    run, _ = changed
    other = write_data(tmp_path / "other")
    for option in (("--data", other), ("--set", f"data.source={other}")):
        asked = command("evaluate", run, *option, "--limit", "1")
        assert asked.exit_code == 0, asked.output


def test_a_run_of_before_there_was_such_a_file_goes_on(changed, tmp_path):
    older = copied(changed[0], tmp_path / "older")
    (older / run_folder.PICTURES).unlink()
    resumed = command("distill", "--resume", "--output", older, "--set", "train.steps=3")
    assert resumed.exit_code == 0, resumed.output
    assert not (older / run_folder.PICTURES).exists()  # nobody knows what it started with


def test_a_run_killed_before_it_noted_its_pictures_notes_them_when_it_starts_over(trained, tmp_path):
    killed = copied(trained[0], tmp_path / "killed")
    for name in (run_folder.CHECKPOINTS, run_folder.FINAL):
        shutil.rmtree(killed / name)
    for name in (run_folder.PICTURES, run_folder.RESULT):
        (killed / name).unlink()
    resumed = command("distill", "--resume", "--output", killed)
    assert resumed.exit_code == 0, resumed.output
    assert (killed / run_folder.PICTURES).read_bytes() == (trained[0] / run_folder.PICTURES).read_bytes()
    assert checkpoint.newest(killed) is not None


def test_a_picture_that_changes_in_mid_run_ends_it_before_a_gradient_and_put_back_it_goes_on(
    trained, tmp_path, monkeypatch
):
    run, (finished, file) = tmp_path / "run", trained
    sets = (f"data.source={file}", *TRAINED)
    pictures = sorted(file.parent.glob("*.png"))
    kept = {picture: picture.read_bytes() for picture in pictures}
    real, steps = loop.run_step, []

    def step(*arguments, **more):
        steps.append(real(*arguments, **more))
        for picture in pictures:
            noise(99).save(picture)
        return steps[-1]

    monkeypatch.setattr(loop, "run_step", step)
    ready = toy_runs.ready(*sets)
    run_folder.create(run, ready.recipe)
    try:
        with pytest.raises(Refusal) as caught:
            distill._train(ready, run, QUIET)
    finally:
        for picture, data in kept.items():
            picture.write_bytes(data)
    assert len(steps) == 1
    again = re.escape(f"put it back, then go on with: vgs-mlx distill --resume --output {run}")
    assert re.fullmatch(
        rf"picture p\d\.png: its bytes have changed since its row was checked \({re.escape(str(file))}:\d\): {again}",
        str(caught.value),
    )
    monkeypatch.undo()
    toy_runs.go_on(run, *sets)
    assert same_run(run, finished)


def test_the_noted_recipe_key_names_exist():
    assert set(ledger.ROWS) <= recipe_file.flat(Recipe()).keys()
