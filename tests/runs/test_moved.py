"""Data and models that moved can be named: they are recognised by what they hold, recorded, or refused."""

import json
import shutil
from pathlib import Path

import pytest

import toy_runs
from model_folders import configure
from toy_runs import command, final_weights, options, state_of
from vgs_mlx.recipe import file as recipe_file
from vgs_mlx.resources import tiny_model
from vgs_mlx.runs import folder as run_folder

PIXELS = [(name, colour) for name in ("a", "b", "c", "d") for colour in ("red", "blue")]


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """A finished run, the data that it had (rows, and held-out rows in a file of their own), and its student."""
    world = tmp_path_factory.mktemp("world")
    write_data(world / "data")
    shutil.copytree(tiny_model("student"), world / "student")
    done = command(
        "distill", "--output", world / "run",
        *options("train.steps=2", "train.evaluate_every=2", "rollout.max_completion_length=4"),
        "--set", f"student.path={world / 'student'}", "--set", f"data.source={world / 'data' / 'rows.jsonl'}",
        "--set", f"data.held_out={world / 'data' / 'held.jsonl'}",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    return world


def write_data(folder: Path) -> None:
    rows = [
        {
            "image": f"{colour}.png", "question": f"What colour, {name}?", "answer": colour,
            "solution": f"It is {colour}.",
        }
        for name, colour in PIXELS
    ]  # fmt: skip
    toy_runs.data_file(folder, *rows[:5])
    for colour in ("red", "blue"):
        toy_runs.Image.new("RGB", (48, 48), colour).save(folder / f"{colour}.png")
    (folder / "held.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows[5:]))


@pytest.fixture
def moved(world, tmp_path, monkeypatch) -> Path:
    """A copy of the run, whose data and student have moved to the folder `new`."""
    monkeypatch.chdir(tmp_path)
    for name in ("run", "data", "student"):
        shutil.copytree(world / name, tmp_path / name)
    recipe = tmp_path / "run" / run_folder.RECIPE
    recipe.write_text(recipe.read_text().replace(str(world), str(tmp_path)))
    (tmp_path / "new").mkdir()
    (tmp_path / "data").rename(tmp_path / "new" / "data")
    return tmp_path


def edit(file: Path, **changes) -> None:
    """Change fields of the first row of a data file."""
    first, *others = file.read_text().splitlines()
    file.write_text("\n".join([json.dumps({**json.loads(first), **changes}), *others]) + "\n")


DATA = ("--data", "new/data/rows.jsonl", "--set", "data.held_out=new/data/held.jsonl")


def resume(*arguments: str):
    return command("distill", "--resume", "--output", "run", *arguments)


def refusal(done) -> str:
    assert done.exit_code == 2, done.output
    assert len(done.stderr.splitlines()) == 1 and "Traceback" not in done.output
    return done.stderr


def test_a_finished_run_learns_where_its_data_are_and_evaluates_there(moved):
    weights = final_weights(moved / "run")
    told = resume(*DATA)
    assert told.exit_code == 0 and "nothing changed except data.source, data.held_out" in told.stdout
    recipe = run_folder.opened(moved / "run")
    assert recipe.data.source == str(moved / "new" / "data" / "rows.jsonl")
    assert recipe.data.held_out == str(moved / "new" / "data" / "held.jsonl")
    assert final_weights(moved / "run") == weights
    asked = command("evaluate", "run", "--limit", 1)
    assert asked.exit_code == 0, asked.output


def test_a_run_goes_on_with_data_that_moved(moved):
    done = resume(*DATA, "--set", "train.steps=3")
    assert done.exit_code == 0, done.output
    recipe = run_folder.opened(moved / "run")
    assert (recipe.train.steps, recipe.data.source) == (3, str(moved / "new" / "data" / "rows.jsonl"))


CHANGES = {
    "solutions": {"solution": "It looks blue."},
    "answers": {"answer": "blue"},
    "questions": {"question": "Which colour?"},
    "pictures": {"image": "blue.png"},
}


@pytest.mark.parametrize("part", CHANGES)
def test_other_rows_at_the_new_place_are_refused_by_what_differs(part, moved):
    edit(moved / "new" / "data" / "rows.jsonl", **CHANGES[part])
    before = state_of(moved)
    more = ("--set", "train.steps=3") if part == "solutions" else ()  # to go on, or only to record the place
    said = refusal(resume(*DATA, *more))
    assert ("red.png in this row, not blue.png" if part == "pictures" else f"the data's {part}") in said
    assert state_of(moved) == before


def test_other_pixels_under_the_same_names_are_not_the_run_s(moved):
    toy_runs.Image.new("RGB", (48, 48), "green").save(moved / "new" / "data" / "red.png")
    assert "red.png (rows.jsonl:1): its bytes are not those that run started with" in refusal(resume(*DATA))
    shown, found = figures(*DATA)
    assert "not the run's own (picture red.png" in shown and found["prompts"] == 5


def test_other_held_out_rows_are_refused_too(moved):
    edit(moved / "new" / "data" / "held.jsonl", answer="green")
    assert "the data's answers" in refusal(resume(*DATA))


def test_rows_that_changed_where_they_are_are_refused(moved):
    (moved / "new" / "data").rename(moved / "data")
    edit(moved / "data" / "rows.jsonl", solution="It looks blue.")
    said = refusal(resume("--set", "train.steps=3"))
    assert "the data's solutions" in said and "--data PATH" in said


@pytest.mark.parametrize(
    ("arguments", "fix"),
    [
        (("distill", "--resume", "--output", "run", "--set", "train.steps=3"), "with --data PATH"),
        (("evaluate", "run"), "with --data PATH"),
        (("evaluate", "run", "--data", "new/data/rows.jsonl"), "with --set data.held_out=PATH"),
        (("export", "run", "--output", "model"), "with --data PATH"),
        (("analyze", "run"), "with vgs-mlx distill --resume --output run --data PATH"),
    ],
    ids=lambda each: " ".join(each[:2]) if isinstance(each, tuple) else None,
)
def test_data_that_are_not_there_are_asked_for_by_the_option_that_names_them(arguments, fix, moved):
    before = state_of(moved)
    said = refusal(command(*arguments))
    assert "no longer there, and run needs it: give its new place" in said and fix in said
    assert state_of(moved) == before


def test_the_page_says_how_to_name_data_that_moved(moved):
    assert command("report", "run").exit_code == 0
    page = " ".join((moved / "run" / "report.html").read_text().split())
    assert "vgs-mlx distill --resume --output run --data PATH" in page


def figures(*arguments) -> tuple[str, dict]:
    done = command("evaluate", "run", *arguments, "--json", "figures.json")
    assert done.exit_code == 0, done.output
    return " ".join(done.stdout.split()), json.loads(Path("figures.json").read_text())


def test_a_copy_of_the_run_s_data_is_asked_for_its_held_out_rows(moved):
    shown, found = figures(*DATA)
    assert "the run's own data: its 3 held-out rows are asked" in shown and found["prompts"] == 3


def test_other_rows_are_asked_whole_and_said_to_be_others(moved):
    edit(moved / "new" / "data" / "rows.jsonl", solution="It looks blue.")
    shown, found = figures(*DATA)
    assert "not the run's own (the data's solutions differ): all its rows are asked" in shown
    assert found["prompts"] == 5
    (moved / "new" / "data" / "rows.jsonl").rename(moved / "new" / "data" / "others.jsonl")
    shown, found = figures("--data", "new/data/others.jsonl")
    assert "the run's own" not in shown and found["prompts"] == 5


def test_a_run_whose_data_are_gone_is_exported_on_built_in_pictures(moved):
    shutil.rmtree(moved / "new")
    done = command("export", "run", "--output", "model", "--data", "shapes:4", "--prompts", 2)
    assert done.exit_code == 0, done.output
    assert "greedy answers to prompts of shapes:4" in (moved / "model" / "README.md").read_text()


def test_a_student_that_moved_is_asked_for_recognised_and_recorded(moved):
    (moved / "student").rename(moved / "new" / "student")
    assert "give its new place with --student PATH" in refusal(resume(*DATA))
    resume(*DATA, "--student", "new/student")
    recipe = moved / "run" / run_folder.RECIPE
    assert run_folder.opened(moved / "run").student.path == str(moved / "new" / "student")
    (moved / "new" / "student").rename(moved / "student")
    for verb in ("evaluate", "export"):
        more = ("--output", "model") if verb == "export" else ()
        said = refusal(command(verb, "run", *more))
        assert "vgs-mlx distill --resume --output run --student PATH" in said
    configure(moved / "student", "preprocessor_config.json", image_mean=[0.1] * 3)
    before = recipe.read_text()
    assert "the student's picture settings" in refusal(resume("--student", "student"))
    assert recipe.read_text() == before


def test_a_split_of_a_folder_is_kept_as_an_absolute_path(tmp_path, monkeypatch):
    (tmp_path / "set").mkdir()
    (tmp_path / "embedded").mkdir()
    monkeypatch.chdir(tmp_path)
    made = recipe_file.load_recipe(None, ["data.source=set:train", "student.path=embedded:student"])
    assert (made.data.source, made.student.path) == (f"{tmp_path}/set:train", "embedded:student")
