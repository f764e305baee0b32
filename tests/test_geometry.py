"""Angles and norms of the components' gradients by bin, on random models; and `vgs-mlx analyze` from end to end."""

import io
import json
import shutil

import mlx.core as mx
import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console

import toy_runs
from random_models import random_model
from random_rollouts import prepared, rollouts
from vgs_mlx import analyze, geometry, geometry_figures, recipe_file, strict_yaml
from vgs_mlx.cli import main
from vgs_mlx.objective.binning import bins, edges
from vgs_mlx.objective.steering import cosine, norm
from vgs_mlx.recipe import Student
from vgs_mlx.train.watch import compute_terms

RECIPE = recipe_file.load_recipe(None, ["objective.chunk_size=7"])


class Words:
    """A tokenizer that writes ids as numbers."""

    def decode(self, ids):
        return " ".join(map(str, ids))


def measured(count=3):
    student, teacher = prepared(Student(rank=4)), random_model(5)
    batch = rollouts()
    terms = compute_terms(student, teacher, batch, RECIPE).terms
    limits = edges(terms["visual_dependency_score"], count)
    return student, teacher, batch, terms, limits, geometry._measured(student, teacher, batch, RECIPE, limits)


def test_norms_and_angles_are_those_of_each_bin_s_mean_loss():
    student, teacher, batch, terms, limits, found = measured()
    numbers = bins(terms["visual_dependency_score"], limits)
    for number in range(3):
        here = (numbers == number).astype(np.float32)

        def alone(term, here=here):
            weights = {term: mx.array(here / here.sum())}
            return compute_terms(student, teacher, batch, RECIPE, lambda _: {"it": weights}).trees["it"]

        trees = {term: alone(term) for term in geometry.TERMS}
        for term, tree in trees.items():
            assert found.norms[number][term] == pytest.approx(float(norm(tree)), rel=1e-4)
        for name, (left, right) in geometry.PAIRS.items():
            expected = np.degrees(np.arccos(float(cosine(trees[left], trees[right]))))
            assert found.angles[number][name] == pytest.approx(expected, abs=0.1)


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
