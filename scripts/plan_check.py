"""Plans beside measurements: the peak of whole commands, each in a fresh process, on random models of 50 MB and more.

python scripts/plan_check.py              a table: what the plan says, what MLX held at most, and their ratio
python scripts/plan_check.py --only sft   the cases whose names hold that word; may be given again
python scripts/plan_check.py --steps      single steps in one process instead (--small: smaller models)
python scripts/plan_check.py --arrays     arrays of chunk x vocabulary in the loss phase, for every objective
"""

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import vgs_mlx  # noqa: F401  (before mlx: it loads a fast BLAS)

# isort: split
import click
import mlx.core as mx

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from benchmarks import arrays, step_peaks
from benchmarks.folders import Sizes, write_model, write_rows
from vgs_mlx.cli import main as vgs
from vgs_mlx.planning import report

STUDENT, TEACHER = Sizes(256, 16), Sizes(512, 8)
REAL = {"ids": 151_669, "rows": 151_936}  # Qwen3-VL's tokenizer and head
BASE = {
    "data.held_out": 0.5, "rollout.prompts_per_step": 2, "rollout.max_completion_length": 48, "rollout.batch_size": 8,
    "train.steps": 2, "train.evaluate_rows": 8, "objective.chunk_size": 32, "objective.norm_scale_every": 1,
}  # fmt: skip  # two steps: AdamW's moments are there from the second on
ROWS = 64  # half of them held out
HEADER = "| command | fullest phase | plan, MB | measured, MB | plan / measured |\n|---|---|---|---|---|"


@dataclass(frozen=True)
class Case:
    """One command on one pair of models."""

    name: str
    sets: dict[str, object]
    command: str = "distill"  # or one that reads the run that such a distill has left
    student: Sizes = STUDENT
    teacher: Sizes = TEACHER
    image: int = 144  # tokens of a prompt's picture
    solution: int = 0  # words of a row's solution


REAL_SIZES = {"student": Sizes(256, 4, **REAL), "teacher": Sizes(384, 4, **REAL)}
CASES = (
    Case("distill", {}),
    Case("distill, evaluation 32 rows at a time", {"rollout.batch_size": 32, "train.evaluate_rows": 32}),
    Case("distill, large pictures", {"rollout.batch_size": 4, "train.evaluate_rows": 4}, image=576),
    Case("distill, micro-batches of 8", {"train.microbatch_size": 8, "rollout.completions_per_prompt": 8}),
    Case("distill, checkpointed", {"train.grad_checkpoint": True}),
    Case("distill, standard", {"objective.name": "standard"}),
    Case("distill, standard, η watched", {"objective.name": "standard", "objective.watch_norm_scale": True}),
    Case("distill, watched", {"train.watch_every": 1, "rollout.batch_size": 4, "train.evaluate_rows": 4}),
    Case("distill, va-opd", {"objective.name": "va-opd"}),
    Case("distill, full weights", {"student.train": "full"}),
    Case("distill, full weights, η known", {"student.train": "full", "objective.norm_scale": 0.5}),
    Case("distill, DoRA", {"student.train": "dora"}),
    Case("distill, vision trains", {"student.train_vision": True}),
    Case("distill, sft on long solutions", {"objective.name": "sft"}, solution=400),
    Case("distill, sft on the teacher's answers", {"objective.name": "sft", "objective.answers": "teacher"}),
    Case(
        "distill, grpo with pdcr",
        {"objective.name": "grpo", "grpo.updates_per_rollout": 2, "grpo.reward": "pdcr"},
    ),
    Case("distill, V = 151,936", {}, **REAL_SIZES),
    Case("distill, V = 151,936, chunks of 64", {"objective.chunk_size": 64}, **REAL_SIZES),
    Case("distill, V = 151,936, standard", {"objective.name": "standard"}, **REAL_SIZES),
    Case("evaluate", {}, "evaluate"),
    Case("export", {}, "export"),
    Case("export, full weights", {"student.train": "full"}, "export"),
    Case("analyze", {}, "analyze"),
    Case("report", {}, "report"),
)
OPTIONS = {
    "export": ("--output", "FOLDER/exported"),
    "analyze": ("--batches", "1", "--prompts", "4"),
    "report": (),
}


def measure(case: Case, folder: Path) -> dict[str, float]:
    """Plan and peak of one command, in bytes; called in a process of its own, which `folder` is new to."""
    run, sets = (
        str(folder / "run"),
        [f"--set={key}={json.dumps(value)}" for key, value in (BASE | case.sets).items()],
    )
    student, teacher = (
        str(write_model(folder / role, vars(case)[role], seed))
        for seed, role in enumerate(("student", "teacher"))
    )
    rows = str(write_rows(folder / "data", ROWS, case.image, case.solution))
    watched = _Watched()
    vgs(["distill", f"--student={student}", f"--teacher={teacher}", f"--data={rows}", f"--output={run}", *sets],
        standalone_mode=False)  # fmt: skip
    if case.command != "distill":
        watched = _Watched()
        options = [each.replace("FOLDER", str(folder)) for each in OPTIONS.get(case.command, ())]
        vgs([case.command, run, *options], standalone_mode=False)
    return watched.figures()


class _Watched:
    """The first plan that is made and the most that MLX holds from now on, whoever resets its own peak."""

    def __init__(self) -> None:
        self.plans, self.peak, self._reset, check = [], 0, mx.reset_peak_memory, report.check
        mx.reset_peak_memory = self._note
        report.check = lambda *given, **options: self.plans.append(check(*given, **options)) or self.plans[-1]
        self._reset()

    def _note(self) -> None:
        self.peak = max(self.peak, mx.get_peak_memory())
        self._reset()

    def figures(self) -> dict[str, float]:
        self._note()
        return {"phase": self.plans[0].phase, "plan": self.plans[0].peak, "measured": self.peak}


def row(name: str, found: dict[str, float]) -> str:
    """A row of the table."""
    plan, measured = found["plan"], found["measured"]
    return (
        f"| {name} | {found['phase']} | {plan / 1e6:,.0f} | {measured / 1e6:,.0f} | {plan / measured:.2f} |"
    )


@click.command(help=__doc__.replace("\n\npython", "\n\n\b\npython"))
@click.option("--only", multiple=True)
@click.option("--steps", is_flag=True)
@click.option("--small", is_flag=True)
@click.option("--arrays", "count_arrays", is_flag=True)
@click.option(
    "--here", type=click.IntRange(0), hidden=True, help="The number of a case, measured in this process."
)
def main(only: tuple[str, ...], steps: bool, small: bool, count_arrays: bool, here: int | None) -> None:
    if here is not None:
        with tempfile.TemporaryDirectory() as folder:
            found = measure(CASES[here], Path(folder))
        print(f"\n{json.dumps(found)}")
    elif count_arrays:
        print("| objective | sliced | plan | measured |\n|---|---|---|---|")
        for case in arrays.cases():
            for sliced in (False, True):
                counted, found = (each(case, sliced=sliced) for each in (arrays.planned, arrays.measured))
                print(f"| {case.name} | {'yes' if sliced else 'no'} | {counted} | {found:.1f} |", flush=True)
    elif steps:
        print(HEADER.replace("command | fullest phase", "setting | phase"))
        for line in step_peaks.rows(small):
            print(line, flush=True)
    else:
        print(HEADER)
        for number, case in enumerate(CASES):
            if not only or any(word in case.name for word in only):
                print(row(case.name, _in_a_fresh_process(number)), flush=True)


def _in_a_fresh_process(number: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--here", str(number)]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise click.ClickException(f"{CASES[number].name}: {done.stderr.strip()}")
    return json.loads(done.stdout.strip().splitlines()[-1])


if __name__ == "__main__":
    main()
