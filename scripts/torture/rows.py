"""Random rows of data, sound and odd: wrong types, hostile texts, strange pictures, damaged lines and tables.

Real: the files (.jsonl, parquet, `save_to_disk`, pictures), the package's readers, the tiny student's tokenizer and
processor, the grader. Nothing is simulated; nothing is trained.

What must hold: nothing is raised but a `Refusal`; every refused row is named by its place with one printable line; a
row that is taken renders in both views, with finite pixels and a placeholder for each picture token, and its own
answer in a box is graded right; sound rows among the others are taken; the same file gives the same verdicts.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import datasets as hf
import numpy as np

from torture import odd_rows, tables
from torture.fuzzing import TimeUp, chance, fault_of_line, limited
from torture.outcome import Outcome, outcome
from vgs_mlx.data import datasets
from vgs_mlx.data.datasets import Reading
from vgs_mlx.data.prompts import render
from vgs_mlx.errors import Refusal
from vgs_mlx.grading import grade_example
from vgs_mlx.models.loading import load_processor
from vgs_mlx.recipe.options import Data
from vgs_mlx.resources import tiny_model
from vgs_mlx.runs.rows import reading
from vgs_mlx.types import Example, View

COUNT = 1_000
AT_ONCE = 20  # rows of a file
SOUND = 4  # of them that must be taken
SECONDS = 60.0  # of the processor, for a file
TABLES = 0.25  # the share of files that are no .jsonl
AGAIN = 4  # every so manieth file is read once more
COMPLETIONS = (
    "",
    "\\boxed{}",
    "red",
    "\\boxed{red}",
    "so \\boxed{\\frac{1}{2}}",
    "\\boxed{3",
    "\\boxed{x = 3, y}",
)


@dataclass
class Tally:
    """What was found so far."""

    taken: int = 0
    refused: int = 0
    files: int = 0
    failures: list[str] = field(default_factory=list)
    verdicts: Any = field(default_factory=hashlib.sha256)


@dataclass(frozen=True)
class File:
    """A data set to read, and what is known of it."""

    source: str
    places: tuple[str, ...]  # what its rows are called, all of them
    sound: frozenset[str]  # those that must be taken
    settings: Data


def run(count: int | None, seed: int, folder: Path) -> Outcome:
    """`count` rows; the same seed makes the same ones and must give the same verdicts."""
    hf.config.HF_DATASETS_CACHE, before = folder / "cache", hf.config.HF_DATASETS_CACHE
    hf.disable_progress_bars()
    processor = load_processor(tiny_model("student"), "student")
    tally, left, number = Tally(), count or COUNT, 0
    try:
        while left > 0:
            rows = min(AT_ONCE, left)
            _one_file(processor, seed, number, rows, folder / f"{number}", tally)
            left, number = left - rows, number + 1
    finally:
        hf.config.HF_DATASETS_CACHE = before
    line = (
        f"{tally.taken + tally.refused:,} rows in {tally.files:,} files, seed {seed}: "
        f"{tally.taken:,} taken and rendered, {tally.refused:,} refused by name, "
        f"{len(tally.failures)} faults; verdicts {tally.verdicts.hexdigest()[:12]}"
    )
    return outcome(line, tally.failures)


def _one_file(processor: Any, seed: int, number: int, rows: int, folder: Path, tally: Tally) -> None:
    """Make a file, read it, judge every row."""
    tally.files += 1
    file = made(seed, number, rows, folder)
    try:
        with limited(SECONDS):
            faults, verdicts = judged(processor, file)
            if number % AGAIN == 0 and judged(processor, file)[1] != verdicts:
                faults.append("gives other verdicts the second time")
    except TimeUp as late:
        faults, verdicts = [str(late)], {}
    except Exception as error:
        faults, verdicts = [f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"], {}
    tally.failures += [f"file {number} of seed {seed} ({file.source}): {fault}" for fault in faults]
    tally.taken += sum(verdict == "" for verdict in verdicts.values())
    tally.refused += sum(verdict != "" for verdict in verdicts.values())
    tally.verdicts.update(repr(sorted(verdicts.items())).replace(str(folder), "").encode("utf-8", "replace"))


def made(seed: int, number: int, rows: int, folder: Path) -> File:
    """File number `number` of a seed, in a new folder."""
    draw = chance(seed, "rows", number)
    return (_table if draw.random() < TABLES else _lines)(draw, rows, folder)


def _lines(draw: odd_rows.Draw, rows: int, folder: Path) -> File:
    good, odd = odd_rows.pictures(draw, folder, count=max(2, rows // 2))
    odd_rows.places(folder)
    file, lines, places, sound = folder / "rows.jsonl", [], [], set()
    chosen = set(draw.sample(range(rows), min(SOUND, rows)))
    for row in range(rows):
        lines += [b""] * draw.choice([0, 0, 0, 2])
        place = f"{file}:{len(lines) + 1}"
        places.append(place)
        if row in chosen:
            sound.add(place)
            lines.append(json.dumps(odd_rows.sound_row(draw, good)).encode())
        else:
            lines.append(odd_rows.as_line(draw, odd_rows.odd_row(draw, good, odd)))
    end = draw.choice([b"\n", b"\n", b"\r\n"])
    file.write_bytes(draw.choice([b"", b"\xef\xbb\xbf"]) + end.join(lines) + draw.choice([b"", end]))
    more = draw.choice([{}, {}, {"allow_outside": True}, {"ignore_columns": ("options", "A", "kind")}])
    return File(str(file), tuple(places), frozenset(sound), Data(system_prompt="", **more))


def _table(draw: odd_rows.Draw, rows: int, folder: Path) -> File:
    folder.mkdir(parents=True)
    source = folder / "table"
    all_sound = tables.write(draw, source, rows)
    places = tuple(f"{source}:train:{row}" for row in range(rows))
    return File(str(source), places, frozenset(places if all_sound else ()), Data(system_prompt=""))


def judged(processor: Any, file: File) -> tuple[list[str], dict[str, str]]:
    """What is wrong with how a file was read; and of each row why it was refused, "" where it was taken."""
    how = reading(processor, file.settings)
    try:
        data = datasets.load_held_out(file.source, replace(how, on_bad_row="skip"))
    except Refusal as refusal:
        fault = fault_of_line(str(refusal))
        faults = [f"its refusal {fault}: {refusal}"] if fault else []
        faults += (
            [] if Path(file.source).name in str(refusal) else [f"is refused without its name: {refusal}"]
        )
        faults += [f"is refused with {len(file.sound)} sound rows in it: {refusal}"] if file.sound else []
        return faults, dict.fromkeys(file.places, str(refusal))
    taken = {_place(file, example): example for example in data.held_out}
    refused = {bad.where: bad.reason for bad in data.skipped}
    faults = _refusals(file, refused) + _faults_of_taken(processor, file, taken)
    if sorted([*taken, *refused]) != sorted(file.places):
        faults.append(
            f"rows {sorted({*file.places} ^ {*taken, *refused})[:3]} are neither taken nor refused, or twice"
        )
    faults += [f"{place}: a sound row is refused: {refused[place]}" for place in file.sound & refused.keys()]
    faults += _refused_as_a_whole(file, how, refused)
    return faults, dict.fromkeys(taken, "") | refused


def _place(file: File, example: Example) -> str:
    """What a taken row's place is called where it is refused."""
    return str(Path(file.source).parent / example.id)


def _refusals(file: File, refused: dict[str, str]) -> list[str]:
    said = ((place, reason, fault_of_line(reason)) for place, reason in refused.items())
    return [f"{place}: its reason {fault}: {reason[:300]!r}" for place, reason, fault in said if fault]


def _refused_as_a_whole(file: File, how: Reading, refused: dict[str, str]) -> list[str]:
    """Under on_bad_row=fail there is a refusal where any row is bad, and it names bad rows, each with its place."""
    try:
        datasets.load_held_out(file.source, replace(how, on_bad_row="fail"))
    except Refusal as refusal:
        _, *rows, _ = str(refusal).splitlines() if refused else ["", ""]
        nameless = [row for row in rows if not any(row.startswith(f"  {place}: ") for place in refused)]
        left_out = [row for row in nameless if not row.startswith("  ... and ")]
        return [] if rows and not left_out else [f"is refused as a whole without its rows: {refusal!s:.300}"]
    return ["is taken as a whole, bad rows and all"] if refused else []


def _faults_of_taken(processor: Any, file: File, taken: dict[str, Example]) -> list[str]:
    faults = []
    for place, example in taken.items():
        try:
            faults += [f"{place}: {fault}" for fault in faults_of(processor, example, file.settings)]
        except Exception as error:
            said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            faults.append(f"{place}: was taken, and can't be asked or graded: {said}")
    return faults


def faults_of(processor: Any, example: Example, settings: Data) -> list[str]:
    """Why a row should not have been taken: what of it can't be fed to the model, or be graded."""
    prompt = render(processor, example, settings)
    faults = [] if example.question.strip() and example.pictures else ["has no question or no picture"]
    faults += _faults_of_view(processor, prompt.student["with_image"], len(example.pictures))
    faults += _faults_of_view(processor, prompt.student["text_only"], 0)
    if not grade_example(f"\\boxed{{{example.answer}}}", example).right:
        faults.append(f"its own answer in a box is graded wrong: {example.answer[:80]!r}")
    wrong = [each for each in COMPLETIONS if not isinstance(grade_example(each, example).right, bool)]
    return faults + [f"the grade of {each!r} is neither right nor wrong" for each in wrong]


def _faults_of_view(processor: Any, view: View, pictures: int) -> Sequence[str]:
    vocabulary = processor.tokenizer.get_vocab()
    placeholder = np.count_nonzero(view.ids == vocabulary["<|image_pad|>"])
    if not len(view.ids) or view.ids.min() < 0 or view.ids.max() >= len(vocabulary):
        return ["a view is empty or has ids beyond the vocabulary"]
    if not pictures:
        return ["the text view speaks of a picture"] if placeholder or view.media else []
    merged = processor.inner.image_processor.merge_size**2
    if (
        len(view.media["image_grid_thw"]) != pictures
        or view.media["image_grid_thw"].prod(1).sum() != placeholder * merged
    ):
        return [f"{placeholder} placeholders for the grids {view.media['image_grid_thw'].tolist()}"]
    if (
        len(view.media["pixel_values"]) != view.media["image_grid_thw"].prod(1).sum()
        or not np.isfinite(view.media["pixel_values"]).all()
    ):
        return ["its pixels are not finite, or not as many as its grid says"]
    return []
