"""Text can be read: enough contrast in light and dark, and a scale that steadily darkens or lightens."""

import itertools
import re

import pytest

from vgs_mlx.figures import palette
from vgs_mlx.figures.palette import DARK, DRAWN, LIGHT
from vgs_mlx.report.page import HERE
from vgs_mlx.report.tokens import LEVELS

STYLE = (HERE / "style.css").read_text(encoding="utf-8")
LEVEL_NAMES = [f"v{level}" for level in range(1, LEVELS)]

each_theme = pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])


def luminance(colour: str) -> float:
    """WCAG 2: relative luminance."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@each_theme
@pytest.mark.parametrize("name", ["ink", "muted", "right", "wrong", "alarm"])
def test_text_stands_out_from_the_paper(theme, name):
    assert contrast(theme[name], theme["paper"]) >= 4.5


@each_theme
def test_every_token_can_be_read_on_its_colour(theme):
    for level, name in enumerate(LEVEL_NAMES, 1):
        ink = theme["on-strong" if level >= 6 else "ink"]
        assert contrast(ink, theme[name]) >= 4.5, name


@each_theme
def test_lines_stand_out_from_the_paper(theme):
    for name in palette.SERIES:
        assert contrast(theme[name], theme["paper"]) >= 3, name


@each_theme
def test_the_scale_is_told_by_lightness_alone(theme):
    """So it can be read by the colour-blind and on a grey print; each step moves away from the paper."""
    steps = [contrast(theme["paper"], theme[name]) for name in LEVEL_NAMES]
    assert steps == sorted(steps) and all(
        later / earlier > 1.03 for earlier, later in itertools.pairwise(steps)
    )


def test_both_themes_have_every_colour_and_the_page_uses_no_other():
    assert LIGHT.keys() == DARK.keys() >= {*DRAWN}
    used = set(re.findall(r"var\(--([\w-]+)\)", STYLE))
    defined = set(re.findall(r"--([\w-]+):", STYLE + palette.css()))
    assert used <= defined and LIGHT.keys() <= defined


def test_a_drawn_colour_names_one_variable():
    """A page replaces these colours by variables, so no two of them may be equal."""
    assert len({LIGHT[name] for name in DRAWN}) == len(DRAWN)


def test_the_style_requests_nothing():
    assert "@import" not in STYLE and "url(" not in STYLE
