"""A live table in a terminal, plain lines elsewhere."""

import io

from rich.console import Console

import toy_runs
from toy_runs import finished
from vgs_mlx.runs import folder as run_folder
from vgs_mlx.runs.screen import HEADINGS, Screen
from vgs_mlx.train import loop


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


def test_what_takes_long_says_so_in_a_terminal_and_makes_way_for_what_counts():
    """Never two things that live at one time, which rich before 14.1 refuses: here it would raise."""
    shown = io.StringIO()
    screen = Screen(Console(file=shown, force_terminal=True, width=120, highlight=False))
    screen.console.set_live = only_one(screen.console)
    with screen.working("loading the [big] teacher"):
        screen.say("a line meanwhile")
        with screen.counting("checking rows") as count:
            count(1, 2)
        with screen.working("something inside"):
            pass
    with screen.training(4, 0), screen.working("not beside the table"):
        pass
    for words in (
        "loading the [big] teacher ...",
        "a line meanwhile",
        "checking rows",
        "something inside ...",
    ):
        assert words in shown.getvalue()
    assert "not beside the table" not in shown.getvalue()


def only_one(console):
    """As rich 13 had it."""

    def set_live(live):
        assert not console._live_stack, "only one live display may be active at once"
        console._live_stack.append(live)
        return True

    return set_live


def test_without_a_terminal_nothing_says_that_it_works():
    shown = io.StringIO()
    with Screen(Console(file=shown)).working("loading the teacher"):
        pass
    assert shown.getvalue() == ""


def test_from_the_first_second_on_the_table_shows_how_many_steps_there_are():
    shown = io.StringIO()
    with Screen(Console(file=shown, force_terminal=True, width=120)).training(40, 3):
        pass
    assert "3/40" in shown.getvalue()


def test_texts_of_data_are_shown_and_not_obeyed():
    shown = io.StringIO()
    screen = Screen(Console(file=shown, force_terminal=True, width=120, highlight=False))
    screen.say("pq:train:1 [red]x[/red] \x1b[31m \u202e")
    assert "pq:train:1 [red]x[/red] \\x1b[31m \\u202e" in shown.getvalue()
