"""What an accelerator computes in: a bfloat16 student and a 4-bit teacher as they are stored, kept on the CPU too.

Elsewhere the tests run in float32, which the CPU build widens all weights to.
"""

import math
import shutil
import sys
from pathlib import Path

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten

import toy_runs
from model_folders import language_part, stored_packed
from toy_runs import (
    command,
    copied,
    finished,
    go_on,
    metrics,
    options,
    read_json,
    same_run,
    spawned,
    wait_for,
)
from vgs_mlx.device import KEEP_PRECISION
from vgs_mlx.models import adapters
from vgs_mlx.models.precision import stored_as
from vgs_mlx.objective.objectives import OBJECTIVES
from vgs_mlx.recipe.options import Student
from vgs_mlx.runs import checkpoint
from vgs_mlx.runs import folder as run_folder

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "scripts"))
from benchmarks import precision

SHORT = (
    "data.source=shapes:8", "data.held_out=4", "rollout.max_completion_length=8", "train.steps=2",
    "train.learning_rate=1e-2", "train.evaluate_every=2", "train.evaluate_rows=2", "train.checkpoint_every=1",
)  # fmt: skip
GRPO = ("objective.name=grpo", "grpo.updates_per_rollout=2")
DENSE = (*GRPO, "rollout.max_completion_length=24")  # long enough for a step of reasoning
WAYS = {
    **{name: (f"objective.name={name}",) for name in OBJECTIVES if name != "grpo"},
    "grpo": GRPO,
    "grpo, pacr": (*DENSE, "grpo.reward=pacr"),
    "grpo, pdcr": (*DENSE, "grpo.reward=pdcr"),
    "grpo beside vgs": (*GRPO, "objective.mix=0.5"),
    "sft of the teacher": ("objective.name=sft", "objective.answers=teacher"),
    "exact, degraded": ("objective.norm_scale=exact", "objective.text_view=degraded"),
    "checkpointing": ("train.grad_checkpoint=true",),
    "watching": ("objective.name=standard", "objective.watch_norm_scale=true", "train.watch_every=1"),
    "picture cache": ("train.picture_cache_gb=0.01", "train.microbatch_size=1"),
}
STUDENTS = {
    "lora": (),
    "dora": ("student.train=dora",),
    "full": ("student.train=full",),
    "lora, vision": ("student.train_vision=true",),
    "full, vision": ("student.train=full", "student.train_vision=true", "train.grad_checkpoint=true"),
}


@pytest.fixture(scope="module", autouse=True)
def kept():
    """The stored precision, in this process and in those that it starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(KEEP_PRECISION, "1")
        yield


@pytest.fixture
def summed():
    """Packed products as an accelerator sums them. MLX's CPU build sums in bfloat16, and takes ten times as long."""
    with precision.summed_in_float32():
        yield


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> tuple[str, ...]:
    """A student whose language model is stored in 4 bits."""
    folder = stored_packed(tmp_path_factory.mktemp("packed"), group_size=64, class_predicate=language_part)
    return (f"student.path={folder}",)


def dtypes(tree) -> set[mx.Dtype]:
    return {each.dtype for _, each in tree_flatten(tree)}


def assert_trained(run: Path) -> None:
    """Two whole steps with finite figures, weights in float32, and an evaluation."""
    rows = metrics(run)
    assert [row["finite"] for row in rows] == [True, True]
    for row in rows:
        figures = {name: value for name, value in row.items() if isinstance(value, float)}
        assert all(map(math.isfinite, figures.values())), figures
    saved = [mx.load(str(file)) for file in (run / run_folder.FINAL).glob("*.safetensors")]
    assert set().union(*map(dtypes, saved)) == {mx.float32}
    assert 0 <= read_json(run / run_folder.RESULT)["accuracy_after"] <= 1


@pytest.mark.parametrize("way", WAYS)
def test_every_objective_trains(way, summed):
    run = finished(*SHORT, *WAYS[way])
    assert_trained(run)
    if way != "grpo":  # of whose few answers none may be right
        assert all(row["gradient_norm"] > 0 for row in metrics(run))
    if way == "watching":
        looks = run_folder.rows(run / run_folder.TERMS)
        assert [row["step"] for row in looks] == [0, 1, 2]
        assert all(math.isfinite(value) for row in looks for value in row["high"].values())


@pytest.mark.parametrize("kind", STUDENTS)
def test_what_trains_is_float32_and_the_rest_stays_as_it_is_stored(kind, summed):
    run = finished(*SHORT, *STUDENTS[kind])
    assert_trained(run)
    ready = toy_runs.ready(*SHORT, *STUDENTS[kind])
    student, trainable = ready.student.module, adapters.trainable_weights(ready.student.module)
    assert dtypes(trainable) == {mx.float32}
    frozen = {name: each for name, each in tree_flatten(student.parameters()) if name not in trainable}
    assert dtypes(frozen) == (set() if kind == "full, vision" else {mx.bfloat16})
    assert stored_as(ready.teacher.module) == ["4/8-bit", "bfloat16"]
    assert ready.student.shares_prefix and ready.teacher.shares_prefix
    state = mx.load(str(checkpoint.newest(run) / checkpoint.OPTIMIZER_FILE))
    assert dtypes({name: each for name, each in state.items() if name.endswith((".m", ".v"))}) == {mx.float32}


@pytest.mark.parametrize("kind", ["lora", "full, vision"])
def test_a_run_that_lost_its_last_step_goes_on_with_the_same_bytes(kind, summed, tmp_path):
    sets = (*SHORT, *STUDENTS[kind])
    run = copied(finished(*sets), tmp_path / "run")
    for lost in (run / run_folder.FINAL, run / run_folder.CHECKPOINTS / "step-000002"):
        shutil.rmtree(lost)
    go_on(run, *sets)
    assert same_run(run, finished(*sets))


def test_after_kill_9_a_packed_student_goes_on_with_the_same_bytes(packed, tmp_path):
    """With MLX's own packed products, forwards and backwards. No teacher: they are slow."""
    few = ("data.source=shapes:2", "rollout.prompts_per_step=1", "train.steps=3", "train.evaluate_every=3")
    sets, run = (*SHORT, *packed, *few, "objective.name=sft"), tmp_path / "run"
    process = spawned("distill", "--output", run, *options(*sets))
    wait_for((run / run_folder.CHECKPOINTS / "step-000001").exists, process)
    process.kill()
    process.communicate()
    assert not (run / run_folder.FINAL).exists()
    whole = tmp_path / "whole"
    for arguments in (("--resume", "--output", run), ("--output", whole, *options(*sets))):
        done = command("distill", *arguments)
        assert done.exit_code == 0 and "stored as 4/8-bit and bfloat16, run as that" in done.output, (
            done.output
        )
    assert same_run(run, whole)


@pytest.mark.parametrize("kind", ["lora", "full, vision"])
def test_a_run_is_exported_reported_and_evaluated(kind, summed, tmp_path):
    run = copied(finished(*SHORT, *STUDENTS[kind]), tmp_path / "run")
    for arguments in (
        ("export", run, "--output", tmp_path / "model", "--prompts", "4"),
        ("report", run, "--examples", "2"),
        ("evaluate", run, "--limit", "2"),
        ("evaluate", tmp_path / "model", "--limit", "2"),
        ("analyze", run, "--prompts", "2", "--batches", "1", "--bins", "2"),
    ):
        done = command(*arguments)
        assert done.exit_code == 0, done.output
    assert (run / "report.html").is_file()


def test_gradients_are_those_of_float32():
    """On the same rollouts, the packed teacher beside the same weights unpacked."""
    wide, stored = (precision.pair(Student(), widened=widened) for widened in (True, False))
    rollouts = precision.sampled(wide[0], prompts=12, completions=4, length=16)
    expected = precision.gradients(wide, rollouts)
    with precision.summed_in_float32():
        computed = precision.gradients(stored, rollouts)
    found = precision.beside(expected, computed)
    assert dtypes(computed.trees) == {mx.float32}
    assert found.tokens > 500 and found.cosine.keys() == {"standard", "steering", "preservation"}
    assert all(value >= 0.998 for value in found.cosine.values()), found
    assert all(value == pytest.approx(1, abs=0.01) for value in found.norm.values()), found
    assert found.gate >= 0.99, found
