"""Numbers on a page: real minus signs, no sign for what rounds to 0, no insignificant digits."""

import pytest

from vgs_mlx.report.wording import number, percent, plural, points, seconds, short


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0321, "+3.2"), (-0.0321, "−3.2"), (0.0001, "0.0"), (-0.0001, "0.0"), (10.5, "+1,050.0")],
)
def test_a_difference_has_a_sign_unless_it_rounds_to_nothing(value, text):
    assert points(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(1234.5, "1,234"), (12.34, "12.3"), (1.234, "1.23"), (0.1234, "0.123"), (0.0, "0.000"), (-0.5, "−0.500"),
     (0.00012, "1.2e−04"), (None, "–")],
)  # fmt: skip
def test_a_number_of_any_size_has_about_three_digits(value, text):
    assert short(value) == text


def test_what_is_not_there_is_a_dash():
    assert (number(None), percent(None)) == ("–", "–")


def test_times_and_counts_read_well():
    assert [each.replace("\u202f", " ") for each in map(seconds, (0.5, 99.0, 600.0, 7200.0))] == [
        "0.500 s", "99.0 s", "10 min", "2.0 h",
    ]  # fmt: skip
    assert (plural(1, "step"), plural(1000, "step")) == ("1 step", "1,000 steps")
