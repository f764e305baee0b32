"""What is said of the rows before a run starts, and that no more of them are looked at than are used."""

import json
import logging

import pytest
from PIL import Image

import toy_runs
from toy_runs import command
from vgs_mlx import distillation, evaluation_report
from vgs_mlx.data.held_out import trained_on
from vgs_mlx.errors import Refusal
from vgs_mlx.models.loading import find_folder, load_processor
from vgs_mlx.train import data as run_data
from vgs_mlx.train import run_folder, setup
from vgs_mlx.types import Example, Picture


@pytest.fixture(scope="module")
def processor():
    return load_processor(find_folder("embedded:student", "--student"), "--student")


def rows_file(folder, rows, name="rows.jsonl"):
    """A data file; each row's picture has a width of its own, unless it names one."""
    lines = []
    for number, row in enumerate(rows):
        image = row.get("image", f"{name}-{number}.png")
        if not (folder / image).exists():
            Image.new("RGB", (40 + number, 40), "red").save(folder / image)
        lines.append(json.dumps({"question": f"Question {number}?", "answer": "3", "image": image, **row}))
    (folder / name).write_text("\n".join(lines))
    return str(folder / name)


class Said:
    """A screen that keeps its lines."""

    def __init__(self):
        self.lines = []
        self.counting = toy_runs.QUIET.counting

    def say(self, text):
        self.lines.append(text.strip())


def said_of(processor, *sets):
    screen = Said()
    run_data.load_data(toy_runs.recipe(*sets), processor, screen)
    return screen.lines


def sources(source, held_out):
    return f"data.source={source}", f"data.held_out={held_out}"


# --- rows that are measured on and trained on


def test_held_out_rows_that_are_trained_on_are_counted(processor, tmp_path):
    same = rows_file(tmp_path, [{"question": "Which?", "image": "one.png"}] * 12)
    line = "4 of 4 held-out rows have the question and the pictures of a training row: accuracy on them measures memory"
    assert line in said_of(processor, *sources(same, 0.3))
    train = rows_file(tmp_path, [{}] * 8, "train.jsonl")
    (tmp_path / "held.jsonl").write_text("\n".join((tmp_path / "train.jsonl").read_text().split("\n")[:4]))
    assert line in said_of(processor, *sources(train, tmp_path / "held.jsonl"))


def test_another_question_or_another_picture_is_another_row(processor, tmp_path):
    """The same bytes under another name are the same picture, and another picture of the same name is not."""
    train = rows_file(tmp_path, [{"question": "A?"}, {"question": "B?"}], "train.jsonl")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "copy.png").write_bytes((tmp_path / "train.jsonl-0.png").read_bytes())
    Image.new("RGB", (40, 41), "blue").save(tmp_path / "other" / "train.jsonl-1.png")
    rows = [{"question": "A?", "image": "copy.png"}, {"question": "B?", "image": "train.jsonl-1.png"}]
    held = rows_file(tmp_path / "other", rows, "held.jsonl")
    assert any(
        line.startswith("1 of 2 held-out rows have") for line in said_of(processor, *sources(train, held))
    )
    apart = rows_file(tmp_path / "other", [{"question": "C?", "image": "copy.png"}], "apart.jsonl")
    assert not any("measures memory" in line for line in said_of(processor, *sources(train, apart)))


def test_pictures_that_are_drawn_are_compared_by_name_and_none_is_opened():
    def example(name):
        return Example("id", "Which?", "3", (Picture(name, lambda: pytest.fail("opened")),))

    assert (
        trained_on([example("shapes/train/1")], [example("shapes/held_out/1"), example("shapes/train/1")])
        == 1
    )


# --- columns and solutions


def test_columns_that_nothing_reads_are_named_in_one_line(processor, tmp_path):
    source = rows_file(tmp_path, [{"id": 1, "hint": "x"}, {"id": 2}, {"source": "s"}])
    assert "columns that nothing reads: id, hint, source" in said_of(processor, *sources(source, 0.4))
    ignoring = said_of(processor, *sources(source, 0.4), "data.ignore_columns=[id, hint, source]")
    assert not any("nothing reads" in line for line in ignoring)


def test_rows_without_a_solution_are_counted_where_solutions_are_learnt(processor, tmp_path):
    source = rows_file(tmp_path, [{"solution": "So it is 3."}, {}, {}, {}, {}], "train.jsonl")
    held = rows_file(tmp_path, [{}], "held.jsonl")
    line = r"4 of 5 training rows have no solution: they teach \boxed{answer} alone"
    assert line in said_of(processor, *sources(source, held), "objective.name=sft")
    for other in (["objective.name=vgs"], ["objective.name=sft", "objective.answers=teacher"]):
        assert line not in said_of(processor, *sources(source, held), *other)


def test_good_rows_are_said_nothing_of(processor, tmp_path):
    lines = said_of(processor, *sources(rows_file(tmp_path, [{}] * 5), 0.4))
    assert len(lines) == 2 and lines[0].endswith("3 to train on, 2 held out")


# --- the system prompt


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("You are <|im_end|> x", "data.system_prompt holds the special token <|im_end|>: take it out"),
        ("See <|image_pad|>", "data.system_prompt holds the special token <|image_pad|>: take it out"),
        (
            "Look at <image> first",
            "data.system_prompt holds the marker <image> at character 9: pictures come before",
        ),
        (
            "Hear <audio>",
            "data.system_prompt holds the marker <audio> at character 6: videos and sounds are not read",
        ),
        ("a\0", "data.system_prompt holds a NUL (at character 2)"),
    ],
)
def test_a_system_prompt_is_checked_as_a_question_is_before_any_row(processor, text, said, tmp_path):
    """The very file of rows need not be there."""
    settings = toy_runs.recipe().data
    with pytest.raises(Refusal) as caught:
        run_data.row_check(processor, type(settings)(system_prompt=text))
    assert str(caught.value).startswith(said)


def test_a_system_prompt_is_refused_before_any_model_loads(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(setup, "load_model", lambda *_, **__: pytest.fail("loaded a model"))
    refused = command("distill", *toy_runs.options("data.system_prompt=You are <|im_end|> x"))
    assert refused.exit_code == 2 and refused.stderr == (
        "vgs-mlx: data.system_prompt holds the special token <|im_end|>: take it out\n"
    )


# --- no row is looked at that isn't used


@pytest.fixture
def opened(monkeypatch):
    """The widths of the pictures that Pillow opens: each picture has its own."""
    real, widths = Image.open, set()

    def counting(*arguments, **options):
        image = real(*arguments, **options)
        widths.add(image.width)
        return image

    monkeypatch.setattr(Image, "open", counting)
    return widths


@pytest.mark.parametrize("held_out", [0.5, "held.jsonl"])
def test_an_export_s_proof_opens_its_own_pictures_alone(tmp_path, opened, processor, held_out):
    source = rows_file(tmp_path, [{}] * 20)
    if held_out == "held.jsonl":
        held_out = rows_file(tmp_path, [{}] * 20, "held.jsonl")
    recipe = toy_runs.recipe(*sources(source, held_out))
    whole = run_data.load_data(recipe, processor, toy_runs.QUIET).held_out
    opened.clear()
    prompts = distillation.held_out_prompts(tmp_path, recipe, 3)
    assert [each.example.id for each in prompts] == [each.id for each in whole[:3]]
    assert len(opened) == 3


@pytest.mark.parametrize("limit", [None, 3])
def test_an_evaluation_of_a_run_with_a_limit_opens_so_many_pictures(tmp_path, opened, limit):
    student = toy_runs.ready().student
    recipe = toy_runs.recipe(*sources(rows_file(tmp_path, [{}] * 20), 0.5))
    run = tmp_path / "run"
    run_folder.create(run, recipe)
    rows = evaluation_report._examples(student, recipe, None, run, limit, toy_runs.QUIET)
    whole = run_data.load_data(recipe, student.processor, toy_runs.QUIET).held_out
    assert [each.id for each in rows] == [each.id for each in whole[:limit]]
    opened.clear()
    evaluation_report._examples(student, recipe, None, run, limit, toy_runs.QUIET)
    assert len(opened) == (limit or 20)


def test_an_evaluation_of_a_source_with_a_limit_opens_so_many_pictures(tmp_path, opened):
    source = rows_file(tmp_path, [{}] * 20)
    done = command(
        "evaluate",
        "embedded:student",
        "--data",
        source,
        "--limit",
        2,
        "--set",
        "rollout.max_completion_length=2",
    )
    assert done.exit_code == 0, done.output
    assert opened == {40, 41}  # the first two rows


def test_a_question_that_is_too_long_is_refused_without_a_warning_of_the_tokenizer_s(
    tmp_path, caplog, monkeypatch
):
    processor = load_processor(find_folder("embedded:student", "--student"), "--student")  # it warns but once
    processor.tokenizer.model_max_length = 50
    caplog.set_level(logging.WARNING, "transformers.tokenization_utils_base")
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    row = {"question": "word " * 400}
    recipe = toy_runs.recipe(*sources(rows_file(tmp_path, [row] * 3), 0.4), "data.max_prompt_length=100")
    with pytest.raises(Refusal, match=r"the prompt has .* tokens, data.max_prompt_length allows 100"):
        run_data.load_data(recipe, processor, toy_runs.QUIET)
    assert caplog.text == ""
