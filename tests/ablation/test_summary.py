"""A grid's numbers, on hand-made runs that can be checked by eye."""

import csv
import json
from dataclasses import replace

import pytest

from toy_runs import read_json
from vgs_mlx.ablation import figures, results, tables
from vgs_mlx.ablation.summary import summarise
from vgs_mlx.evaluation.statistics import spread
from vgs_mlx.runs import folder as run_folder


def run(folder, accuracies, right, *, blind=None, seconds=2.0):
    """A run folder with an evaluation before training and after each of its steps of 100 tokens."""
    folder.mkdir(parents=True)
    for step, accuracy in enumerate(accuracies):
        row = {"step": step, "accuracy": accuracy, "low": 0.0, "high": 1.0, "prompts": len(right)}
        if step == len(accuracies) - 1 and blind is not None:
            row["blind"] = {"accuracy": blind, "low": 0, "high": 1}
        run_folder.append(folder / run_folder.EVALUATIONS, row)
        ids = [f"row {place}" for place in range(len(right))]
        # before the end nothing was right
        graded = [int(mark) * (step == len(accuracies) - 1) for mark in right]
        run_folder.append(folder / run_folder.ANSWERS, {"step": step, "ids": ids, "right": graded})
        if step:
            metrics = {"step": step, "tokens": 100, "seconds": {"step": seconds}}
            run_folder.append(folder / run_folder.METRICS, metrics)
    return folder


@pytest.fixture
def found(tmp_path):
    """Two cells, two seeds, four prompts: `steered` is right on one more in seed 0, on two more in seed 1."""
    marks = {("plain", 0): "1100", ("plain", 1): "1000", ("steered", 0): "1110", ("steered", 1): "0111"}
    accuracies = {
        ("plain", 0): [0.0, 0.75, 0.5], ("plain", 1): [0.0, 0.0, 0.25],
        ("steered", 0): [0.0, 0.25, 0.75], ("steered", 1): [0.0, 0.5, 0.75],
    }  # fmt: skip
    return [
        results.read(
            run(
                tmp_path / f"{cell}-{seed}",
                accuracies[cell, seed],
                right,
                blind=0.25 * seed,
                seconds=2.0 + seed,
            ),
            cell,
            seed,
        )
        for (cell, seed), right in marks.items()
    ]


def test_a_run_is_read_with_what_it_had_cost_by_each_evaluation(found):
    first = found[0]
    assert [(each.step, each.accuracy, each.tokens, each.seconds) for each in first.evaluations] == [
        (0, 0.0, 0, 0), (1, 0.75, 100, 2.0), (2, 0.5, 200, 4.0),
    ]  # fmt: skip
    assert first.right == {"row 0": 1, "row 1": 1, "row 2": 0, "row 3": 0}
    assert (first.final, first.best, first.blind) == (0.5, 0.75, 0.0)


def test_a_cell_is_its_mean_spread_and_t_interval_over_seeds(found):
    plain, steered = summarise(found, "plain").cells
    assert plain.seeds == (0, 1)
    # 0.5 and 0.25: sd = 0.25/√2, and t = 12.706 for two seeds
    assert plain.final.mean == 0.375 and plain.final.sd == pytest.approx(0.1768, abs=1e-4)
    # 12.706 * 0.125 to both sides, cut where accuracies end
    assert (plain.final.low, plain.final.high) == (0.0, 1.0)
    assert plain.best.mean == 0.5 and steered.best.mean == 0.75
    assert (steered.final.mean, steered.final.sd) == (0.75, 0.0)
    assert plain.blind.mean == 0.125 and plain.before.mean == 0.0
    assert plain.step_seconds.mean == 2.5
    assert [(each.step, each.tokens, each.seconds, each.accuracy.mean) for each in steered.curve] == [
        (0, 0, 0, 0.0), (1, 100, 2.5, 0.375), (2, 200, 5.0, 0.75),
    ]  # fmt: skip


def test_what_it_costs_to_reach_an_accuracy_is_counted_to_the_first_evaluation_there(found):
    by_default = summarise(found, "plain")
    assert by_default.reach == 0.375  # the baseline's mean final accuracy
    plain, steered = by_default.cells
    assert (plain.reached, plain.tokens_to_reach.mean, plain.seconds_to_reach.mean) == (
        1,
        100,
        2.0,
    )  # seed 0 alone
    assert (steered.reached, steered.tokens_to_reach.mean, steered.seconds_to_reach.mean) == (2, 150, 3.5)
    plain, steered = summarise(found, "plain", reach=0.75).cells
    assert (plain.reached, steered.reached, steered.tokens_to_reach.mean) == (1, 2, 200)
    assert summarise(found, "plain", reach=0.9).cells[0].tokens_to_reach is None


def test_differences_are_paired_by_seed_and_by_prompt(found):
    (difference,) = summarise(found, "plain").differences
    assert (difference.name, difference.seeds, difference.prompts) == ("steered", (0, 1), 4)
    assert difference.by_seed == (0.25, 0.5)
    # the prompts' means over seeds differ by -0.5, 0.5, 1, 0.5
    assert difference.over_prompts.mean == difference.over_seeds.mean == 0.375
    assert difference.over_prompts.low < 0 < difference.over_prompts.high <= 1
    # right in steered alone: row 2; rows 1, 2, 3. In plain alone: row 0 of seed 1
    assert (difference.only_cell, difference.only_baseline) == (4, 1)
    assert difference.mcnemar == 2 * (1 + 5) / 2**5


def test_rows_of_their_own_are_resampled_within_each_seed_and_mean_what_the_seeds_mean(found):
    """Seed 1 is measured on rows of its own: four in the fixture, eight here, which count no more than four."""
    own = {row + " of seed 1": 1 for row in ("a", "b", "c", "d")}
    apart = [
        replace(each, right={f"{row} of seed 1": mark for row, mark in each.right.items()} | own)
        if each.seed
        else each
        for each in found
    ]
    (difference,) = summarise(apart, "plain").differences
    assert difference.by_seed == (0.25, 0.25) and difference.prompts == 12
    assert difference.over_prompts.mean == difference.over_seeds.mean == 0.25  # 1 of 4, and 2 of 8
    twice = [
        replace(each, right=each.right | {"e": 0, "f": 0, "g": 0, "h": 0}) if not each.seed else each
        for each in found
    ]
    (difference,) = summarise(twice, "plain").differences
    assert difference.by_seed == (0.125, 0.5)
    assert difference.over_prompts.mean == difference.over_seeds.mean == 0.3125


def test_runs_without_a_row_in_common_are_not_compared(found):
    apart = [
        replace(each, right={"other": 1}) if each.cell == "steered" and each.seed else each for each in found
    ]
    (difference,) = summarise(apart, "plain").differences
    assert difference.seeds == (0,)


def test_only_seeds_that_both_have_are_compared(found):
    summary = summarise(
        [each for each in found if (each.cell, each.seed) != ("plain", 1)], "plain", unfinished=["x"]
    )
    (difference,) = summary.differences
    assert difference.seeds == (0,) and difference.by_seed == (0.25,) and difference.over_seeds.low is None
    assert summary.cells[1].seeds == (0, 1) and summary.unfinished == ("x",)
    (shown,) = tables.difference_rows(summary)
    assert shown["seeds"] == 1 and "seeds" in tables.DIFFERENCES_SHOWN, (
        "how many pairs, beside the difference"
    )
    (difference,) = summarise(found[:3], "plain").differences  # now it is the cell that lacks seed 1
    assert difference.seeds == (0,) and difference.by_seed == (0.25,)
    only = summarise([each for each in found if each.cell == "steered"], "plain")
    assert only.differences == () and only.reach is None and only.cells[0].reached == 0


def test_one_measurement_has_no_spread():
    assert spread([0.5]) == (0.5, None, None, None, 1)
    mean, sd, low, high, count = spread([1, 2, 3])
    assert (mean, sd, count) == (2, 1, 3) and high - 2 == 2 - low == pytest.approx(2.484, abs=1e-3)


def test_measurements_that_are_all_alike_have_no_interval():
    assert spread([0.5, 0.5]) == (0.5, 0.0, None, None, 2)
    tenths = spread([0.3 - 0.2, 0.2 - 0.1, 0.1])  # alike but for rounding
    assert (tenths.sd, tenths.low, tenths.high) == (0.0, None, None)


# --- tables and figures


def test_the_files_hold_the_numbers(found, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    summary = summarise(found, "plain", unfinished=["steered, seed 2"])
    tables.write(out, summary)
    rows = {
        name: list(csv.DictReader((out / f"{name}.csv").open()))
        for name in ("cells", "differences", "curves")
    }
    assert [row["cell"] for row in rows["cells"]] == ["plain", "steered"]
    assert float(rows["cells"][0]["final_mean"]) == 0.375 and rows["cells"][0]["tokens_to_reach_sd"] == ""
    assert float(rows["differences"][0]["mcnemar_p"]) == 0.375
    assert len(rows["curves"]) == 6 and rows["curves"][-1]["mean"] == "0.75"
    kept = read_json(out / "summary.json")
    assert (
        kept["cells"][0]["final"]["mean"] == 0.375 and kept["differences"][0]["over_prompts"]["mean"] == 0.375
    )
    text = (out / "summary.md").read_text()
    assert (
        "| plain | 2 | 0.000 | 0.375 ± 0.177 | 0.000 to 1.000 | 0.500 ± 0.354 | 0.125 ± 0.177 | 1/2 |" in text
    )
    assert "| steered | 2 | +0.375 |" in text and "omitted: steered, seed 2" in text
    assert json.dumps(kept, allow_nan=False)


def test_what_a_cell_sets_stands_in_every_file_unless_its_name_spells_it_out(found, tmp_path):
    settings = {"plain": {"objective.name": "standard"}, "steered": {"data.system_prompt": "a | b\nc"}}
    tables.write(tmp_path, summarise(found, "plain", settings=settings))
    text = (tmp_path / "summary.md").read_text()
    assert "| plain | objective.name=standard | 2 |" in text
    assert "| steered | data.system_prompt=a \\| b c | 2 |" in text
    first = next(csv.DictReader((tmp_path / "cells.csv").open()))
    assert first["sets"] == "objective.name=standard"
    assert [each["settings"] for each in read_json(tmp_path / "summary.json")["cells"]] == list(
        settings.values()
    )
    spelled = [replace(each, cell=f"train.steps={len(each.cell)}") for each in found]
    sets = {name: {"train.steps": int(name[-1])} for name in ("train.steps=5", "train.steps=7")}
    assert "sets" not in tables.cell_rows(summarise(spelled, "train.steps=5", settings=sets))[0]


def test_seeds_that_differ_by_the_same_are_dashes_in_every_file(found, tmp_path):
    alike = [replace(each, right=found[each.cell == "steered"].right) for each in found]
    summary = summarise(alike, "plain")
    tables.write(tmp_path, summary)
    figures.write(tmp_path, summary)
    (row,) = csv.DictReader((tmp_path / "differences.csv").open())
    assert (row["sd_over_seeds"], row["low_over_seeds"], row["high_over_seeds"]) == ("0.0", "", "")
    assert read_json(tmp_path / "summary.json")["differences"][0]["over_seeds"]["low"] is None
    assert "| steered | 2 | -0.250 | - |" in (tmp_path / "summary.md").read_text()


def test_nothing_to_compare_still_gives_tables_and_figures(found, tmp_path):
    summary = summarise(found[:1], "plain")
    tables.write(tmp_path, summary)
    figures.write(tmp_path, summary)
    assert (tmp_path / "differences.csv").read_text() == ""
    assert not (tmp_path / "differences.svg").exists() and (tmp_path / "accuracy-steps.png").exists()
    assert "| plain | 1 | 0.000 | 0.500 | - |" in (tmp_path / "summary.md").read_text()


@pytest.mark.parametrize("cells", [2, 6])
def test_the_figures_name_every_cell_and_axis(found, tmp_path, cells):
    """Few cells in one panel, many in panels of their own."""
    many = [replace(each, cell=f"cell{place}") for place in range(cells - 1) for each in found[2:]]
    figures.write(tmp_path, summarise([*found[:2], *many], "plain"))
    steps = (tmp_path / "accuracy-steps.svg").read_text()
    for text in (
        "plain",
        *[f"cell{place}" for place in range(cells - 1)],
        "training step",
        "to reach: 0.375",
    ):
        assert text in steps, text
    assert steps.count("cell0 (2 seeds)") == 1
    assert "seconds of training" in (tmp_path / "accuracy-seconds.svg").read_text()
    differences = (tmp_path / "differences.svg").read_text()
    assert "final accuracy minus that of plain" in differences and f"cell{cells - 2} (2 seeds)" in differences
