"""Angles and norms of the components' gradients by bin, on random models; and `vgs-mlx analyze` from end to end."""

import io
import json
import shutil
from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console

import toy_runs
from random_models import random_model
from random_rollouts import prepared, rollouts
from vgs_mlx.analysis import figures as geometry_figures
from vgs_mlx.analysis import geometry
from vgs_mlx.cli import main
from vgs_mlx.commands import analyze
from vgs_mlx.formats import strict_yaml
from vgs_mlx.models import adapters, probes
from vgs_mlx.models.rows import encode, evaluate
from vgs_mlx.objective.binning import bins, edges
from vgs_mlx.objective.objectives import OBJECTIVES
from vgs_mlx.objective.steering import cosine, norm
from vgs_mlx.recipe import file as recipe_file
from vgs_mlx.recipe.options import Student
from vgs_mlx.runs import trained
from vgs_mlx.train import setup
from vgs_mlx.train.addends import Wanted
from vgs_mlx.train.gradients import Weighing, compute_parts
from vgs_mlx.train.watch import compute_terms

RECIPE = recipe_file.load_recipe(None, ["objective.chunk_size=7"])


LORA = Student(rank=4)


class Words:
    """A tokenizer that writes ids as numbers."""

    def decode(self, ids):
        return " ".join(map(str, ids))


def measured(count=3, settings=LORA, tied=True, recipe=RECIPE):
    student, teacher = prepared(settings, tied=tied), random_model(5)
    batch, recipe = rollouts(), replace(recipe, student=settings)
    terms = compute_terms(student, teacher, batch, recipe)
    limits = edges(terms["visual_dependency_score"], count)
    found = geometry._measured(student, teacher, batch, recipe, terms, limits)
    return student, teacher, batch, terms, limits, found


def tree_of(student, teacher, batch, term, weights, *, vision=False):
    """The gradient of one weighted sum of a term, as training computes it."""
    weighing = Weighing(OBJECTIVES["vgs"], 1.0, 1.0, "token", 64, 8, None, False, True)
    views = [
        view
        for each in batch
        for view in (each.prompt.student["with_image"], each.prompt.student["text_only"])
    ]

    def want(_):
        return Wanted({"it": {term: mx.array(weights)}}, lambda _: {"it": {"it": None}})

    encodings = None if vision else evaluate(encode(student, views))
    return compute_parts(student, teacher, batch, weighing, encodings, want).trees["it"]


@pytest.mark.parametrize(
    ("settings", "tied", "sets"),
    [
        (LORA, True, []),
        (LORA, True, ["train.microbatch_size=1", "train.grad_checkpoint=true"]),
        (Student(train="full"), True, ["train.microbatch_size=2"]),
        (Student(train="full"), False, []),
        (Student(rank=4, train_vision=True), True, []),
    ],
    ids=["lora", "micro-batches", "full, tied", "full, untied", "vision"],
)
def test_norms_and_angles_are_those_of_each_bin_s_mean_loss(settings, tied, sets):
    recipe = recipe_file.load_recipe(None, ["objective.chunk_size=7", *sets])
    student, teacher, batch, terms, limits, found = measured(settings=settings, tied=tied, recipe=recipe)
    numbers = bins(terms["visual_dependency_score"], limits)
    for number in range(3):
        here = (numbers == number).astype(np.float32)
        trees = {
            term: tree_of(student, teacher, batch, term, here / here.sum(), vision=settings.train_vision)
            for term in geometry.TERMS
        }
        for term, tree in trees.items():
            assert found.norms[number][term] == pytest.approx(float(norm(tree)), rel=1e-4)
        for name, (left, right) in geometry.PAIRS.items():
            expected = np.degrees(np.arccos(float(cosine(trees[left], trees[right]))))
            assert found.angles[number][name] == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_one_bin_s_trees_are_in_memory_at_a_time(tied):
    """Full weights: their gradients outweigh all else. Three trees are measured; the last is summed from another."""
    student, teacher = (random_model(seed, hidden=384, layers=4, tied=tied, scale=1.0) for seed in (0, 1))
    settings = Student(train="full")
    adapters.prepare(student, settings, seed=0)
    size = sum(each.nbytes for each in adapters.trainable_weights(student.module).values())
    recipe = replace(RECIPE, student=settings, train=replace(RECIPE.train, microbatch_size=2))
    batch = rollouts()
    terms = compute_terms(student, teacher, batch, recipe)
    limits = edges(terms["visual_dependency_score"], 6)
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    found = geometry._measured(student, teacher, batch, recipe, terms, limits)
    assert sum(map(bool, found.angles)) == 6
    assert (mx.get_peak_memory() - before) / size < 4.5


def test_every_token_is_in_one_bin_and_a_bin_lists_its_tokens():
    _, _, batch, terms, limits, found = measured()
    rows = [geometry._bin([found, found], number, limits, Words()) for number in range(3)]
    assert sum(row["tokens"] for row in rows) == 2 * len(terms["standard"])
    assert all(row["angle_lang_vis"]["sd"] == 0.0 for row in rows), "two equal batches have no spread"
    counted = sum(count for row in rows for _, count in row["frequent"])
    assert counted <= 2 * sum(len(each.completion) for each in batch)
    assert rows[0]["vds_high"] < rows[2]["vds_low"]


def test_a_bin_without_tokens_is_empty_and_not_an_error():
    found = geometry.Measured(
        [], {name: np.zeros(0) for name in (*geometry.TERMS, "visual_dependency_score")}, [{}], [{}]
    )
    found.rollouts.append(rollouts()[0])
    empty = geometry.Measured(found.rollouts, {name: np.full(5, 9.0) for name in found.terms}, [{}], [{}])
    row = geometry._bin([empty], 0, np.array([1.0]), Words())
    assert (
        row["tokens"] == 0 and row["angle_std_vis"] == {"mean": None, "sd": None} and row["vds_low"] is None
    )


def test_analyze_writes_numbers_and_figures_for_a_run(tmp_path):
    run = toy_runs.finished()
    result = CliRunner().invoke(
        main,
        [
            "analyze",
            str(run),
            "--prompts",
            "2",
            "--batches",
            "2",
            "--bins",
            "3",
            "--output",
            str(tmp_path / "a"),
        ],
    )
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "a" / "geometry.json").read_text())
    assert [each["bin"] for each in found["bins"]] == [0, 1, 2] and found["batches"] == 2
    assert all(0 <= each["angle_lang_vis"]["mean"] <= 180 for each in found["bins"])
    made = {path.name for path in (tmp_path / "a").iterdir()}
    assert {"geometry-angles.png", "geometry-angles.svg", "geometry-sizes.png", "geometry-sizes.svg"} < made


def test_analyze_loads_and_probes_a_run_s_student_once_and_measures_it_as_trained(monkeypatch, tmp_path):
    run, loaded, probed, seen = toy_runs.finished(), [], [], []
    load_model, continuation = setup.load_model, probes.continuation
    for module in (setup, trained):
        monkeypatch.setattr(
            module, "load_model", lambda *given, **how: loaded.append(given[0]) or load_model(*given, **how)
        )
    monkeypatch.setattr(
        probes, "continuation", lambda *given: probed.append(given[0].model.name) or continuation(*given)
    )
    monkeypatch.setattr(geometry, "measure", lambda student, *_: seen.append(student) or {"bins": []})
    monkeypatch.setattr(analyze, "_print", lambda *_: None)
    monkeypatch.setattr(geometry_figures, "draw", lambda *_: [])
    result = toy_runs.command("analyze", run, "--prompts", "2", "--batches", "1", "--output", tmp_path / "a")
    assert result.exit_code == 0, result.output
    assert loaded == probed == ["embedded:student", "embedded:teacher"]
    saved = mx.load(str(run / "final" / adapters.ADAPTER_FILE))
    weights = adapters.trainable_weights(seen[0].module)
    assert all(mx.array_equal(weights[name], value) for name, value in saved.items())


def test_a_run_without_a_teacher_is_compared_with_one_that_is_named(tmp_path):
    run = shutil.copytree(toy_runs.finished(), tmp_path / "run")
    text = (run / "recipe.yaml").read_text()
    teacher = strict_yaml.load(text, "")["teacher"]["path"]
    (run / "recipe.yaml").write_text(text.replace(f"path: {teacher}", "path: ''"))
    without = CliRunner().invoke(main, ["analyze", str(run)])
    assert without.exit_code == 2 and "say which one to compare with: --teacher" in without.output
    sizes = ["--prompts", "2", "--batches", "1", "--bins", "2"]
    found = CliRunner().invoke(main, ["analyze", str(run), "--teacher", teacher, *sizes])
    assert found.exit_code == 0, found.output


def test_a_score_that_rounds_to_nothing_has_no_sign():
    angle = {"mean": 90.0, "sd": None}
    row = {
        "bin": 0,
        "tokens": 1,
        "vds_low": -0.0001,
        "vds_high": 0.2,
        "frequent": [],
        **dict.fromkeys(geometry.PAIRS, angle),
    }
    console = Console(file=io.StringIO(), width=100)
    analyze._print({"batches": 1, "bins": [row]}, console)
    assert " 0.000-0.200 " in console.file.getvalue()


def test_a_bin_that_was_not_measured_is_a_gap_and_angles_share_a_scale():
    wide = {"mean": 118.0, "sd": 2.0}
    none = {"mean": None, "sd": None}
    bins = [
        {"bin": 0, "angle_lang_vis": wide, "angle_std_vis": none, "mean_visual": 0.5},
        {"bin": 1, "angle_lang_vis": none, "angle_std_vis": {"mean": 40.0, "sd": None}, "mean_visual": None},
    ]
    first, second, third = geometry_figures.angles(bins)
    assert first.lines[0] == ("∇L_lang and ∇L_vis", [0, 1], [118.0, None], [116.0, None], [120.0, None])
    assert second.lines[0].low == second.lines[0].high == [None, 40.0]
    assert first.limits == second.limits == third.limits == (0, 126.0)
    _, means = geometry_figures.sizes(bins)
    assert {line.label: line.means for line in means.lines}["L_vis"] == [0.5, None]


@pytest.mark.parametrize(("arguments", "said"), [
    (["embedded:student", "--teacher", "embedded:teacher"], "say where the result goes: --output DIR"),
    (["RUN", "--set", "seed=1"], "a run brings its own recipe"),
    (["RUN", "--teacher", "embedded:teacher"], "a run brings its own recipe"),
])  # fmt: skip
def test_what_does_not_fit_is_refused(arguments, said):
    arguments = [str(toy_runs.finished()) if each == "RUN" else each for each in arguments]
    result = CliRunner().invoke(main, ["analyze", *arguments])
    assert result.exit_code == 2 and said in result.output
