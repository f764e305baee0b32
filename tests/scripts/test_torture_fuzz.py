"""The fuzzers of scripts/torture.py: what they find where there is nothing, and that they find what is there."""

import contextlib
import sys
import time
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "scripts"))
from torture import damaged_tensors, files, harmless, rows, scene
from torture.fuzzing import TimeUp, chance, fault_of_line, limited
from vgs_mlx.data import datasets, jsonl
from vgs_mlx.data.prompts import render
from vgs_mlx.errors import Refusal
from vgs_mlx.models import adapters
from vgs_mlx.models.loading import load_processor
from vgs_mlx.resources import tiny_model

ADAPTER = "run/final/adapters.safetensors"
CASES = 24


def test_random_rows_are_taken_or_refused_by_name_and_the_same_seed_gives_the_same_verdicts(tmp_path):
    first, second = (rows.run(40, 0, tmp_path / name) for name in ("first", "second"))
    assert first.passed, first.failures
    assert first.line == second.line and "40 rows" in first.line and "0 faults" in first.line


@pytest.mark.parametrize(
    ("place", "name", "found"),
    [
        (jsonl, "to_example", "KeyError: 'question'"),
        (datasets, "_make", "sound rows in it"),
        (rows, "render", "its pixels are not finite"),
    ],
)
def test_a_fault_of_a_reader_is_found(place, name, found, tmp_path, monkeypatch):
    def nothing(processor, example, settings):
        prompt = render(processor, example, settings)
        seen = prompt.student["with_image"]
        media = {**seen.media, "pixel_values": seen.media["pixel_values"] * float("nan")}
        return replace(prompt, student={**prompt.student, "with_image": replace(seen, media=media)})

    broken = {"to_example": lambda *_: {}["question"], "_make": lambda *_, **__: "no", "render": nothing}
    monkeypatch.setattr(place, name, broken[name])
    ended = rows.run(20, 6, tmp_path)
    assert not ended.passed and any(found in each for each in ended.failures), ended.failures


def test_a_row_that_nobody_could_grade_right_is_found(tmp_path):
    processor = load_processor(tiny_model("student"), "student")
    file = rows._lines(chance(0), 4, tmp_path / "0")
    [example, *_] = datasets.load_held_out(file.source, datasets.Reading(on_bad_row="skip")).held_out
    assert rows.faults_of(processor, example, file.settings) == []
    assert "graded wrong" in rows.faults_of(processor, replace(example, answer="{1"), file.settings)[0]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scene") / "whole"
    scene.make(folder)
    return folder


def command(name: str) -> scene.Command:
    return next(each for each in scene.COMMANDS if each.name == name)


def case(whole: Path, place: Path, name: str, file: str, change) -> tuple[str, list[str]]:
    """How a command on a copy of the scene ends, one file of which is changed: the end and what is wrong with it."""
    at = scene.copied(whole, place)
    before = (at / file).read_bytes()
    (at / file).write_bytes(change(before))
    return files.judged(files.Case(0, command(name), file, "changed"), at, before, (at / file).read_bytes())


def without_a_weight(content: bytes) -> bytes:
    header, body = damaged_tensors.header_of(content)
    _, header, body = damaged_tensors.dropped(
        chance(0), header, body, sorted(set(header) - {"__metadata__"})[0]
    )
    return damaged_tensors.joined(header, body)


def test_random_damage_is_refused_in_one_line_or_harmless(whole, tmp_path):
    found = [files.one(whole, 0, number, tmp_path / "case") for number in range(CASES)]
    assert [fault for _, faults in found for fault in faults] == []
    assert {"accepted", "refused"} == {end for end, _ in found}


def test_an_adapter_without_a_weight_is_refused(whole, tmp_path):
    assert case(whole, tmp_path / "case", "evaluate", ADAPTER, without_a_weight) == ("refused", [])


def test_a_loader_that_ignores_a_missing_weight_is_found(whole, tmp_path, monkeypatch):
    def lenient(module, folder, **_):
        adapters.set_weights(module, mx.load(str(folder / adapters.ADAPTER_FILE)))

    monkeypatch.setattr(adapters, "load_weights", lenient)
    end, [fault] = case(whole, tmp_path / "case", "evaluate", ADAPTER, without_a_weight)
    assert end == "accepted" and "accepted, though other names" in fault


def test_an_error_of_the_program_is_found_with_its_place(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(adapters, "load_weights", lambda *_, **__: {}["lora_a"])
    end, [fault] = case(whole, tmp_path / "case", "evaluate", ADAPTER, without_a_weight)
    assert end == "neither" and "KeyError in test_torture_fuzz.py" in fault


def test_what_is_left_half_written_is_found(whole, tmp_path, monkeypatch):
    def careless(module, folder, **_):
        (folder / "half").write_text("")
        raise Refusal(f"{ADAPTER}: no")

    monkeypatch.setattr(adapters, "load_weights", careless)
    _, [fault] = case(whole, tmp_path / "case", "evaluate", ADAPTER, without_a_weight)
    assert "is refused, and 1 files are not as before: ['run/final/half']" in fault


def test_a_command_that_does_not_end_is_found(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "SECONDS", 0.2)
    monkeypatch.setattr(adapters, "load_weights", lambda *_, **__: time.sleep(60))
    assert case(whole, tmp_path / "case", "evaluate", ADAPTER, lambda content: content) == (
        "neither",
        ["took more than 0.2 s"],
    )


def test_a_limit_ends_what_catches_every_exception():
    with pytest.raises(TimeUp), limited(0.05):
        while True:
            with contextlib.suppress(Exception):
                time.sleep(1)


@pytest.mark.parametrize("line", ["", " ", "a\nb", "a\x1b[2Jb", "x" * 5_000])
def test_a_line_that_no_user_can_read_is_a_fault(line):
    assert fault_of_line(line)
    assert fault_of_line("data.jsonl:3: broken JSON: “é” 你好") is None


@pytest.mark.parametrize(
    ("file", "before", "after", "harm"),
    [
        ("student/config.json", b'{"depth": 3}', b'{ "depth": 3, "new": [] }', None),
        ("student/config.json", b'{"depth": 3}', b'{"depth": 4}', None),
        ("student/config.json", b'{"depth": 3}', b'{"depth": "3"}', "depth is '3'"),
        ("student/config.json", b'{"depth": 3}', b'{"depth": 3, "depth": 3}', "twice"),
        ("student/config.json", b'{"depth": 3}', b'{"depth": NaN}', "no JSON"),
        ("student/model.safetensors", b"", b"", None),
    ],
)
def test_the_oracle_knows_harm_from_what_nobody_can_tell(file, before, after, harm):
    found = harmless.reason("evaluate a model", file, before, after)
    assert found is None if harm is None else harm in found


def test_the_oracle_reads_tensors_by_itself(whole):
    content = (whole / ADAPTER).read_bytes()
    header, _ = damaged_tensors.header_of(content)
    name = sorted(set(header) - {"__metadata__"})[0]

    def harm(change) -> str | None:
        _, changed, rest = change(chance(1), *damaged_tensors.header_of(content), name)
        return harmless.reason("evaluate", ADAPTER, content, damaged_tensors.joined(changed, rest))

    assert harm(damaged_tensors.metadata) is None
    assert "not finite" in harm(damaged_tensors.not_finite)
    assert all(
        harm(each) for each in (damaged_tensors.renamed, damaged_tensors.dropped, damaged_tensors.surplus)
    )
    assert harmless.reason("evaluate", ADAPTER, content, content[:-4])
    assert harmless.reason("evaluate", ADAPTER, content, None)
