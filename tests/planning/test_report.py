"""What a plan says to its reader: whether it fits, and settings that are known to help."""

import json
from dataclasses import replace

import pytest

from toy_runs import command, finished, names, options
from vgs_mlx import device
from vgs_mlx.commands import distill as distillation
from vgs_mlx.device import Memory, memory_of
from vgs_mlx.errors import Refusal
from vgs_mlx.models import loading
from vgs_mlx.planning import plan
from vgs_mlx.planning import report as plan_report
from vgs_mlx.planning.plan import Lengths, changed
from vgs_mlx.planning.remedy import GENTLE, Draft, remedy
from vgs_mlx.planning.sizes import read_size
from vgs_mlx.recipe.options import Recipe
from vgs_mlx.resources import recipes_folder

CONFIGS = recipes_folder() / "configs"
SEEN = Lengths(160, 1024)


def sizes():
    return tuple(read_size(str(CONFIGS / f"qwen3-vl-{name}.json"), "--x") for name in ("2b", "8b"))


def planned(kind: str = "metal") -> Draft:
    """A run of 2B and 8B under the defaults."""
    return plan_report.of_training(Recipe(), *sizes(), SEEN, kind)


@pytest.mark.parametrize("gigabytes", [36, 28, 24, 20, 16])
def test_a_remedy_that_is_printed_fits_and_needs_each_of_its_changes(gigabytes):
    limit = gigabytes * 2**30
    found = remedy(planned(), limit)
    keys = [key for key, _ in found.changes]
    assert keys == sorted(keys, key=GENTLE.index)
    recipe = Recipe()
    for key, value in found.changes:
        recipe = changed(recipe, key, value)
    seen = Lengths(160, plan.lengths(recipe, sizes()[0]).image)
    assert planned().make(recipe, seen).peak == found.plan.peak
    assert found.fits == (found.plan.peak <= limit)
    for dropped in keys if found.fits else []:
        fewer = Recipe()
        for key, value in found.changes:
            fewer = fewer if key == dropped else changed(fewer, key, value)
        seen = Lengths(160, plan.lengths(fewer, sizes()[0]).image)
        assert planned().make(fewer, seen).peak > limit


def test_pictures_are_made_smaller_last_and_never_silently():
    enough = remedy(planned(), 28 * 2**30)
    assert enough.fits and "data.max_pixels" not in dict(enough.changes)
    hopeless = remedy(planned(), 8 * 2**30)
    said = "\n".join(plan_report.advice(planned(), hopeless, Memory(8 * 2**30, "")))
    assert not hopeless.fits and "pictures smaller" in said and "smaller models are needed" in said


@pytest.mark.parametrize(("given", "device", "expected"), [
    ("16GB", "metal", 16 * 2**30 * 2 // 3), ("64 GB", "metal", 48 * 2**30), ("16GiB", "cuda", 16 * 2**30),
    ("16G", "cuda", 16 * 2**30), ("512MB", "cpu", 512 * 2**20),
])  # fmt: skip
def test_memory_is_read_as_machines_are_sold(given, device, expected):
    assert memory_of(given, device).limit == expected


@pytest.mark.parametrize("given", ["16", "much", "0GB", "1.2.3GB"])
def test_a_malformed_memory_size_is_refused(given):
    with pytest.raises(Refusal, match="give a size above 0, such as 16GB"):
        memory_of(given, "cpu")


def test_a_plan_of_configs_alone_reports_bytes_and_whether_they_fit(tmp_path):
    models = ["--student", CONFIGS / "qwen3-vl-2b.json", "--teacher", CONFIGS / "qwen3-vl-8b-4bit.json"]
    shown = command("plan", *models, "--memory", "16GB", "--device", "metal")
    assert shown.exit_code == 1 and "DOES NOT FIT in 11.45 GB" in shown.output
    assert "planned from its config alone" in shown.output and "PEAK of student" in shown.output
    file = tmp_path / "plan.json"
    shown = command("plan", *models, "--memory", "128GB", "--device", "metal", "--json", file)
    assert shown.exit_code == 0 and "fits in 103.08 GB" in shown.output
    assert json.loads(file.read_text())["limit"] == 96 * 2**30


def test_the_rows_of_a_phase_add_up_to_its_peak():
    made = planned().plan
    names_, figures, _ = (list(column.cells) for column in plan_report.table(made).columns)
    rows = list(zip(names_, map(float, figures), strict=True))
    always = sum(figure for name, figure in rows if name in made.resting)
    peaks, found = {}, always
    for name, figure in rows[len(made.resting) :]:
        if name.startswith("PEAK"):
            peaks[name] = (figure, found)
            found = always
        else:
            found += figure
    assert list(peaks) == [
        f"PEAK of {name}" for name in ("rollouts", "teacher", "student", "update", "evaluation")
    ]
    assert all(peak == pytest.approx(summed, abs=0.06) for peak, summed in peaks.values())  # of rounded rows


def test_a_config_of_another_family_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llava"}')
    shown = command("plan", "--student", tmp_path / "config.json", "--teacher", "embedded:teacher")
    assert shown.exit_code == 2 and "model_type 'llava' is not supported" in shown.stderr


def test_what_cannot_fit_is_refused_before_weights_load_unless_forced(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(device, "this_machine", lambda: Memory(2**20, "a very small machine"))
    monkeypatch.setattr(distillation.setup, "load_model", lambda *_, **__: pytest.fail("loaded"))
    shown = command("distill", *options())
    assert shown.exit_code == 2 and "doesn't fit in memory" in shown.stderr and "--force" in shown.stderr
    assert names(tmp_path) == []
    loaded = []
    monkeypatch.setattr(distillation.setup, "load_model", lambda *_, **__: loaded.append(1) or 1 / 0)
    command("distill", "--force", *options())
    assert loaded


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--tokens", "0", "9"), "--tokens 0 9: a prompt has 1 text token or more"),
        (("--tokens", "5", "-1"), "--tokens 5 -1: a prompt has 1 text token or more"),
        (("--json", "/dev/null/plan.json"), "--json /dev/null/plan.json: can't be written"),
    ],
)
def test_what_a_plan_can_t_take_is_refused(options, said):
    models = [
        f"--{role}={recipes_folder() / 'configs' / f'qwen3-vl-{size}.json'}"
        for role, size in (("student", "2b"), ("teacher", "8b"))
    ]
    shown = command("plan", *models, "--memory", "128GB", "--device", "metal", *options)
    assert shown.exit_code == 2 and said in shown.output


def checked(limit, monkeypatch):
    """What `check` says of a run of 2B and 8B on a machine with so many bytes."""
    monkeypatch.setattr(plan_report, "memory_of", lambda *_: Memory(limit, "this machine's memory"))
    said = []
    plan_report.check(planned("cpu"), "the run", False, said.append)
    return "\n".join(said)


def test_runs_side_by_side_share_the_memory_and_are_refused_with_the_jobs_that_fit(monkeypatch):
    monkeypatch.setattr(plan_report.devices, "backend", lambda: "cpu")
    peak = planned("cpu").plan.peak
    monkeypatch.setenv(plan_report.RUNS_AT_ONCE, "3")
    assert "fits in" in checked(3 * peak, monkeypatch)
    with pytest.raises(Refusal, match=r"fits in memory, but not 3 side by side: .*: give --jobs 2"):
        checked(3 * peak - 3, monkeypatch)
    with pytest.raises(Refusal, match="doesn't fit in memory: "):
        checked(peak - 1, monkeypatch)
    monkeypatch.delenv(plan_report.RUNS_AT_ONCE)
    assert "fits in" in checked(peak, monkeypatch)


@pytest.mark.parametrize(
    ("kind", "given", "limits"),
    [("metal", None, [3_000_000]), ("cuda", 0.5, [500_000_000]), ("cpu", 0.0, [0]), ("cpu", None, [])],
    ids=["what is left", "given", "none", "the CPU build's own"],
)
def test_the_buffer_cache_is_bounded_before_anything_loads(kind, given, limits, monkeypatch):
    run = planned(kind)
    run = replace(run, recipe=changed(run.recipe, "train.cache_limit_gb", given))
    set_limits, said = [], []
    monkeypatch.setattr(device, "limit_cache", set_limits.append)
    monkeypatch.setattr(device, "backend", lambda: kind)
    monkeypatch.setattr(device, "default_cache_limit", lambda peak, memory: memory - peak)
    monkeypatch.setattr(
        plan_report, "memory_of", lambda *_: Memory(run.plan.peak + 3_000_000, "this machine's memory")
    )
    plan_report.check(run, "the run", False, said.append)
    assert set_limits == limits
    assert [line for line in said if "freed buffers" in line] == said[3:]


def test_a_forced_run_that_does_not_fit_keeps_a_small_cache():
    assert device.default_cache_limit(30, 20) == 1
    assert device.default_cache_limit(5, 20) == 15


@pytest.mark.parametrize(
    ("asked", "what"),
    [
        (("export", "RUN", "--output", "model"), "the export doesn't fit in memory: it needs up to"),
        (("analyze", "RUN"), "the analysis doesn't fit in memory: it needs up to"),
        (("report", "RUN"), "letting the models answer doesn't fit in memory: it needs up to"),
        (("evaluate", "RUN", "--suite", "aime25"), "the evaluation doesn't fit in memory"),
    ],
    ids=lambda each: each[0] if isinstance(each, tuple) else None,
)
def test_what_reads_a_run_refuses_as_well_before_weights_load_unless_forced(
    asked, what, monkeypatch, tmp_path
):
    run = finished()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(device, "this_machine", lambda: Memory(2**20, "a very small machine"))
    monkeypatch.setattr(loading, "_load_module", lambda *_: 1 / 0)
    given = [run if each == "RUN" else each for each in asked]
    shown = command(*given)
    assert shown.exit_code == 2 and what in shown.stderr and "--force" in shown.stderr, shown.output
    assert names(tmp_path) == []
    assert isinstance(command(*given, "--force").exception, ZeroDivisionError)
