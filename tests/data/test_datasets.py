"""Loading a data set: rows from JSON Lines and the built-in shapes, and bad rows reported with their line."""

import base64
import functools
import gc
import io
import json
import os
import re
import shutil
import tracemalloc

import pytest
from PIL import Image

from vgs_mlx.data import datasets, pictures, shapes
from vgs_mlx.data.datasets import Reading, load, load_held_out
from vgs_mlx.data.prompts import problem
from vgs_mlx.data.rows import Columns
from vgs_mlx.errors import Refusal
from vgs_mlx.grading import grade_example
from vgs_mlx.models.loading import load_processor
from vgs_mlx.recipe.options import Data
from vgs_mlx.resources import tiny_model


@pytest.fixture
def folder(tmp_path):
    """A data set's folder with pictures 0.png ... 9.png, each as wide as its number says, plus 1."""
    for number in range(10):
        Image.new("RGB", (number + 1, 4), "red").save(tmp_path / f"{number}.png")
    return tmp_path


def row(number=0, **changes):
    filled = {"image": f"{number}.png", "question": f"How wide is {number}?", "answer": number + 1} | changes
    return {name: value for name, value in filled.items() if value is not None}


def write(folder, rows, name="train.jsonl"):
    lines = [line if isinstance(line, str) else json.dumps(line) for line in rows]
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(folder / name)


def uri(width):
    buffer = io.BytesIO()
    Image.new("RGB", (width, 4)).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def reason_of(folder, bad):
    """Why that line is refused, after two good ones."""
    source = write(folder, [row(0), row(1), bad])
    with pytest.raises(Refusal) as caught:
        load_held_out(source)
    head, line, fix = str(caught.value).split("\n")
    assert head == f"1 of 3 rows of {source} can't be used:" and "on_bad_row=skip" in fix
    where, _, reason = line.partition(".jsonl:3: ")
    assert where == f"  {folder}/train"
    return reason


def test_rows_become_examples(folder):
    rows = [
        row(3, kind="width", solution="It is 4 wide."),
        row(
            0,
            image=None,
            images=["1.png", uri(7)],
            question=" <image>\n<image> Which? ",
            answer=" \\boxed{B} ",
        ),
        row(2, answer=2.5),
    ]
    first, second, third = load_held_out(write(folder, rows)).held_out
    assert (first.id, first.question, first.answer) == ("train.jsonl:1", "How wide is 3?", "4")
    assert (first.kind, first.solution) == ("width", "It is 4 wide.")
    assert [picture.open().width for picture in first.pictures + second.pictures] == [4, 2, 7]
    assert (second.question, second.answer, third.answer) == ("Which?", "B", "2.5")
    assert first.pictures[0].name == "3.png"


def test_a_list_of_answers_holds_several_that_are_right(folder):
    rows = [row(0, answer=["car", "\\boxed{automobile}", "car", 2]), row(1, answer=["3"])]
    first, second = load_held_out(write(folder, rows)).held_out
    assert first.answers == ("car", "automobile", "2") and second.answers == ("3",)
    assert [grade_example(rf"\boxed{{{given}}}", first).right for given in ("automobile", "2.0", "bus")] == [
        True, True, False,
    ]  # fmt: skip


def test_the_options_that_a_question_lists_are_known(folder):
    rows = [row(0, question="Which?\nA. red\nB. blue", answer="B"), row(1)]
    first, second = load_held_out(write(folder, rows)).held_out
    assert (first.options, second.options) == (("red", "blue"), ())
    assert grade_example(r"\boxed{blue}", first).right and not grade_example(r"\boxed{B. red}", first).right


def test_blank_lines_and_a_byte_order_mark_are_passed_over_and_lines_still_counted(folder):
    path = folder / "train.jsonl"
    path.write_bytes(
        b"\xef\xbb\xbf" + json.dumps(row(0)).encode() + b"\r\n\r\n  \n" + json.dumps(row(1)).encode()
    )
    assert [example.id for example in load_held_out(str(path)).held_out] == ["train.jsonl:1", "train.jsonl:4"]


def test_a_unicode_line_separator_inside_a_text_does_not_end_the_line(folder):
    path = folder / "train.jsonl"
    path.write_text(json.dumps(row(0, question="one\u2028two?"), ensure_ascii=False), encoding="utf-8")
    assert len(load_held_out(str(path)).held_out) == 1


def nested(levels):
    return [nested(levels - 1)] if levels else []


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ('{"image": "0.png", "question": ', "broken JSON"),
        ("{'image': '0.png'}", "broken JSON"),
        ('{"answer": NaN}', "broken JSON: NaN"),
        ('{"question": "a", "question": "b"}', "the key 'question' appears twice: keep one"),
        ("[" * 100_000, "broken JSON"),
        ('["0.png"]', "not a JSON object"),
        ("3", "not a JSON object"),
        (row(question=None), "empty question .*no column 'question' among answer, image"),
        (row(question=""), "empty question"),
        (row(question=" \n"), "empty question"),
        (row(question="<image>"), "empty question"),
        (row(question=["what"]), "question must be text, not a list"),
        (row(answer=None), "missing answer"),
        (row(answer=" "), "missing answer"),
        (
            row(answer=True),
            "answer must be text or a number, not true or false: write the word, such as 'yes'",
        ),
        (row(answer=[["3"]]), "answer must be text or a number, not a list"),
        (row(answer=[]), "missing answer: the list of answers is empty"),
        (row(answer=["3", None]), "missing answer"),
        (row(answer={"a": 1}), "answer must be text or a number, not an object"),
        (row(answer="{1"), r"no completion could be graded right by the answer '{1': .* braces in pairs"),
        (row(answer="3}"), "no completion could be graded right"),
        (row(answer="\\boxed{}"), "no completion could be graded right"),
        (row(answer="."), "no completion could be graded right"),
        (row(answer="\\text{ }"), "no completion could be graded right"),
        (row(options=nested(200)), "broken JSON: more than 100 levels"),
        (row(kind=[3]), "kind must be text, not a list"),
        (row(kind=True), "kind must be text, not true or false"),
        (row(image=None), r"no picture \(this row has no column 'image' or 'images' among answer, question;"),
        (row(image=""), "no picture"),
        (row(image=None, images=[]), "no picture"),
        (row(image=None, images=["0.png", None]), "no picture"),
        (row(images=["0.png"]), "both image and images"),
        (row(image=["0.png"]), "not a list: name the column images"),
        (row(image=None, images="0.png"), "images must be a list"),
        (row(image=7), "a path or a data URI"),
        (
            row(image={"bytes": "x"}),
            "a path or a data URI, not an object with bytes: write data:image/png;base64,",
        ),
        (row(image={"path": "0.png"}), 'a path or a data URI, not an object: write its path alone, "0.png"'),
        (
            row(question="See <image> here"),
            "the question holds the marker <image> at character 5: pictures come",
        ),
        (
            row(question="<image 1> See"),
            "the question holds the marker <image 1> at character 1: .*'picture 1'",
        ),
        (row(question="<image><image> See"), "the question has 2 x <image> for 1 picture"),
        (row(question="<video>What happens?"), "the marker <video> .*videos and sounds are not read"),
        (
            row(options=["red", "blue"]),
            r"does not list its options \(column 'options': red, blue\): .*ignore_columns",
        ),
        (row(A="red", B="blue"), r"does not list its options \(column 'A': red\)"),
        (
            row(question="Why \ud800 so?"),
            r"the question is not valid Unicode \(lone surrogate \\ud800 at character 5",
        ),
        (row(answer="\udfff"), r"the answer is not valid Unicode \(lone surrogate \\udfff at character 1\)"),
        (row(kind="a\0"), r"the kind holds a NUL \(at character 2\)"),
        (row(solution="\ud83d!"), r"the solution is not valid Unicode \(lone surrogate \\ud83d"),
        (row(image="gone.png"), "picture gone.png: no such file"),
        (row(image="train.jsonl"), "picture train.jsonl: not a picture"),
        (row(image="."), "not a file"),
        (row(image="../0.png"), "leaves the data set's folder .*allow_outside"),
        (row(image="/etc/hostname"), "leaves the data set's folder"),
        (row(image="http://example.org/0.png"), "web address"),
        (row(image="data:image/png;base64,AAAA"), "not a picture"),
    ],
)
def test_a_bad_row_is_refused_with_its_line_and_reason(folder, bad, reason):
    assert re.match(f".*({reason})", reason_of(folder, bad))


def test_a_whole_number_too_large_for_a_float_is_an_answer(folder):
    [example] = load_held_out(write(folder, [row(answer=10**400)])).held_out
    assert example.answer == "1" + 400 * "0"


@pytest.mark.parametrize("answer", ["{1, 2}", "\\{1", "[1, 2)", "\\frac{1}{2}", "x" * 2_000, "3."])
def test_an_answer_that_a_completion_may_give_is_taken(folder, answer):
    assert load_held_out(write(folder, [row(answer=answer)])).held_out[0].answer == answer


TURNS = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "This."}]


@pytest.mark.parametrize(
    "talk",
    [{"messages": TURNS}, {"conversations": TURNS, "id": "7"}, {"prompt": TURNS, "images": ["0.png"]}],
    ids=list,
)
def test_a_conversation_is_called_one_and_columns_cannot_map_it(folder, talk):
    column = next(name for name in talk if name in ("messages", "conversations", "prompt"))
    said = reason_of(folder, talk)
    assert f"the column '{column}' holds a conversation, and these are not read yet: write the user's" in said
    assert "data.columns" not in said
    with pytest.raises(Refusal, match=f"the column '{column}' holds a conversation"):
        load_held_out(write(folder, [talk]), Reading(Columns({"question": column})))


def test_options_that_the_question_lists_or_that_are_ignored_change_nothing(folder):
    listed = row(question="Which?\nA. red\nB. blue", options=["red", "blue"], answer="A")
    free = row(options=None, choices=[])
    assert len(load_held_out(write(folder, [listed, free])).held_out) == 2
    source = write(folder, [row(choices=["red", "blue"])])
    assert len(load_held_out(source, Reading(Columns(ignored=["choices"]))).held_out) == 1


@pytest.mark.parametrize("answer", [1, "0"])
def test_an_answer_that_counts_the_options_is_refused(folder, answer):
    question, colours = "Which?\nA. red\nB. blue", ["red", "blue"]
    said = reason_of(folder, row(question=question, options=colours, answer=answer))
    assert (
        f"the answer {answer} is in none of the options (column 'options': red, blue): if it counts" in said
    )
    for good in ("A", "blue", "B. blue"):
        rows = [row(question=question, options=colours, answer=good)]
        assert len(load_held_out(write(folder, rows)).held_out) == 1
    numbers = row(question="How many: 1 cm, 2 cm or 3 cm?", options=["1 cm", "2 cm", "3 cm"], answer=2)
    counted = row(question=question, options=colours, answer=answer)
    assert len(load_held_out(write(folder, [numbers])).held_out) == 1
    assert len(load_held_out(write(folder, [counted]), Reading(Columns(ignored=["options"]))).held_out) == 1


def test_a_column_of_ours_may_be_ignored_too(folder):
    source = write(folder, [row(0, images=["1.png", "2.png"], kind="k", solution="s")])
    found = load_held_out(source, Reading(Columns(ignored=["images", "kind"]))).held_out[0]
    assert (found.pictures[0].name, found.kind, found.solution) == ("0.png", "", "s")


def test_columns_that_nothing_reads_are_known_once(folder):
    source = write(folder, [row(0, id=1, hint="no"), row(1, id=2, source="x"), "{", row(2)])
    found = load(source, held_out=0.5, how=Reading(Columns(ignored=["id"]), on_bad_row="skip"))
    assert found.unread == ("hint", "source")
    other = write(folder, [row(3, note="n", hint="h")], "held.jsonl")
    both = load(source, held_out=other, how=Reading(on_bad_row="skip"))
    assert both.unread == ("id", "hint", "source", "note")
    assert load_held_out(write(folder, [row(0)])).unread == ()


@pytest.mark.parametrize(("kind", "text"), [(3, "3"), (2.5, "2.5"), (None, ""), (" a ", "a")])
def test_a_kind_may_be_a_number(folder, kind, text):
    assert load_held_out(write(folder, [row(kind=kind)])).held_out[0].kind == text


def test_text_that_is_not_utf8_is_a_bad_row(folder):
    path = folder / "train.jsonl"
    path.write_bytes(json.dumps(row()).encode() + b'\n{"question": "\xff"}\n')
    with pytest.raises(Refusal, match=r"train.jsonl:2: not UTF-8 \(byte 15"):
        load_held_out(str(path))


def test_a_picture_outside_the_folder_is_read_where_that_is_allowed(folder):
    inner = folder / "inner"
    inner.mkdir()
    source = write(inner, [row(image="../4.png")])
    assert load_held_out(source, Reading(allow_outside=True)).held_out[0].pictures[0].open().width == 5
    with pytest.raises(Refusal, match="leaves"):
        load_held_out(source)


def test_the_first_twenty_bad_rows_are_listed_and_the_rest_counted(folder):
    source = write(folder, [row(0)] + [row(image=f"gone{n}.png") for n in range(25)])
    with pytest.raises(Refusal) as caught:
        load(source, held_out=0.5)
    lines = str(caught.value).split("\n")
    assert lines[0].startswith("25 of 26 rows") and len(lines) == 23
    assert lines[1].endswith("train.jsonl:2: picture gone0.png: no such file")
    assert lines[21] == "  ... and 5 more"


def test_skipping_keeps_the_good_rows_and_says_which_were_skipped(folder):
    source = write(folder, [row(0), "oops", row(2), row(image="gone.png"), row(4)])
    data = load(source, held_out=0.34, how=Reading(on_bad_row="skip"))
    assert sorted(example.id for example in data.train + data.held_out) == [
        f"train.jsonl:{n}" for n in (1, 3, 5)
    ]
    assert [bad.where for bad in data.skipped] == [f"{source}:2", f"{source}:4"]
    assert data.skipped[1].reason == "picture gone.png: no such file"


def test_bad_rows_of_training_and_held_out_rows_are_reported_together(folder):
    source, other = write(folder, [row(0), "x"]), write(folder, ["y", row(1)], "held.jsonl")
    with pytest.raises(Refusal, match=r"2 of 4 rows .*\n.*train.jsonl:2: .*\n.*held.jsonl:1: "):
        load(source, held_out=other)
    assert len(load(source, held_out=other, how=Reading(on_bad_row="skip")).skipped) == 2


def test_the_callers_check_is_a_reason_like_any_other(folder):
    source = write(folder, [row(n) for n in range(4)])

    def check(example):
        return "prompt too long: 9 tokens" if example.answer == "3" else None

    with pytest.raises(Refusal, match=r"train.jsonl:3: prompt too long: 9 tokens"):
        load(source, held_out=0.5, how=Reading(check=check))
    data = load(source, held_out=0.5, how=Reading(on_bad_row="skip", check=check))
    assert len(data.train + data.held_out) == 3 and len(data.skipped) == 1


def test_progress_counts_every_row(folder):
    seen = []
    load_held_out(
        write(folder, [row(0), "x", row(2)]),
        Reading(on_bad_row="skip", progress=lambda *counts: seen.append(counts)),
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("lines", [[], ["", "  "]])
def test_an_empty_data_set_is_refused(folder, lines):
    with pytest.raises(Refusal, match="is empty: it has no rows"):
        load(write(folder, lines), held_out=0.1)


def test_a_data_set_without_a_usable_row_is_refused(folder):
    with pytest.raises(
        Refusal, match=r"is empty: all 2 rows were skipped, the first being .*:1: broken JSON"
    ):
        load(write(folder, ["x", "y"]), held_out=0.1, how=Reading(on_bad_row="skip"))


@pytest.mark.parametrize(("fraction", "held_out"), [(0.3, 3), ("0.3", 3), (0.001, 1), (0.999, 9)])
def test_a_fraction_is_cut_off_disjoint_and_never_empty(folder, fraction, held_out):
    source = write(folder, [row(n) for n in range(10)])
    data = load(source, held_out=fraction)
    train, cut = ({example.id for example in part} for part in (data.train, data.held_out))
    assert len(cut) == held_out and not train & cut and len(train | cut) == 10


def test_the_cut_depends_on_the_seed_alone(folder):
    source = write(folder, [row(n) for n in range(10)])

    def cut(seed):
        return [example.id for example in load(source, held_out=0.5, seed=seed).held_out]

    assert cut(1) == cut(1)
    assert len({tuple(cut(seed)) for seed in range(4)}) > 1


@pytest.mark.parametrize("on_bad_row", ["fail", "skip"])
@pytest.mark.parametrize("held_out", ["held.jsonl", 0.5])
def test_the_first_held_out_rows_are_those_of_the_whole_and_no_other_picture_is_opened(
    folder, monkeypatch, on_bad_row, held_out
):
    bad = [row(0, image="gone.png")] if on_bad_row == "skip" else []
    source = write(folder, [*bad, *[row(n) for n in range(10)]])
    write(folder, [*bad, *[row(n) for n in range(9, -1, -1)]], "held.jsonl")
    given = {"held_out": str(folder / held_out) if isinstance(held_out, str) else held_out,
             "how": Reading(on_bad_row=on_bad_row), "seed": 3}  # fmt: skip
    whole = load(source, **given).held_out
    made = []
    real = datasets._make
    monkeypatch.setattr(datasets, "_make", lambda row, **rest: made.append(row) or real(row, **rest))
    first = datasets.first_held_out(source, 3, **given)
    assert [each.id for each in first] == [each.id for each in whole[:3]]
    everything = on_bad_row == "skip" and held_out == 0.5  # the cut needs to know the bad rows
    assert len(made) == (11 if everything else 3 + len(bad))
    assert len(datasets.first_held_out(source, 99, **given)) == len(whole)


@pytest.fixture
def decoded(monkeypatch):
    """The names of the pictures that were decoded, in order."""
    names, real = [], pictures._decode
    monkeypatch.setattr(pictures, "_decode", lambda data, name: names.append(name) or real(data, name))
    return names


def test_loading_decodes_each_picture_once_though_its_row_is_checked(folder, decoded):
    processor = load_processor(tiny_model("student"), "--student")
    source = write(folder, [*[row(n) for n in range(8)], row(0, image=None, images=["8.png", "9.png"])])
    settings = Data(system_prompt="", max_pixels=None, max_prompt_length=500)
    check = functools.partial(problem, processor, settings=settings)
    data = load(source, held_out=0.5, how=Reading(check=check))
    assert sorted(decoded) == [f"{n}.png" for n in range(10)]
    sizes = {
        picture.name: picture.size for example in data.train + data.held_out for picture in example.pictures
    }
    assert sizes == {f"{n}.png": (n + 1, 4) for n in range(10)}


def test_bytes_that_many_rows_show_are_decoded_once(folder, decoded, monkeypatch):
    monkeypatch.setattr(
        datasets.os, "cpu_count", lambda: 1
    )  # two threads may meet the same bytes at one moment
    shutil.copy(folder / "3.png", folder / "copy.png")
    source = write(
        folder, [row(3), row(3), row(3, image="copy.png"), row(3, image=uri(7)), row(1, image=uri(7))]
    )
    assert [each.pictures[0].size for each in load_held_out(source).held_out] == [(4, 4)] * 3 + [(7, 4)] * 2
    assert len(decoded) == 2


def test_a_noted_size_is_that_of_the_upright_picture(folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (9, 4)).save(folder / "turned.jpg", exif=exif)
    [example] = load_held_out(write(folder, [row(0, image="turned.jpg")])).held_out
    assert example.pictures[0].size == example.pictures[0].open().size == (4, 9)


def test_no_picture_s_pixels_or_bytes_stay_in_memory(folder):
    for number in range(10):
        Image.effect_noise((1000, 1000), 50).save(folder / f"{number}.png")
    tracemalloc.start()
    data = load_held_out(write(folder, [row(n) for n in range(10)]))
    assert len(data.held_out) == 10 and tracemalloc.get_traced_memory()[0] < 300_000  # of 10 MB
    tracemalloc.stop()
    images = [each for each in gc.get_objects() if issubclass(type(each), Image.Image)]
    assert not [image for image in images if image.size == (1000, 1000)]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda file: Image.new("RGB", (3, 4), "blue").save(file), "picture 2.png: its bytes have changed"),
        (lambda file: file.unlink(), "picture 2.png: no such file"),
    ],
)
def test_a_picture_that_changes_after_its_row_was_checked_is_refused_when_it_is_opened(
    folder, change, reason
):
    [example] = load_held_out(source := write(folder, [row(2)])).held_out
    assert example.pictures[0].open().size == (3, 4)
    change(folder / "2.png")
    with pytest.raises(pictures.Changed, match=f"{reason}.* since its row was checked \\({source}:1\\)"):
        example.pictures[0].open()


def test_the_first_held_out_shapes_are_those_of_the_whole_and_bad_rows_are_refused(folder):
    found = datasets.first_held_out("shapes", 2, held_out=0.1)
    assert [each.id for each in found] == ["shapes/held_out/0", "shapes/held_out/1"]
    source, held_out = write(folder, [row(0)]), write(folder, [row(1), "x"], "held.jsonl")
    assert len(datasets.first_held_out(source, 1, held_out=held_out)) == 1
    with pytest.raises(Refusal, match=r"held.jsonl:2: broken JSON"):
        datasets.first_held_out(source, 2, held_out=held_out)


def test_one_row_cannot_be_divided(folder):
    with pytest.raises(Refusal, match="one row"):
        load(write(folder, [row(0)]), held_out=0.5)


def test_held_out_rows_may_stand_in_a_file_of_their_own(folder):
    data = load(write(folder, [row(0)]), held_out=write(folder, [row(1)], "held.jsonl"))
    assert [example.id for example in data.train + data.held_out] == ["train.jsonl:1", "held.jsonl:1"]


def test_measuring_on_the_training_file_is_refused(folder):
    source = write(folder, [row(0)])
    (folder / "same.jsonl").symlink_to(source)
    for held_out in (source, str(folder / "same.jsonl")):
        with pytest.raises(Refusal, match="the rows to train on"):
            load(source, held_out=held_out)


@pytest.mark.parametrize("held_out", [0, 1, 1.5, -0.1, "nan", "inf", "2"])
def test_an_impossible_fraction_is_refused(folder, held_out):
    with pytest.raises(Refusal, match="must be a fraction between 0 and 1, a split or"):
        load(write(folder, [row(0), row(1)]), held_out=held_out)


def test_columns_map_our_names_to_theirs(folder):
    source = write(folder, [{"picture": "5.png", "problem": "Wide?", "label": "6", "type": "w"}])
    columns = {"image": "picture", "question": "problem", "answer": "label", "kind": "type"}
    example = load_held_out(source, Reading(Columns(columns))).held_out[0]
    assert (example.question, example.answer, example.kind) == ("Wide?", "6", "w")
    with pytest.raises(Refusal, match="did you mean question"):
        load_held_out(source, Reading(Columns({"qestion": "problem"})))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("gone.jsonl", "data file gone.jsonl: No such file"),
        ("no such thing", "no data set 'no such thing': tried"),
        ("", "no data set ''"),
        ("shapes:x", "no data set 'shapes:x'"),
        ("shapes:0", "data set shapes:0 is empty"),
        ("a:b:c:d", "no data set"),
        ("/nonexistent/folder/of/data", "no data set"),
    ],
)
def test_a_source_that_is_nothing_is_one_clear_line(source, message):
    with pytest.raises(Refusal, match=message) as caught:
        load(source, held_out=0.1)
    assert "\n" not in str(caught.value)


def test_another_kind_of_file_is_refused_with_what_works(folder):
    with pytest.raises(Refusal, match=r"not a .jsonl file: write one JSON object a line"):
        load(str(folder / "0.png"), held_out=0.1)
    for name in ("one.parquet", "data.json", "table.csv"):
        (folder / name).write_text("x")
        with pytest.raises(
            Refusal, match=rf"data file .*{name}: not a .jsonl file: give a folder that holds noth"
        ):
            load(str(folder / name), held_out=0.1)


def test_the_first_rows_of_a_source_are_read_alone(folder):
    source = write(folder, [row(0), row(1), *[row(image="gone.png")] * 8])
    assert [each.answer for each in load_held_out(source, limit=2).held_out] == ["1", "2"]
    with pytest.raises(Refusal, match=r"1 of 3 rows .*\n.*train.jsonl:3: picture gone.png"):
        load_held_out(source, limit=3)
    skipping = write(folder, [row(0), "{", row(1), row(image="gone.png"), row(2), "{"])
    found = load_held_out(skipping, Reading(on_bad_row="skip"), limit=3)
    assert [each.answer for each in found.held_out] == ["1", "2", "3"] and len(found.skipped) == 2
    assert len(load_held_out("shapes:9", limit=4).held_out) == 4


@pytest.mark.parametrize("source", ["train.jsonl", "shapes:8"])
def test_a_bare_word_is_a_split_and_a_file_has_none(folder, source, monkeypatch):
    monkeypatch.chdir(folder)
    write(folder, [row(0), row(1)])
    (folder / "test").mkdir()
    with pytest.raises(
        Refusal, match=rf"data.held_out test: a bare word is a split, and {source} has none: write \./"
    ):
        load(source, held_out="test")


def test_shapes_are_held_out_by_their_own_split(monkeypatch):
    monkeypatch.setattr(datasets, "SHAPES_ROWS", {"train": 5, "held_out": 3})
    for seed in (0, 1):
        data = load("shapes", held_out=0.02, seed=seed)
        assert [example.id for example in data.train] == [
            example.id for example in shapes.examples("train", 5)
        ]
        assert [e.id for e in data.held_out] == [e.id for e in shapes.examples("held_out", 3)]
    assert len(load_held_out("shapes").held_out) == 3


def test_shapes_come_in_the_numbers_asked_for(folder):
    data = load("shapes:7", held_out="4")
    assert (len(data.train), len(data.held_out)) == (7, 4)
    assert len(load("shapes:7", held_out=2.0).held_out) == 2
    assert len(load_held_out("shapes:6").held_out) == 6
    mixed = load(write(folder, [row(0)]), held_out="shapes:2")
    assert [example.id for example in mixed.held_out] == ["shapes/held_out/0", "shapes/held_out/1"]
    for impossible in (0, 2.5, -1):
        with pytest.raises(Refusal, match="a whole number"):
            load("shapes:7", held_out=impossible)


def test_by_default_shapes_hold_out_two_thousand_rows():
    assert datasets.SHAPES_ROWS == {"train": 20_000, "held_out": 2_000}


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "rows.jsonl")
    with pytest.raises(Refusal, match=r"rows\.jsonl: not a file: give a \.jsonl file that is there"):
        load_held_out(str(tmp_path / "rows.jsonl"))
