"""What a run learns from is recognised, part by part, wherever it lies; what changed is named."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import toy_runs
from model_folders import configure, copied
from toy_runs import finished
from vgs_mlx.data.datasets import DataSet
from vgs_mlx.errors import Refusal
from vgs_mlx.recipe.options import Grpo
from vgs_mlx.resources import tiny_model
from vgs_mlx.runs import checkpoint, identity
from vgs_mlx.runs import folder as run_folder
from vgs_mlx.types import Example, Picture


def picture(name: str) -> Picture:
    return Picture(name, lambda: None)


ROW = Example(
    "rows.jsonl:1", "How many?", "3", (picture("a.png"), picture("b.png")), "count", "1+2", ("dot",)
)
CHANGES = {
    "ids": {"id": "rows.jsonl:2"},
    "questions": {"question": "How many, then?"},
    "answers": {"answer": "4"},
    "pictures": {"pictures": ROW.pictures[::-1]},
    "kinds": {"kind": "colour"},
    "solutions": {"solution": "2+1"},
    "facts": {"facts": ("line",)},
}


@pytest.mark.parametrize("held_out", [False, True], ids=["train", "held out"])
@pytest.mark.parametrize("part", CHANGES)
def test_every_field_of_a_row_has_its_own_fingerprint(part, held_out):
    changed = replace(ROW, **CHANGES[part])
    before = DataSet((ROW,), (ROW,))
    after = DataSet((ROW,), (changed,)) if held_out else DataSet((changed,), (ROW,))
    theirs, ours = identity.of_data(before), identity.of_data(after)
    assert [key for key in ours if ours[key] != theirs[key]] == [f"data {part}"]
    assert identity.differences(theirs, ours) == f"the data's {part}"


def test_other_rows_altogether_are_said_in_one_word():
    other = Example("x", "?", "a", ())
    theirs, ours = (identity.of_data(DataSet((row,), (row,))) for row in (ROW, other))
    assert identity.differences(theirs, ours) == "the data's rows"


def test_no_field_of_example_is_forgotten():
    changed = {field for each in CHANGES.values() for field in each}
    assert changed == vars(ROW).keys() - {"also", "options"}  # the options are the question's own


def test_another_right_answer_changes_the_answers():
    more = replace(ROW, also=("three",))
    theirs, ours = (identity.of_data(DataSet((row,), (row,))) for row in (ROW, more))
    assert identity.differences(theirs, ours) == "the data's answers"


@pytest.mark.parametrize(
    ("one", "two"),
    [(("a\nb", "c"), ("a", "b\nc")), (("a\tb", ""), ("a", "b\t")), (('a","b', "c"), ("a", 'b","c'))],
    ids=["line ends", "tabs", "quotes"],
)
def test_no_text_can_stand_for_two_rows(one, two):
    def rows(texts):
        return DataSet(tuple(replace(ROW, question=each) for each in texts), (ROW,))

    assert identity.of_data(rows(one)) != identity.of_data(rows(two))


def test_a_row_that_moves_from_training_to_held_out_rows_changes_the_data():
    other = replace(ROW, id="rows.jsonl:2")
    one, two = DataSet((ROW, other), (ROW,)), DataSet((ROW,), (other, ROW))
    assert identity.of_data(one) != identity.of_data(two)
    assert identity.contents({}, one) == identity.contents({}, two)  # all rows together are the same


SETTINGS = {
    "tokenizer": lambda folder: configure(folder, "tokenizer_config.json", model_max_length=5),
    "chat template": lambda folder: append(folder / "chat_template.jinja"),
    "picture settings": lambda folder: configure(folder, "preprocessor_config.json", image_mean=[0.1] * 3),
    "end tokens": lambda folder: configure(folder, "generation_config.json", eos_token_id=[1, 2]),
    "weights or config.json": lambda folder: configure(folder, tie_word_embeddings=None),
}


def append(file: Path) -> None:
    file.write_text(file.read_text() + " ")


@pytest.mark.parametrize("part", SETTINGS)
def test_every_file_that_decides_what_a_model_computes_has_its_fingerprint(part, tmp_path):
    folder = copied(tmp_path / "model")
    theirs = identity.of_model("student", tiny_model("student"))
    assert identity.of_model("student", folder) == theirs  # a moved copy is the same model
    SETTINGS[part](folder)
    ours = identity.of_model("student", folder)
    assert identity.differences(theirs, ours) == f"the student's {part}"


def test_a_template_inside_the_tokenizer_s_settings_is_the_template(tmp_path):
    folder = copied(tmp_path / "model")
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    configure(folder, "tokenizer_config.json", chat_template=template)
    theirs = identity.of_model("student", folder)
    configure(folder, "tokenizer_config.json", chat_template=template + " ")
    assert identity.differences(theirs, identity.of_model("student", folder)) == "the student's chat template"


@pytest.mark.parametrize(
    ("key", "named", "option"),
    [
        ("data solutions", "the data's solutions", "--data"),
        ("data pictures", "the data's pictures", "--data"),
        ("student chat template", "the student's chat template", "--student"),
        ("teacher", "the teacher's weights or config.json", "--teacher"),
    ],
)
def test_what_changed_is_named_with_the_option_that_says_where_the_right_one_is(key, named, option, tmp_path):
    run = unfinished(tmp_path / "run")
    ours = toy_runs.ready()
    with pytest.raises(Refusal) as refused:
        toy_runs.loop.run(replace(ours, identity={**ours.identity, key: "other"}), run, toy_runs.QUIET)
    said = str(refused.value)
    assert f"changed since: {named}: put it back" in said and f"{option} PATH" in said and "\n" not in said


def unfinished(folder: Path) -> Path:
    run = toy_runs.copied(finished(), folder)
    (run / run_folder.RESULT).unlink()
    shutil.rmtree(run / run_folder.FINAL)
    return run


def test_a_checkpoint_of_another_version_is_refused_as_that(tmp_path):
    """One that kept fewer fingerprints is never taken for the same."""
    run = unfinished(tmp_path / "run")
    state = json.loads((checkpoint.newest(run) / checkpoint.STATE_FILE).read_text())
    older = {key: value for key, value in state["identity"].items() if not key.startswith("data ")}
    ours = state["identity"]
    with pytest.raises(
        Refusal, match=r"another version of vgs-mlx.*no fingerprint of the data's .*that version"
    ):
        checkpoint.refuse_foreign(checkpoint.newest(run), {**older, "data": "all in one"}, ours)
    with pytest.raises(Refusal, match=r"belongs to another run: recipe seed was 0 and is 1 now"):
        checkpoint.refuse_foreign(checkpoint.newest(run), older, {**ours, "recipe seed": 1})


def test_a_reward_s_file_may_move_and_its_function_may_not_change(tmp_path):
    text = "def reward(example, text):\n    return 1.0\n\n\nother = reward\n"
    places = [tmp_path / "a.py", tmp_path / "sub" / "b.py"]
    places[1].parent.mkdir()
    for each in places:
        each.write_text(text)

    def kept(reward):
        made = replace(toy_runs.recipe("objective.name=grpo"), grpo=Grpo(reward=reward))
        data = DataSet((ROW,), (ROW,))
        model = toy_runs.ready().student
        return identity.identify(made, model, None, data)

    assert kept(f"{places[0]}:reward") == kept(f"{places[1]}:reward")
    assert kept(f"{places[0]}:reward") != kept(f"{places[0]}:other")
    places[1].write_text(text + "#\n")
    assert kept(f"{places[0]}:reward") != kept(f"{places[1]}:reward")
