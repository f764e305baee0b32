"""Figures take the page's colours, share no id, and say in words what they show."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from vgs_mlx.figures.palette import DRAWN, LIGHT
from vgs_mlx.figures.series import Series
from vgs_mlx.report import figures
from vgs_mlx.report.figures import Frame, described, running_mean, smoothing

FALLING = Series("loss", [1, 2, 3], [3.0, None, 1.0])


def ids(svg: str) -> list[str]:
    return re.findall(r'\bid="([^"]+)"', svg)


def test_a_running_mean_is_over_what_is_there():
    """At the ends and at a gap there are fewer values."""
    found = running_mean(np.array([1.0, 3.0, np.nan, 5.0, 7.0]), 3)
    assert found == pytest.approx([2.0, 2.0, 4.0, 6.0, 6.0])
    assert np.isnan(running_mean(np.array([np.nan, np.nan]), 1)).all()


def test_a_few_steps_are_not_smoothed():
    assert [smoothing(count) for count in (0, 1, 19, 20, 80, 200)] == [1, 1, 1, 3, 9, 21]


def test_a_drawing_has_no_colour_of_its_own():
    banded = Series("b", [1, 2], [1, 2], [0, 1], [2, 3])
    svg = figures.lines("x", "Title", [FALLING, banded], Frame("step", level=2))
    assert not any(LIGHT[name] in svg for name in DRAWN)
    assert "var(--first)" in svg and "var(--second)" in svg
    assert set(re.findall(r"#[0-9a-f]{6}\b", svg)) <= {"#000000"}  # clip paths' black, never painted


def test_figures_of_one_page_share_no_id_and_refer_to_their_own():
    first, second = (figures.curve(name, "Loss", FALLING, [2]) for name in ("one", "two"))
    assert len(set(ids(first))) == len(ids(first))
    assert not set(ids(first)) & set(ids(second))
    referred = re.findall(r'(?:url\(#|href="#)([^)"]+)', first)
    assert referred and set(referred) <= set(ids(first))


def test_a_figure_is_an_image_with_a_title_and_a_description():
    root = ET.fromstring(figures.curve("loss", "Loss <over> steps", FALLING))
    assert root.get("role") == "img"
    assert root.get("aria-labelledby").split() == [root[0].get("id"), root[1].get("id")]
    assert root[0].text == "Loss <over> steps"
    assert root[1].text == "3.00 at 1, 1.00 at 3; lowest 1.00 at 3, highest 3.00 at 1"


def test_a_name_is_not_a_formula():
    assert "$x^2$" in figures.lines("x", "T", [Series("$x^2$", [1], [1]), FALLING], Frame("step"))


def test_a_series_without_values_is_drawn_and_said_to_have_none():
    assert described(Series("x", [1, 2], [None, None])) == "no values"
    assert "<svg" in figures.curve("x", "T", Series("x", [1, 2], [None, None]))


def test_an_interval_that_goes_beyond_the_edge_is_cut_and_described():
    rows = [("a", 1, 0, 2), ("two seeds", 1, -20, 22)]
    cut, whole = figures.forest("x", "T", rows, "points", 4.0), figures.forest("x", "T", rows, "points")
    assert "two seeds: 1.00 (−20.0 to 22.0)" in cut
    assert ">20<" in whole and ">20<" not in cut and ">4<" in cut
