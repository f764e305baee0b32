"""Plans are what is measured, and say what helps."""

import gc
import sys
from pathlib import Path

import mlx.core as mx
import pytest

from vgs_mlx.device import KEEP_PRECISION
from vgs_mlx.planning import commands, plan, resting
from vgs_mlx.planning.footprint import Body, device_of, saved_per_token
from vgs_mlx.planning.plan import Lengths, changed
from vgs_mlx.planning.sizes import read_size
from vgs_mlx.recipe.options import Recipe, Student
from vgs_mlx.resources import recipes_folder

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "scripts"))
from benchmarks import step_peaks

CASES = {case.name: case for case in step_peaks.cases(small=True)}
SEEN = Lengths(160, 1024)


@pytest.mark.parametrize(
    "name",
    [
        "micro-batch 1",
        "checkpointed",
        "standard",
        "full",
        "full, 32 micro-batches",
        "full, checkpointed",
        "full, η measured",
    ],
)
def test_the_measured_peak_is_within_15_percent_of_the_plan(name):
    case = CASES[name]
    gc.collect()
    others = mx.get_active_memory()  # models that other tests keep
    student, teacher = step_peaks.models(True, case.recipe.student)
    expected = step_peaks.planned(step_peaks.size_of(student), step_peaks.size_of(teacher), case)
    found = step_peaks.measure(student, teacher, case)
    for phase, measured in found.items():
        assert measured - others == pytest.approx(expected[phase], rel=0.15), phase


@pytest.mark.parametrize(
    "name",
    [
        "one pass",
        "one pass, λ = 0",
        "one pass, checkpointed",
        "one pass, full",
        "one pass, η measured",
        "one pass, vision trains",
    ],
)
def test_one_pass_peaks_where_the_plan_says(name):
    """Of views that are differentiated together, all that the backward pass needs is there at one time."""
    case = CASES[name]
    gc.collect()
    others = mx.get_active_memory()
    student, teacher = step_peaks.models(True, case.recipe.student)
    expected = step_peaks.planned(step_peaks.size_of(student), step_peaks.size_of(teacher), case)["step"]
    found = step_peaks.measure(student, teacher, case)["step"] - others
    assert 0.95 <= expected / found <= 1.10, (expected, found)


def size(name: str):
    return read_size(str(recipes_folder() / "configs" / f"qwen3-vl-{name}.json"), "--student")


def bytes_of(made: plan.Plan, part: str) -> int:
    """The most that a part takes in any moment."""
    return max(moment.get(part, 0) for phase in made.phases for moment in phase.moments)


def planned(*changes, device="metal", seen=SEEN):
    recipe = Recipe()
    for key, value in changes:
        recipe = changed(recipe, key, value)
    return commands.training(recipe, size("2b"), size("8b"), seen, device)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (("train.microbatch_size", 1), "backward"),
        (("train.grad_checkpoint", True), "backward"),
        (("train.max_tokens_per_microbatch", 2500), "backward"),
        (("rollout.max_completion_length", 128), "backward"),
        (("objective.preservation_coef", 0.0), "chunk buffers"),
        (("objective.chunk_size", 8), "chunk buffers"),
        (("rollout.batch_size", 4), "KV cache"),
        (("rollout.prompts_per_step", 2), "teacher's hidden states"),
        (("objective.name", "standard"), "teacher's activations"),
    ],
)
def test_what_should_save_memory_does(change, part):
    less, before = bytes_of(planned(change), part), bytes_of(planned(), part)
    assert less < before or (part == "teacher's activations" and less == before)


def test_one_pass_takes_more_memory_where_two_views_are_differentiated():
    one, two = planned(("train.passes", "one")), planned(("train.passes", "two"))
    assert bytes_of(one, "backward") > 1.2 * bytes_of(two, "backward")
    assert bytes_of(one, "cotangents") < bytes_of(two, "cotangents")
    assert two.peak == planned().peak, "vgs waits for its gate"
    standard = [planned(("objective.name", "standard"), ("train.passes", each)) for each in ("auto", "one")]
    assert standard[0].phases == standard[1].phases


def test_a_quantised_teacher_is_smaller_and_on_the_cpu_the_same():
    whole, packed = planned(), planned(("teacher.bits", 4))
    stored = size("8b-4bit")
    assert packed.resting["teacher"] == stored.language_weights.stored + stored.vision_weights.stored
    assert packed.resting["teacher"] < 0.4 * whole.resting["teacher"]
    on_cpu = planned(("teacher.bits", 4), device="cpu").resting["teacher"]
    assert on_cpu == planned(device="cpu").resting["teacher"] == 4 * 8_767_123_696


def test_a_cpu_that_keeps_the_stored_precision_is_planned_with_the_bytes_of_the_files(monkeypatch):
    widened = planned(device="cpu")
    monkeypatch.setenv(KEEP_PRECISION, "1")
    kept, metal = planned(device="cpu"), planned(device="metal")
    assert kept.resting == metal.resting != widened.resting
    assert metal.peak < kept.peak < widened.peak  # its kernels still make all attention scores


def test_trainable_weights_are_counted_by_kind():
    student = size("2b")
    lora = 28 * 16 * (2048 + 2048 + 2 * (2048 + 1024) + 2048 + 2048 + 3 * (2048 + 6144))
    assert resting.trainable(Student(rank=16), student) == lora
    assert resting.trainable(Student(rank=16, targets=("q_proj",)), student) == 28 * 16 * 4096
    assert resting.trainable(Student(train="full"), student) == student.language_weights.elements
    assert resting.trainable(Student(train="dora"), student) > lora


def test_saved_activations_follow_the_derivatives():
    """Counted by hand for float32 LoRA without ranks: 4 hidden, 3 queries, 3 keys or values, 5 intermediate."""
    body = Body(size("2b"), device_of("cpu"), 4, "lora", 0)
    assert saved_per_token(body) == 4 * (4 * 2048 + 3 * 2048 + 3 * 1024 + 5 * 6144)
    narrow = Body(size("2b"), device_of("metal"), 2, "lora", 0)
    assert saved_per_token(narrow) == (4 + 20) * 2048 + (4 + 4) * 2048 + 6 * 1024 + (8 + 4) * 6144


def test_no_teacher_no_bytes_of_one():
    made = planned(("objective.name", "sft"))
    assert made.resting["teacher"] == 0 and bytes_of(made, "teacher's activations") == 0


def test_prompts_are_taken_as_long_as_max_pixels_allows():
    assert plan.lengths(Recipe(), size("2b")).image == 1024
    assert plan.lengths(changed(Recipe(), "data.max_pixels", 256 * 32 * 32), size("2b")).image == 256
