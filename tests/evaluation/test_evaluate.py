"""The figures of an evaluation are those of its answers, and the answers don't depend on how they are batched."""

import io
import json
import math
import re
import shutil

import numpy as np
import pytest
from rich.console import Console

from toy_runs import command, copied, finished
from vgs_mlx import device
from vgs_mlx.commands import evaluate as evaluation_report
from vgs_mlx.data import shapes
from vgs_mlx.device import Memory
from vgs_mlx.evaluation import evaluate
from vgs_mlx.evaluation.evaluate import Answer, graded, summary
from vgs_mlx.evaluation.statistics import accuracy_interval
from vgs_mlx.models.loading import load_model
from vgs_mlx.recipe.options import Data
from vgs_mlx.resources import tiny_model
from vgs_mlx.rollout.sample import Sampling
from vgs_mlx.runs import folder as run_folder
from vgs_mlx.types import Example

SHORT = ("--set", "rollout.max_completion_length=8", "--limit", "6")


def answers(*rights: str, kind="", tokens=10, ended=True, score=None):
    """One row of answers a text of 1s and 0s: right and wrong."""
    example = Example(id="x", question="?", answer="1", pictures=(), kind=kind)
    return [[Answer(example, "", each == "1", ended, tokens, score) for each in row] for row in rights]


@pytest.fixture(scope="module")
def student():
    return load_model(str(tiny_model("student")), "MODEL", say=lambda _: None)


@pytest.fixture(scope="module")
def rows():
    return shapes.examples("held_out", 7)


# --- summary


def test_one_answer_a_prompt_gives_the_share_of_right_ones_and_wilson_s_interval():
    found = summary(answers(*"1110000000"))
    assert (found["prompts"], found["samples"], found["accuracy"]) == (10, 1, pytest.approx(0.3))
    assert (found["low"], found["high"]) == accuracy_interval(3, 10)
    # by hand: (p + z²/2n ± z√(pq/n + z²/4n²)) / (1 + z²/n) with p = 0.3, n = 10, z = 1.96
    assert (found["low"], found["high"]) == (pytest.approx(0.1078, abs=1e-4), pytest.approx(0.6032, abs=1e-4))


def test_several_answers_a_prompt_give_the_mean_of_means_and_its_normal_interval():
    """Means 1, 1/2, 1/2, 0: mean 1/2, deviation 0.408, standard error 0.204."""
    found = summary(answers("1111", "1100", "1010", "0000"))
    assert (found["prompts"], found["samples"], found["accuracy"]) == (4, 4, 0.5)
    half = 1.96 * math.sqrt(1 / 6) / 2
    assert (found["low"], found["high"]) == (pytest.approx(0.5 - half), pytest.approx(0.5 + half))


def test_more_answers_of_the_same_prompts_make_it_no_surer():
    """The prompts are what is sampled: 16 answers of 4 prompts aren't 64 prompts."""
    few, many = (
        summary(answers("10", "10", "11", "00")),
        summary(answers("10" * 8, "10" * 8, "11" * 8, "00" * 8)),
    )
    assert (few["low"], few["high"]) == (many["low"], many["high"])


@pytest.mark.parametrize("row", ["00", "11", "10"])
def test_prompts_that_all_do_the_same_are_not_certain(row):
    found = summary(answers(*[row] * 8))
    assert found["accuracy"] == row.count("1") / 2
    assert (found["low"], found["high"]) == accuracy_interval(8 * row.count("1") // 2, 8)
    assert found["low"] < found["high"]


def test_intervals_stay_between_0_and_1():
    found = summary(answers("11", "11", "11", "10"))
    assert 0 <= found["low"] < found["accuracy"] < found["high"] == 1.0


def test_kinds_are_counted_apart_in_the_order_of_their_names():
    rows = [*answers(*"110", kind="touch"), *answers(*"0000", kind="colour"), *answers("1")]
    found = summary(rows)
    assert list(found["by_kind"]) == ["", "colour", "touch"]
    assert [(each["prompts"], each["accuracy"]) for each in found["by_kind"].values()] == [
        (1, 1.0),
        (4, 0.0),
        (3, pytest.approx(2 / 3)),
    ]
    assert (found["by_kind"]["touch"]["low"], found["by_kind"]["touch"]["high"]) == accuracy_interval(2, 3)
    assert found["accuracy"] == pytest.approx(3 / 8)


def test_lengths_cut_offs_and_scene_scores_are_means_over_all_answers():
    rows = [*answers("11", tokens=10, score=1.0), *answers("00", tokens=30, ended=False, score=0.5)]
    found = summary(rows)
    assert (found["completion_length"], found["cut_off_share"], found["scene_f1"]) == (20.0, 0.5, 0.75)
    assert "scene_f1" not in summary(answers("1"))


def test_a_summary_is_plain_json():
    assert json.loads(json.dumps(summary(answers("10", "11", score=1.0)))) == summary(
        answers("10", "11", score=1.0)
    )


# --- answers


def test_a_completion_is_decoded_and_graded_by_its_last_box(student):
    tokenizer = student.processor.tokenizer
    example = Example(id="x", question="?", answer="red", pictures=(), facts=("red circle",))
    ids = np.array([*tokenizer("It is \\boxed{red}")["input_ids"], tokenizer.eos_token_id])
    found = graded(student.processor, example, ids, ended=True)
    assert found.completion == "It is \\boxed{red}", "without the end-of-sequence token"
    assert found.right and found.tokens == len(ids) and found.scene_f1 is not None
    wrong = graded(student.processor, example, ids[:-2], ended=False)
    assert not wrong.right and not wrong.ended


def test_greedy_answers_do_not_depend_on_the_batch(student, rows):
    sampling = Sampling(8, temperature=0.0)
    texts = [
        [
            row[0].completion
            for row in evaluate.answer(student, rows, Data(system_prompt=""), sampling, batch_size=batch)
        ]
        for batch in (1, 3, 64)
    ]
    assert texts[0] == texts[1] == texts[2]
    assert len(texts[0]) == len(rows)


def test_sampled_answers_depend_on_the_seed_and_not_on_the_batch(student, rows):
    def drawn(batch, seed=0):
        settings = Data(system_prompt=""), Sampling(8, temperature=1.0)
        found = evaluate.answer(student, rows[:4], *settings, samples=2, batch_size=batch, seed=seed)
        assert [len(row) for row in found] == [2] * 4
        return [[each.completion for each in row] for row in found]

    assert drawn(1) == drawn(2) == drawn(64), "a batch may be smaller than the answers of a prompt"
    assert drawn(64) != drawn(64, seed=1)
    assert any(row[0] != row[1] for row in drawn(64)), "the answers of one prompt are drawn apart"


def test_progress_is_told_up_to_the_last_prompt(student, rows):
    told = []
    evaluate.answer(student, rows, Data(), Sampling(1, temperature=0.0), batch_size=3, progress=told.append)
    assert told == [3, 6, 7]


def test_without_the_picture_no_picture_is_fed(student, rows, monkeypatch):
    seen = []

    def look(model, views, seeds, encodings, sampling):
        seen.extend(views)
        return [[]] * len(views)

    monkeypatch.setattr(evaluate, "sample", look)
    for with_image in (True, False):
        evaluate.answer(student, rows[:2], Data(), Sampling(1), batch_size=2, with_image=with_image)
    image = student.module.config.image_token_id
    assert [not view.media for view in seen] == [False, False, True, True]
    assert [image in view.ids for view in seen] == [True, True, False, False]


# --- the command


def run_json(file, *arguments):
    done = command("evaluate", *arguments, "--json", file)
    assert done.exit_code == 0, done.output
    return done.stdout, json.loads(file.read_text())


def test_a_run_is_measured_on_its_held_out_rows_as_training_measured_it(tmp_path):
    shown, found = run_json(tmp_path / "figures.json", finished(), "--limit", 4)
    last = run_folder.rows(finished() / run_folder.EVALUATIONS)[-1]
    assert {name: found[name] for name in last if name != "step"} == {
        name: last[name] for name in last if name != "step"
    }
    assert (found["with_image"], found["temperature"], found["samples"]) == (True, 0.0, 1)
    assert "a finished run" in shown and "greedy (Acc@1), with the picture" in shown
    for kind, each in found["by_kind"].items():
        figures = rf"{kind} +{each['prompts']} +{each['accuracy']:.3f} +{each['low']:.3f}-{each['high']:.3f}"
        assert re.search(figures, shown)


def test_a_run_that_has_not_finished_is_measured_by_its_newest_checkpoint(tmp_path):
    run = copied(finished(), tmp_path / "run")
    shutil.rmtree(run / run_folder.FINAL)
    shown, _ = run_json(
        tmp_path / "figures.json", run, "--limit", 1, "--set", "rollout.max_completion_length=1"
    )
    assert "step 4: the newest checkpoint of a run that has not finished" in shown


def test_a_model_folder_is_measured_blind_with_several_samples(tmp_path):
    model = tiny_model("student")
    options = (
        "--data",
        "shapes:6",
        "--no-image",
        "--samples",
        2,
        "--temperature",
        1,
        "--set",
        "data.system_prompt=''",
    )
    shown, found = run_json(tmp_path / "figures.json", model, *options, *SHORT)
    assert (found["prompts"], found["samples"], found["with_image"], found["temperature"]) == (
        6,
        2,
        False,
        1.0,
    )
    assert (found["model"], found["data"]) == (str(model), "shapes:6")
    assert "mean of 2 samples at temperature 1, without the picture" in shown
    assert sum(each["prompts"] for each in found["by_kind"].values()) == 6


def test_names_are_no_markup_in_the_table():
    """A kind named [red] is shown, and so is a path with brackets."""
    shown = io.StringIO()
    about = {"model": "a[b]", "data": "d", "temperature": 0.0, "with_image": True}
    evaluation_report._print({**about, **summary(answers("1", kind="[red]"))}, Console(file=shown))
    assert "[red]" in shown.getvalue() and "a[b] on d" in shown.getvalue()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--samples", 4), "--samples needs a --temperature above 0"),
        (
            ("--json", "/nowhere/at/all.json"),
            "--json /nowhere/at/all.json: give a file in a folder that exists",
        ),
        (("--recipe", "other.yaml"), "is a run and is asked as its own recipe says"),
        (("--data", "none.jsonl"), "data file none.jsonl: No such file or directory"),
        (("--set", "rollout.lenght=3"), "unknown key rollout.lenght: did you mean"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(arguments, said):
    refused = command("evaluate", finished(), *arguments)
    assert refused.exit_code == 2
    assert said in refused.stderr and len(refused.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("no-such-model", "MODEL no-such-model: no such folder"),
        (".", "no readable config.json"),
    ],
)
def test_what_is_no_model_is_refused_in_one_line(model, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused = command("evaluate", model, "--data", "shapes:2")
    assert refused.exit_code == 2
    assert said in refused.stderr and len(refused.stderr.splitlines()) == 1


def test_what_cannot_fit_is_refused_before_weights_load_unless_forced(monkeypatch):
    monkeypatch.setattr(device, "this_machine", lambda: Memory(2**20, "a very small machine"))
    monkeypatch.setattr(evaluation_report, "load_model", lambda *_, **__: 1 / 0)
    asked = ("evaluate", "embedded:student", "--data", "shapes:4")
    shown = command(*asked)
    assert shown.exit_code == 2 and "the evaluation doesn't fit in memory" in shown.stderr
    assert "--set rollout.batch_size=" in shown.stderr and "--force" in shown.stderr
    assert isinstance(command(*asked, "--force").exception, ZeroDivisionError)


def test_a_run_is_asked_at_most_as_many_at_a_time_as_its_recipe_says(monkeypatch):
    run, sizes, draw = finished("rollout.batch_size=3"), [], evaluate.sample

    def counted(model, views, *rest):
        sizes.append(len(views))
        return draw(model, views, *rest)

    monkeypatch.setattr(evaluate, "sample", counted)
    assert command("evaluate", run, "--limit", 8).exit_code == 0
    assert sizes == [3, 3, 2]


def test_a_run_with_its_checkpoint_behind_an_at_is_told_the_option():
    shown = command("evaluate", f"{finished()}@best")
    assert shown.exit_code == 2 and f"write it as {finished()} --checkpoint best" in shown.stderr
