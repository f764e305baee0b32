"""Options in a column of their own are found, and whether the question lists them."""

import pytest

from vgs_mlx.data import options


@pytest.mark.parametrize(
    "name",
    ["options", "choices", "Choices", "answer_options", "answer_choices", "option_a", "optionB", "choice1",
     "choices_text", "options_list", "multiple_choice_options"],
)  # fmt: skip
def test_columns_of_options_are_known_by_their_names(name):
    assert options.columns(["id", name, "question"]) == [name]
    assert options.columns([name], not_options=[name]) == []


def test_single_letters_are_options_where_there_are_several():
    assert options.columns(["A", "B", "hint", "C"]) == ["A", "B", "C"]
    assert options.columns(["A", "question"]) == []


@pytest.mark.parametrize(
    "name", ["num_choices", "correct_option", "optional", "adoption", "answer", "question"]
)
def test_other_columns_hold_no_options(name):
    assert options.columns([name]) == []


@pytest.mark.parametrize(
    "cell",
    [
        ["red", "blue"], {"A": "red", "B": "blue"}, "['red', 'blue']", "A. red\nB. blue", ["A. red", "(B) blue"],
        {"label": ["A", "B"], "text": ["red", "blue"]}, [{"label": "A", "text": "red"}, {"text": "blue"}],
    ],
)  # fmt: skip
def test_options_are_unlisted_until_the_question_holds_them(cell):
    assert options.unlisted(options.texts(cell), "Which colour?") == ["red", "blue"]
    assert options.unlisted(options.texts(cell), "Which colour?\nA. Red\nB. Coloured") == [
        "blue"
    ]  # a whole word
    assert options.unlisted(options.texts(cell), "Which colour?\n(A) red (B) blue") == []


@pytest.mark.parametrize("cell", [None, "", "  ", [], {}, [None, ""], float("nan"), "[]", True])
def test_an_empty_cell_has_no_options(cell):
    assert options.texts(cell) == []


def test_letters_are_options_where_there_is_nothing_else():
    assert options.texts(["a", "b"]) == ["a", "b"]
    assert options.unlisted(options.texts(["A", "B"]), "Which is larger, A or B?") == []


def test_numbers_are_options_and_a_text_that_only_looks_like_a_list_is_read_as_text():
    assert options.unlisted(options.texts([3, 4.5]), "3 or?") == ["4.5"]
    assert options.texts("[red") == ["[red"]
