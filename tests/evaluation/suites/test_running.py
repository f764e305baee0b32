"""A suite is asked, interrupted, asked again and compared; the data are made here, as folders of the Hub's names."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from toy_runs import ROOT, command, finished
from vgs_mlx.commands import suite as running
from vgs_mlx.evaluation import evaluate
from vgs_mlx.evaluation.evaluate import Answer, AnswerSettings
from vgs_mlx.evaluation.statistics import mcnemar, paired_bootstrap
from vgs_mlx.evaluation.suites import answers, chosen, tables
from vgs_mlx.evaluation.suites.benchmark import TEXT_SYSTEM_PROMPT
from vgs_mlx.evaluation.suites.rows import items
from vgs_mlx.models.loading import load_model
from vgs_mlx.recipe.options import SYSTEM_PROMPT, Data
from vgs_mlx.resources import tiny_model
from vgs_mlx.rollout.sample import Sampling
from vgs_mlx.types import Example

hf = pytest.importorskip("datasets")
ROWS = 9
SHORT = ("--set", "rollout.max_completion_length=6", "--set", "data.system_prompt=''")
STUDENT, TEACHER = str(tiny_model("student")), str(tiny_model("teacher"))
[AIME] = chosen("aime25")


def store_aime(count=ROWS):
    """AIME25 in the working folder, `count` made-up rows of it."""
    numbers = range(count)
    rows = {"problem": [f"What is ${n}+{n}$?" for n in numbers], "answer": [str(2 * n) for n in numbers]}
    table = hf.Dataset.from_dict({**rows, "id": list(map(str, numbers))})
    hf.DatasetDict(test=table).save_to_disk("math-ai/aime25")


def store_blind(*colours, where="XAI/vlmsareblind"):
    """VlmsAreBlind in the working folder, three made-up rows of it, the last of them empty."""
    seen = {
        "task": ["Touching Circles"] * 3,
        "image": [Image.new("RGB", (64, 64), colour) for colour in colours or ["red"] * 3],
        "prompt": ["Do they touch?", "And these?", ""], "groundtruth": ["Yes", "No", "No"],
    }  # fmt: skip
    features = hf.Features(
        task=hf.Value("string"), image=hf.Image(), prompt=hf.Value("string"), groundtruth=hf.Value("string")
    )
    hf.DatasetDict(valid=hf.Dataset.from_dict(seen, features=features)).save_to_disk(where)


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A working folder with AIME25 and VlmsAreBlind."""
    hf.disable_progress_bars()
    monkeypatch.chdir(tmp_path)
    store_aime()
    store_blind()
    return tmp_path


@pytest.fixture(scope="module")
def student():
    return load_model(STUDENT, "MODEL", say=lambda _: None)


@pytest.fixture
def asked(monkeypatch):
    """The rows that the model is asked, in batches, as they are asked."""
    batches = []
    real = evaluate.answer

    def answer(model, examples, how, *, numbers, **options):
        batches.append(list(numbers))
        return real(model, examples, how, numbers=numbers, **options)

    monkeypatch.setattr(evaluate, "answer", answer)
    return batches


def how(batch=4, samples=1, temperature=0.0, prompt="", with_image=True):
    sampling = Sampling(6, temperature=temperature)
    return AnswerSettings(Data(system_prompt=prompt), sampling, batch, samples, with_image)


def completions(lines):
    return {line["row"]: line["completions"] for line in lines}


def line(row, rights, kind="", asked="q"):
    """A stored row with answers of 1 and 0: right and wrong."""
    example = Example(f"d:test:{row}", "?", "1", (), kind=kind)
    row_of = [Answer(example, rf"\boxed{{{each}}}", each == "1", True, 3, None) for each in rights]
    return answers.to_line(row, asked, row_of)


# --- asking


def test_rows_already_answered_are_not_asked_again(student, asked, place):
    first, _ = running.ask(student, AIME, place / "a.jsonl", how(), limit=5)
    assert [len(batch) for batch in asked] == [4, 1] and len(first) == 5
    asked.clear()
    again, _ = running.ask(student, AIME, place / "a.jsonl", how(), limit=5)
    assert asked == [] and again == first
    more, _ = running.ask(student, AIME, place / "a.jsonl", how())
    assert sum(map(len, asked)) == ROWS - 5 and [each["row"] for each in more] == list(range(ROWS))
    assert [each for each in more if each in first] == first


@pytest.mark.parametrize(("samples", "temperature"), [(1, 0.0), (2, 1.0)])
def test_answers_do_not_depend_on_interruptions_or_batches(student, place, samples, temperature):
    whole = running.ask(student, AIME, place / "whole.jsonl", how(8, samples, temperature))[0]
    running.ask(student, AIME, place / "parts.jsonl", how(2, samples, temperature), limit=3)
    parts = running.ask(student, AIME, place / "parts.jsonl", how(4, samples, temperature))[0]
    assert completions(parts) == completions(whole)
    assert samples == 1 or len({text for row in whole for text in row["completions"]}) > ROWS


def test_a_question_that_has_changed_is_asked_again(student, asked, place):
    running.ask(student, AIME, place / "a.jsonl", how(), limit=3)
    asked.clear()
    table = hf.load_from_disk("math-ai/aime25")["test"].map(lambda row: {"answer": row["answer"] + "0"})
    hf.DatasetDict(test=table).save_to_disk("other/aime25")
    os.rename("math-ai/aime25", "math-ai/old")
    os.rename("other/aime25", "math-ai/aime25")
    changed, _ = running.ask(student, AIME, place / "a.jsonl", how(), limit=3)
    assert sum(map(len, asked)) == 3 and all(each["answer"].endswith("0") for each in changed)
    assert len(answers.read(place / "a.jsonl", AIME.grade)) == 3, "the latest answer counts"


def test_a_question_whose_picture_has_changed_is_asked_again(student, asked, place):
    [blind] = chosen("vlmsareblind")
    first, _ = running.ask(student, blind, place / "b.jsonl", how())
    asked.clear()
    assert running.ask(student, blind, place / "b.jsonl", how())[0] == first and asked == []
    store_blind("red", "blue", "red", where="other")
    os.rename("XAI/vlmsareblind", "old")
    os.rename("other", "XAI/vlmsareblind")
    running.ask(student, blind, place / "b.jsonl", how())
    assert asked == [[1]]


def test_stored_answers_are_graded_as_the_program_grades_today(student, asked, place, monkeypatch):
    """A verdict that is stored is of the version that stored it; the tables must compare models."""
    stored, _ = running.ask(student, AIME, place / "here.jsonl", how())
    wrong = [{**each, "right": [True]} for each in stored]
    answers.append(place / "here.jsonl", wrong)
    asked.clear()
    lines, _ = running.ask(student, AIME, place / "here.jsonl", how())
    assert asked == [] and lines == stored and not any(each["right"][0] for each in lines)
    answers.append(place / "aime25.jsonl", wrong)
    found = tables.results({"aime25": lines}, {"aime25": []}, place)["benchmarks"]["aime25"]
    assert found["accuracy"] == found["against"]["there"] == 0


def test_bad_rows_are_left_out_and_told(student, place):
    lines, bad = running.ask(student, chosen("vlmsareblind")[0], place / "b.jsonl", how())
    assert [each["row"] for each in lines] == [0, 1]
    assert [str(each) for each in bad] == [
        "XAI/vlmsareblind:valid:2: a question or answer that is empty or not text"
    ]


def test_rows_without_pictures_are_asked_without_speaking_of_one(student, asked, place, monkeypatch):
    """The default system prompt; a prompt of one's own stays as it is."""
    prompts = []
    real = evaluate.render
    monkeypatch.setattr(
        evaluate, "render", lambda *asked: prompts.append(asked[2].system_prompt) or real(*asked)
    )
    running.ask(student, AIME, place / "a.jsonl", how(prompt=SYSTEM_PROMPT), limit=1)
    running.ask(student, AIME, place / "b.jsonl", how(prompt="Look at the picture!"), limit=1)
    running.ask(student, chosen("vlmsareblind")[0], place / "c.jsonl", how(prompt=SYSTEM_PROMPT), limit=1)
    assert prompts == [TEXT_SYSTEM_PROMPT, "Look at the picture!", SYSTEM_PROMPT]


def test_rows_with_and_without_pictures_are_sampled_together_as_alone(student, place):
    """A text-only row in one batch with one that has a picture."""
    rows = [each for benchmark in (AIME, chosen("vlmsareblind")[0]) for each in items(benchmark)]
    examples = [each.example() for each in rows if each.number == 0]
    assert [len(each.pictures) for each in examples] == [0, 1]
    how = AnswerSettings(Data(system_prompt=""), Sampling(8, temperature=0.0), batch_size=2)
    together = evaluate.answer(student, examples, how)
    alone = evaluate.answer(student, examples, replace(how, batch_size=1))
    assert [row[0].completion for row in together] == [row[0].completion for row in alone]
    blind = evaluate.answer(student, examples[:1], replace(how, with_image=False))
    assert blind[0][0].completion == alone[0][0].completion, "both views of such a row are the same"


# --- the folder


def test_what_a_kill_cut_in_half_is_no_answer(place):
    file = place / "a.jsonl"
    answers.append(file, [line(0, "1"), line(1, "0")])
    whole = file.read_bytes()
    file.write_bytes(whole[:-20])
    assert list(answers.read(file, AIME.grade)) == [0]
    answers.append(file, [line(1, "0")])
    assert file.read_bytes() == whole


def test_a_damaged_line_is_refused_with_its_place(place):
    whole = json.dumps(line(1, "1"))
    for damaged in (
        whole[:20],
        *(json.dumps(line(1, "1") | each) for each in ({"row": []}, {"completions": [3]})),
    ):
        (place / "a.jsonl").write_text(f"{whole}\n{damaged}\n{whole}\n")
        with pytest.raises(running.Refusal, match=r"a\.jsonl:2: not an answer that can be read"):
            answers.read(place / "a.jsonl", AIME.grade)


def test_a_row_is_stored_as_it_was():
    stored = json.loads(json.dumps(line(3, "10", kind="k")))
    back = answers.from_line(stored)
    assert [each.right for each in back] == [True, False] and back[0].example.kind == "k"
    assert answers.to_line(3, "q", back) == stored


def test_a_folder_is_of_one_model_asked_in_one_way(place):
    settings = {"model": "a", "seed": 0, "temperature": 0.0}
    answers.open_folder(place / "new/folder", "M", settings)
    answers.open_folder(place / "new/folder", "M", settings)
    for key, value in (("model", "b"), ("seed", 1), ("temperature", 1.0)):
        with pytest.raises(running.Refusal, match=f"given with another {key}"):
            answers.open_folder(place / "new/folder", "M", {**settings, key: value})
    with pytest.raises(running.Refusal, match="not a folder of a suite's answers"):
        answers.open_folder(place, "M", settings)
    assert answers.default_folder("a/b c", settings) == answers.default_folder("a/b c", dict(settings))
    assert answers.default_folder("m", settings) != answers.default_folder("m", {**settings, "seed": 1})


# --- figures


def test_differences_are_paired_by_row_whatever_the_order(place):
    here, there = "110110111", "100110001"
    rows = [line(n, each) for n, each in enumerate(here)]
    answers.append(place / "aime25.jsonl", [line(n, each) for n, each in reversed(list(enumerate(there)))])
    found = tables.results({"aime25": rows}, {"aime25": []}, place)["benchmarks"]["aime25"]
    left, right = (np.array(list(map(int, each))) for each in (here, there))
    interval = paired_bootstrap(left, right)
    assert found["accuracy"] == pytest.approx(7 / 9) and found["prompts"] == 9
    difference = found["against"]
    assert (difference["mean"], difference["low"], difference["high"]) == interval
    assert difference["mcnemar_p"] == mcnemar(left, right) == 0.25
    assert (difference["rows"], difference["here"], difference["there"]) == (9, left.mean(), right.mean())


def test_only_rows_that_both_were_asked_are_compared(place):
    answers.append(place / "aime25.jsonl", [line(0, "0"), line(1, "0", asked="other words"), line(7, "0")])
    rows = [line(n, "1") for n in range(4)]
    found = tables.results({"aime25": rows, "math500": rows}, {"aime25": [], "math500": []}, place)[
        "benchmarks"
    ]
    assert found["aime25"]["against"]["rows"] == 1 and found["aime25"]["prompts"] == 4
    assert found["math500"]["against"] is None


def test_several_samples_are_compared_by_their_means_without_mcnemar(place):
    answers.append(place / "aime25.jsonl", [line(0, "00"), line(1, "10")])
    found = tables.results({"aime25": [line(0, "10"), line(1, "11")]}, {"aime25": []}, place)
    difference = found["benchmarks"]["aime25"]["against"]
    assert difference["mean"] == 0.5 and difference["mcnemar_p"] is None


def test_a_suite_asked_in_whole_has_its_average_each_benchmark_counting_once(place):
    lines = {each.name: [line(n, "1") for n in range(2)] for each in chosen("text")}
    lines["aime25"] = [line(n, "0") for n in range(40)]
    for name, rows in lines.items():
        answers.append(place / f"{name}.jsonl", [line(each["row"], "0") for each in rows])
    found = tables.results(lines, {name: [] for name in lines}, place)
    average = found["averages"]["text"]
    assert average["accuracy"] == pytest.approx(2 / 3) and average["against"]["mean"] == pytest.approx(2 / 3)
    assert average["against"]["rows"] == 44 and "vision" not in found["averages"]
    del lines["aime25"]
    assert tables.results(lines, {name: [] for name in lines}, None)["averages"] == {}


def test_the_tables_show_the_figures(place):
    answers.append(place / "aime25.jsonl", [line(n, each) for n, each in enumerate("1000000000")])
    rows = [line(n, each) for n, each in enumerate("1111110000")]
    found = tables.results({"aime25": rows}, {"aime25": ["bad"]}, place)
    settings = {"samples": 1, "temperature": 0.0, "with_image": True, "seed": 0}
    shown = io.StringIO()
    console = Console(file=shown, width=120)
    other = {"model": "before[x]", "settings": {**settings, "seed": 1}}
    tables.show({"model": "after[y]", "settings": settings, **found}, console, place, other)
    text = " ".join(shown.getvalue().split())
    assert "after[y]: greedy (Acc@1)" in text and "difference from before[x]" in text
    assert "aime25 10 0.600 0.313-0.832 0.0% 1" in text
    assert "not asked with the same settings: seed differ" in text
    assert "aime25 10 0.100 0.600 +0.500 +0.200 to +0.800 0.0625" in text


# --- the command


def test_before_and_after_with_one_command_each(place):
    before = command("evaluate", STUDENT, "--suite", "aime25", "--output", "before", *SHORT)
    assert before.exit_code == 0, before.output
    options = ("--against", "before", "--json", "after.json", *SHORT)
    after = command("evaluate", TEACHER, "--suite", "aime25", *options)
    assert after.exit_code == 0, after.output
    assert "greedy (Acc@1)" in after.stdout and "McNemar p" in after.stdout
    found = json.loads((place / "after.json").read_text())
    assert found["benchmarks"]["aime25"]["against"]["rows"] == ROWS
    [folder] = (place / "suites").iterdir()
    assert json.loads((folder / "results-aime25.json").read_text()) == found
    prompt = ("--set", "data.system_prompt=Think.", "--set", "rollout.max_completion_length=6")
    other = command("evaluate", TEACHER, "--suite", "aime25", "--against", "before", "--limit", 2, *prompt)
    assert "not asked with the same settings: system_prompt, text_system_prompt differ" in other.stdout
    assert "aime25 2 0.000" in " ".join(other.stdout.split("difference from ")[1].split()), (
        "compared all the same"
    )
    refused = command("evaluate", TEACHER, "--suite", "aime25", "--output", "before", *SHORT)
    assert refused.exit_code == 2 and "given with another model" in refused.stderr


def test_a_run_is_asked_with_its_trained_weights(place):
    for each in (finished(), STUDENT):
        done = command("evaluate", each, "--suite", "aime25", "--limit", 2, *SHORT)
        assert done.exit_code == 0, done.output
    settings = [answers.settings_of(folder)["settings"] for folder in (place / "suites").iterdir()]
    assert len({each["model"] for each in settings}) == 2


def test_what_cannot_be_loaded_is_told_and_the_rest_is_asked(place, monkeypatch):
    monkeypatch.setattr(running, "chosen", lambda _: (chosen("math500")[0], AIME))
    monkeypatch.setattr(hf, "load_dataset", lambda *_: (_ for _ in ()).throw(ConnectionError("no network")))
    done = command("evaluate", STUDENT, "--suite", "text", "--limit", 2, "--output", "out", *SHORT)
    assert (
        done.exit_code == 2 and "math500: data set HuggingFaceH4/MATH-500:test can't be loaded" in done.stdout
    )
    assert done.stderr == "vgs-mlx: not asked, for the reasons above: math500\n"
    assert json.loads((place / "out/results-text.json").read_text())["benchmarks"]["aime25"]["prompts"] == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--suite", "visoin"), "--suite visoin: no suite or benchmark of that name; did you mean vision?"),
        (("--suite", "text", "--data", "shapes"), "--data and --suite exclude each other"),
        (("--against", "x"), "--output and --against belong to --suite"),
        (("--suite", "text", "--against", "nowhere"), "nowhere: not a folder of a suite's answers"),
        (("--suite", "text", "--samples", "4"), "--samples needs a --temperature above 0"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_a_model_is_loaded(options, said, place):
    refused = command("evaluate", "no-model", *options)
    assert refused.exit_code == 2
    assert said in refused.stderr and len(refused.stderr.splitlines()) == 1
    assert not (place / "suites").exists()


def test_a_killed_command_goes_on_where_it_was(place):
    many = 60  # so that the kill comes before the last
    store_aime(many)
    arguments = ["evaluate", STUDENT, "--suite", "aime25", *SHORT, "--set", "rollout.batch_size=1"]
    code = "import sys; from vgs_mlx.cli import main; main(sys.argv[1:])"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    file = place / "killed/aime25.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments, "--output", "killed"],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    end = time.monotonic() + 200
    while not (file.exists() and file.stat().st_size) and time.monotonic() < end and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = file.read_bytes().rpartition(b"\n")[0]
    done = kept.count(b"\n") + 1
    assert 0 < done < many, "killed too late to show anything"
    arguments = arguments[:-2]  # in larger batches: quicker
    again = command(*arguments, "--output", "killed")
    assert again.exit_code == 0, again.output
    assert file.read_bytes().startswith(kept) and file.read_bytes().count(b"\n") == many
    command(*arguments, "--output", "whole")
    assert file.read_bytes() == (place / "whole/aime25.jsonl").read_bytes()
