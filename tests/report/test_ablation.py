"""The page about an ablation: the sentence fits the intervals, and the tables are the summary's."""

import json
import math
import re
from dataclasses import replace

import pytest

from report_parts import BASE, OTHER, WATCHED, difference, folder, spread, summary
from toy_runs import QUIET, copied, finished
from vgs_mlx.ablation import tables
from vgs_mlx.ablation.grid import SUMMARY
from vgs_mlx.ablation.grid_file import GRID
from vgs_mlx.ablation.results import Measured, Result
from vgs_mlx.ablation.summary import summarise
from vgs_mlx.commands import report
from vgs_mlx.errors import Refusal
from vgs_mlx.formats import strict_yaml
from vgs_mlx.report import ablation, page
from vgs_mlx.report.ablation import headline
from vgs_mlx.report.cells import short_name
from vgs_mlx.report.examples import Examples, Shown


def test_settings_of_the_paper_have_their_symbols():
    assert short_name(BASE) == "standard"
    assert short_name(OTHER) == "vgs, γ\u00a0=\u00a02"
    assert short_name("my cell, train.steps=3") == "my cell, train.steps=3"


def test_the_largest_difference_is_named_with_its_interval_and_how_many_there_are():
    found = headline(summary(difference("a", -0.04, 0.05), difference("b", 0.03, 0.01)))
    assert "Of 2 cells, a is furthest from the baseline, standard: −4.0 points" in found.sentence
    assert "−9.0 to +1.0 (over 3 seeds)" in found.sentence
    assert "Of 2 intervals over seeds, 1 lies above 0 and 0 below" in found.verdict


@pytest.mark.parametrize(
    ("mean", "verdict"), [(0.03, "lies above 0"), (-0.03, "lies below 0"), (0.01, "contains 0")]
)
def test_one_difference_is_said_with_what_it_shows(mean, verdict):
    found = headline(summary(difference(OTHER, mean, 0.02)))
    assert found.sentence.startswith("vgs, γ\u00a0=\u00a02 against the baseline, standard: ")
    assert verdict in found.verdict


def test_what_an_ablation_writes_is_what_the_page_reads(tmp_path):
    results = [
        Result(name, seed, (Measured(0, 0.5, 0, 0.0), Measured(4, final, 100, 8.0)), right, None)
        for name, final, right in ((BASE, 0.5, {"a": 1, "b": 0}), (OTHER, 1.0, {"a": 1, "b": 1}))
        for seed in (0, 1)
    ]
    (tmp_path / SUMMARY).mkdir()
    tables.write(tmp_path / SUMMARY, summarise(results, BASE))
    found = ablation.read(tmp_path)
    assert [(each.name, each.final) for each in found.cells] == [
        ("standard", "50.0\u202f% ± 0.0"), ("vgs, γ\u00a0=\u00a02", "100.0\u202f% ± 0.0"),
    ]  # fmt: skip
    (only,) = found.differences
    assert (only.difference, only.by_seed.split(), only.only) == ("+50.0", ["+50.0", "+50.0"], "2 / 0")


def test_one_seed_promises_nothing_about_another():
    found = headline(summary(difference("a", 0.03, None)))
    assert "+1.0 to +5.0 (over prompts, one seed)" in found.sentence
    assert "nothing can be said about what another seed would give" in found.verdict


def test_seeds_that_differ_by_the_same_show_nothing_and_are_not_counted():
    alike = {**difference("a", 0.03, 0.01), "over_seeds": {**spread(0.03, None), "sd": 0.0}}
    found = headline(summary(alike))
    assert "+1.0 to +5.0 (over prompts, 3 seeds with the same difference)" in found.sentence
    assert "nothing can be said about what another seed would give" in found.verdict
    found = headline(summary(alike, difference("b", 0.02, 0.01)))
    assert found.verdict.startswith("Of 1 interval over seeds, 1 lies above 0 and 0 below.")  # b's


def test_only_intervals_of_two_seeds_are_cut_and_only_beside_others():
    three, two = difference("three", 0.01, 0.03), {**difference("two", 0.02, 0.2), "seeds": [0, 1]}

    def edge(*differences):
        rows = [
            (each["name"], *(100 * each["over_seeds"][end] for end in ("mean", "low", "high")))
            for each in differences
        ]
        return ablation._edge(differences, rows)

    assert edge(three, two) == pytest.approx(1.1 * 4)
    assert edge(two) == edge(three) == edge(three, three) == math.inf
    assert edge({**two, "over_seeds": spread(0.09, 0.2)}, three) == pytest.approx(1.1 * 9), (
        "every mean is inside"
    )


def test_the_kinds_of_questions_that_a_cell_answers_better_are_shown(tmp_path):
    finals = {BASE: {"count": 0.5, "shape": 1.0}, OTHER: {"count": 0.75, "shape": 0.9}}
    results = [
        Result(name, seed, (Measured(0, 0.5, 0, 0.0), Measured(4, 0.7, 100, 8.0)), {"a": 1}, None, by_kind)
        for name, by_kind in finals.items()
        for seed in (0, 1)
    ]
    found = summarise(results, BASE)
    assert tables.kind_rows(found)[1] == {"cell": OTHER, "count": "+0.250 ± 0.000", "shape": "-0.100 ± 0.000"}
    (tmp_path / SUMMARY).mkdir()
    (tmp_path / GRID).write_text("{}")
    tables.write(tmp_path / SUMMARY, found)
    shown = report.run(tmp_path, None, examples=0, screen=QUIET).read_text(encoding="utf-8")
    assert "By kind of question</h2>" in shown and '<td class="n">+25.0</td><td class="n">−10.0</td>' in shown
    assert not tables.kind_rows(summarise([replace(each, by_kind={"count": 1.0}) for each in results], BASE))


def test_cells_that_are_all_alike_have_no_largest_difference():
    found = headline(summary(difference("a", 0.0, 0.01), difference("b", 0.0, 0.01)))
    assert found.sentence == "No cell differs in accuracy from the baseline, standard."


def test_nothing_to_compare_is_said():
    assert "nothing to compare" in headline(summary()).sentence


def test_the_page_holds_cells_differences_and_what_is_missing(tmp_path):
    made = folder(tmp_path / "ab", summary(difference(OTHER, 0.03, 0.01), difference("<b>", -0.01, 0.02)))
    copied(finished(), made / BASE / "seed-0")
    found = report.run(made, None, examples=0, screen=QUIET).read_text(encoding="utf-8")
    assert "An ablation of vgs-mlx · not finished" in found and "omitted: x, seed 2." in found
    assert "&lt;b&gt;" in found and "<b></th>" not in found
    assert found.count("<svg") == 1 + 3
    assert "68.0\u202f% ± 0.5" in found and "67.0–69.0" in found and "0.012" in found
    unbroken = re.sub('<span class="whole">(.*?)</span>', r"\1", found)
    assert f'<th scope="row">{short_name(OTHER)}</th><td class="n">3</td><td class="n"><b>+3.0' in unbroken
    assert "The baseline, standard. Cells of one seed" in found and "embedded:student" in found


def test_the_page_shows_the_cost_of_reaching_the_accuracy_and_the_watched_terms(tmp_path):
    found = summary(difference(OTHER, 0.03, 0.01))
    found["cells"][1] |= {"tokens_to_reach": spread(67484.2), "seconds_to_reach": spread(96.6)}
    made = folder(tmp_path / "ab", found)
    shown = report.run(made, None, examples=0, screen=QUIET).read_text(encoding="utf-8")
    assert "The cost of reaching 65.0\u202f%</h2>" in shown
    assert '<td class="n">2 of 3</td><td class="n">67,484</td><td class="n">97</td>' in shown
    assert '<td class="n">2 of 3</td><td class="n">–</td><td class="n">–</td>' in shown
    assert "The terms by visual dependency" not in shown
    for name in (BASE, OTHER):
        run = made / name / "seed-0"
        run.mkdir(parents=True)
        (run / "terms.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in WATCHED))
    (made / BASE / "seed-1").mkdir()
    (made / BASE / "seed-1" / "terms.jsonl").write_text("{")
    (made / ablation.SUMMARY).write_text(json.dumps(found | {"reach": None}))
    shown = report.run(made, None, examples=0, screen=QUIET).read_text(encoding="utf-8")
    assert "The terms by visual dependency</h2>" in shown and "The cost of" not in shown
    assert shown.count('<ul class="keys">') == 1 and 'id="terms-visual-high-title"' in shown
    assert f"Unreadable, and omitted: {BASE}/seed-1/terms.jsonl." in shown


def test_what_cells_set_is_said_by_their_names_or_else_by_a_list(tmp_path):
    found = summary(difference(OTHER, 0.03, 0.01))
    for each, settings in zip(
        found["cells"],
        ({"objective.name": "standard"}, {"objective.name": "vgs", "objective.steering_coef": 2}),
        strict=True,
    ):
        each["settings"] = settings
    made = folder(tmp_path / "ab", found)
    copied(finished(), made / BASE / "seed-0")
    shown = report.run(made, None, examples=0, screen=QUIET).read_text(encoding="utf-8")
    assert "standard; the other cells differ from it as their names say." in shown
    assert "What each cell sets" not in shown
    found["cells"][1]["name"] = "mine"
    (made / ablation.SUMMARY).write_text(json.dumps(found))
    shown = report.run(made, None, examples=0, screen=QUIET).read_text(encoding="utf-8")
    assert "as their names say" not in shown and "What each cell sets" in shown
    assert "<dt>mine</dt><dd>vgs, γ\u00a0=\u00a02</dd>" in shown


def test_examples_are_of_each_cell_s_first_seed_the_baseline_first(tmp_path):
    found = summary(difference("a", 0.03, 0.01), difference("z", 0.03, 0.01), difference("gone", 0.0, 0.01))
    found["cells"].reverse()
    made = folder(tmp_path / "ab", found)
    for name in ("a", "z", BASE):
        (made / name / "seed-0").mkdir(parents=True)
        (made / name / "seed-0" / "recipe.yaml").touch()
    runs, others = ablation.runs(made)
    assert [(name, run.parent.name) for name, run in runs] == [
        ("standard", BASE), ("z", "z"), ("a", "a"),
    ]  # fmt: skip
    assert others == []


def test_examples_are_of_cells_with_the_same_questions_and_the_page_names_the_others(tmp_path, monkeypatch):
    changes = {
        BASE: "",
        "full": "{student: {train: full}, objective: {name: vgs}, seed: 1}",
        "student": "student: {path: other}",
        "teacher": "teacher: {path: other}",
        "data": "data: {system_prompt: other}",
        "length": "rollout: {max_completion_length: 3}",
    }
    found = summary(*[difference(name, 0.01, 0.01) for name in list(changes)[1:]])
    found["cells"][0]["seeds"] = [1, 2]
    made = folder(tmp_path / "ab", found)
    for name, text in changes.items():
        for seed in (0, 1):
            (made / name / f"seed-{seed}").mkdir(parents=True)
            recipe = {**strict_yaml.load(text or "{}", name), "seed": seed}
            (made / name / f"seed-{seed}" / "recipe.yaml").write_text(strict_yaml.dump(recipe))
    runs, others = ablation.runs(made)
    assert [(name, run.name) for name, run in runs] == [("standard", "seed-1"), ("full", "seed-1")]
    assert others == ["student", "teacher", "data", "length"]
    shown = Examples((Shown("q", "a", "", (), ()),), ("note of a model",))
    monkeypatch.setattr(page, "collect", lambda *_: shown)
    text = report.run(made, None, examples=1, screen=QUIET).read_text(encoding="utf-8")
    assert (
        "longest answer differ from the baseline&#39;s: student; teacher; data; length." in text
        and "note of a model" in text
    )


def test_an_ablation_without_its_runs_still_has_a_page(tmp_path):
    made = folder(tmp_path / "ab", summary(difference(OTHER, 0.03, 0.01)))
    found = report.run(made, None, examples=2, screen=QUIET).read_text(encoding="utf-8")
    assert "the folders of the runs are missing" in found and "What was run" not in found


@pytest.mark.parametrize("content", ["{", "{}", '{"cells": [1], "baseline": "x"}'])
def test_a_missing_or_damaged_summary_is_refused(tmp_path, content):
    with pytest.raises(Refusal, match="--summary"):
        report.run(folder(tmp_path / "ab", content), None, examples=0, screen=QUIET)
