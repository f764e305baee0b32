"""Damaged files of models, runs, data and recipes, and then what a user would type, in this process.

Real: the files, the damage to them, the commands (through click's runner), the tiny models. Simulated: nothing.
A case is a fresh copy of a scene (scene.py), one file of it damaged (damage.py), one command that reads it.

What must hold: a command ends with 0, 1 (`plan`: it doesn't fit) or 2, in time and in little memory; what is refused is
one printable line that names the file or its folder; then every file is as it was and none is new; what is accepted is
harmless by an oracle that reads the damaged file itself (harmless.py); and what was written is whole.
"""

import json
import resource
import shutil
import traceback
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import click
from click.testing import Result

from torture import damage, harmless, scene
from torture.fuzzing import TimeUp, chance, fault_of_line, limited
from torture.outcome import Outcome, outcome
from torture.scene import COMMANDS, Command

COUNT = 1_000
SECONDS = 60.0  # of the processor, for a command: it takes at most 6
MEMORY = 1.5e9  # bytes by which a command may raise the process's peak
CODES = {0: "accepted", 1: "accepted", 2: "refused"}
LONGEST_LIST = 23  # lines, of a refusal that lists bad rows
OF_STEPS = ("geometry.json", "terms.jsonl", "metrics.jsonl", "completions.jsonl")
KNOWN = ("student and teacher ", "the data's ", "the student's ", "the teacher's ")
"""How a refusal names what differs from something else, without a file's name."""
OF_RECIPE = (
    "--student",
    "--teacher",
    "data set",
    "data file",
    "objective",
    "train.",
    "rollout.",
    "data.",
    "student.",
    "grpo.",
)
KIB = 1024  # bytes of ru_maxrss's unit on Linux


@dataclass(frozen=True)
class Case:
    """One command on one damaged file."""

    number: int
    command: Command
    file: str  # within the scene
    damage: str

    def __str__(self) -> str:
        return f"case {self.number}: {self.command.name}, {self.file} {self.damage}"


def run(count: int | None, seed: int, folder: Path) -> Outcome:
    """`count` cases; the same seed makes the same ones."""
    whole = folder / "whole"
    scene.make(whole)
    failures, ends = [], Counter()
    for number in range(count or COUNT):
        end, faults = one(whole, seed, number, folder / "case")
        failures += [f"seed {seed}, {fault}" for fault in faults]
        ends[end] += 1
        if faults:  # now: a thousand cases take ten minutes
            click.echo("\n".join(failures[-len(faults) :]), err=True)
    line = (
        f"{ends.total():,} damaged files, seed {seed}: {ends['refused']:,} refused in one line with its name, "
        f"{ends['accepted']:,} accepted and harmless, {len(failures)} faults"
    )
    return outcome(line, failures)


def one(whole: Path, seed: int, number: int, place: Path) -> tuple[str, list[str]]:
    """Case `number` of a seed in a copy of the scene at `place`: how it ended, and what is wrong with that."""
    draw = chance(seed, "files", number)
    command = draw.choices(COMMANDS, [each.weight for each in COMMANDS])[0]
    at = scene.copied(whole, place)
    try:
        files = [
            each
            for each in sorted(at.rglob("*"))
            if each.is_file() and _read_by(command, each.relative_to(at))
        ]
        file = draw.choice(files)
        name, before = str(file.relative_to(at)), file.read_bytes()
        case = Case(number, command, name, damage.harm(draw, file, files))
        if draw.random() < 0.02:  # and now and then nothing at all, which must be accepted
            shutil.rmtree(file) if file.is_dir() else None
            file.write_bytes(before)
            case = Case(number, command, name, "whole")
        after = file.read_bytes() if file.is_file() else None
        end, faults = judged(case, at, before, after)
    finally:
        shutil.rmtree(at)
    return end, [f"{case}: {fault}" for fault in faults]


def _read_by(command: Command, file: Path) -> bool:
    """Whether a command may read a file: what surely nothing reads is not worth a case."""
    goes_on, tells = command.name in ("resume", "train on"), command.name.startswith(("report", "summary"))
    unread = (
        ("step-000001" in file.parts and command.name != "evaluate a step")
        or file.suffix in (".png", ".svg", ".md", ".html", ".csv")
        or (file.name in ("watched.json", "adapter_config.json") and not goes_on)
        or (file.name in OF_STEPS and not (goes_on or tells))
    )
    return file.parts[0] in command.reads and not unread


def judged(case: Case, at: Path, before: bytes, after: bytes | None) -> tuple[str, list[str]]:
    """Run the command; how it ended, and what is wrong with that."""
    kept, peak = _state(at), _peak()
    try:
        with limited(SECONDS):
            result = case.command.run(at)
    except TimeUp as late:
        return "neither", [str(late)]
    faults = (
        [] if _peak() - peak < MEMORY else [f"raised the peak of memory by {(_peak() - peak) / 1e9:.1f} GB"]
    )
    end = CODES.get(result.exit_code, "neither")
    if result.exception and not isinstance(result.exception, SystemExit):
        *_, last = traceback.extract_tb(result.exception.__traceback__)
        said = " ".join(str(result.exception).split())[:160]
        return "neither", [
            *faults,
            f"{type(result.exception).__name__} in {Path(last.filename).name}:{last.lineno}: {said}",
        ]
    if end == "refused":
        return end, faults + _faults_of_refusal(case, at, result, kept, before == after)
    if end == "accepted":
        why = harmless.reason(case.command.name, case.file, before, after)
        return end, faults + ([f"accepted, though {why}"] if why else []) + _half_written(at)
    return end, [*faults, f"ends with {result.exit_code}"]


def _faults_of_refusal(
    case: Case, at: Path, result: Result, kept: dict[str, bytes], whole: bool
) -> list[str]:
    """A refusal is for damage alone, is one line that names the place, and leaves everything as it was."""
    _, found, said = result.stderr.rpartition("vgs-mlx: ")
    said = said.strip("\n")
    folders = [str(each) for each in (at / case.file).parents if each.is_relative_to(at) and each != at]
    faults = [f"refuses a whole scene: {said}"] if whole else []
    unreadable = [fault for line in said.split("\n") if (fault := fault_of_line(line))]
    if not found or unreadable or said.count("\n") > LONGEST_LIST:
        faults.append(
            f"its refusal {(unreadable or ['is not there or too long'])[0]}: {result.output[-300:]!r}"
        )
    elif not any(name in said for name in _names(case, folders)):
        faults.append(f"is refused without its name: {said}")
    now = _state(at)
    if changed := sorted(name for name in kept.keys() | now.keys() if kept.get(name) != now.get(name)):
        faults.append(f"is refused, and {len(changed)} files are not as before: {changed[:4]} ({said})")
    return faults


def _names(case: Case, folders: list[str]) -> tuple[str, ...]:
    """Any of which tells a user where to look: a recipe's keys are known by their options too."""
    own = OF_RECIPE if case.file.endswith("recipe.yaml") else ()
    return Path(case.file).name, *KNOWN, *own, *folders


def _state(at: Path) -> dict[str, bytes]:
    """Every file and folder, and what it holds."""
    return {str(each.relative_to(at)): each.read_bytes() if each.is_file() else b"" for each in at.rglob("*")}


def _half_written(at: Path) -> list[str]:
    """What a command that succeeded left behind that isn't whole: a file beside, a row of a run that went on."""
    faults = [
        f"leaves {each.relative_to(at)}"
        for each in at.rglob(".*")
        if each.name.endswith((".writing", ".old"))
    ]
    for file in (at / "fused").glob("*.json"):
        faults += [] if _is_json(file.read_bytes()) else [f"writes {file.relative_to(at)}, which is no JSON"]
    return faults


def _is_json(content: bytes) -> bool:
    try:
        return json.loads(content) is not None
    except ValueError:
        return False


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB
