"""A live table in a terminal, plain lines elsewhere."""

import io

from rich.console import Console

import toy_runs
from toy_runs import finished
from vgs_mlx.train import loop, run_folder
from vgs_mlx.train.screen import HEADINGS, Screen


def test_without_a_terminal_there_are_plain_lines(tmp_path):
    shown = io.StringIO()
    made_ready = toy_runs.ready("train.steps=1", "rollout.max_completion_length=2")
    run_folder.create(tmp_path / "run", made_ready.recipe)
    loop.run(made_ready, tmp_path / "run", Screen(Console(file=shown)))
    lines = shown.getvalue().splitlines()
    assert "\x1b" not in shown.getvalue()
    heading = next(number for number, line in enumerate(lines) if line.split()[:2] == ["step", "loss"])
    assert lines[heading + 1].split()[0] == "1"
    assert sum(line.startswith("step    ") for line in lines) == 2, "an evaluation before, one after"


def test_in_a_terminal_the_table_lives_and_evaluations_count_beside_it():
    row = run_folder.rows(finished() / run_folder.METRICS)[0]
    shown = io.StringIO()
    screen = Screen(Console(file=shown, force_terminal=True, width=120, highlight=False))
    with screen.training(4, 0) as show:
        show(row)
        with screen.counting("evaluating") as count:
            count(1, 2)
        screen.say("a line [not markup]")
        show({**row, "step": 2, "loss_visual": None})
    assert all(heading in shown.getvalue() for heading in HEADINGS)
    assert "a line [not markup]" in shown.getvalue()
