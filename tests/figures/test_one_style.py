"""All figures have one palette and one style, and look the same each time they are made."""

import ast
import re
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from vgs_mlx.figures import files, series, style
from vgs_mlx.figures.series import Series

ROOT = Path(__file__).parents[2]
ROOM = ROOT / "vgs_mlx" / "figures"
FILES = [
    path
    for folder in ("vgs_mlx", "scripts")
    for suffix in ("py", "css", "html", "js")
    for path in sorted((ROOT / folder).rglob(f"*.{suffix}"))
    if ROOM not in path.parents
]
HEX = re.compile(r"#(?:[0-9a-fA-F]{8}|[0-9a-fA-F]{6}|[0-9a-fA-F]{3})\b")
STYLING = ("rcParams", "rc_context", "matplotlib.style", "pyplot")
COLOUR = re.compile("colou?r$|^[cf]c$|^ec$")  # color, facecolor, edgecolor, markerfacecolor, ...


def faults(path: Path) -> list[str]:
    """Where a file chooses how a figure looks: lines with a colour or a setting of matplotlib's."""
    text = path.read_text(encoding="utf-8")
    found = [match[0] for match in HEX.finditer(text)]
    if path.suffix != ".py" or ("matplotlib" not in text and "vgs_mlx.figures" not in text):
        return found
    found += [name for name in STYLING if name in text]
    given = [
        each for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call) for each in node.keywords
    ]
    return found + [
        f"{each.arg}={each.value.value!r}"
        for each in given
        if each.arg and COLOUR.search(each.arg) and isinstance(each.value, ast.Constant)
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_the_room_of_figures_chooses_colours_and_style(path):
    assert faults(path) == []


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("a.py", 'COLOUR = "#1f5f99"', "#1f5f99"),
        ("a.css", "p { color: #fff; }", "#fff"),
        ("a.py", 'import matplotlib\nmatplotlib.rcParams["font.size"] = 9', "rcParams"),
        ("a.py", 'from matplotlib.axes import Axes\naxes.axhline(0, color="0.6")', "color='0.6'"),
    ],
)
def test_a_colour_or_a_setting_elsewhere_is_found(tmp_path, name, text, fault):
    (tmp_path / name).write_text(text)
    assert faults(tmp_path / name) == [fault]


def drawn() -> Figure:
    figure = style.blank(4, 3)
    axes = figure.add_subplot()
    series.draw(
        axes, Series("$a$, falling", [0, 1, 2], [3.0, None, 1.0], [2, None, 0], [4, None, 2]), style.line(0)
    )
    axes.legend()
    return figure


def test_a_figure_s_files_are_the_same_bytes_each_time_and_hold_their_text(tmp_path):
    contents = []
    for _ in range(2):
        with style.applied():
            paths = files.save(drawn(), tmp_path, "figure")
        assert [path.name for path in paths] == ["figure.svg", "figure.png"]
        contents.append([path.read_bytes() for path in paths])
    assert contents[0] == contents[1]
    assert b">$a$, falling<" in contents[0][0]


def test_lines_differ_in_more_than_their_colour():
    looks = [style.line(place) for place in range(36)]
    assert len({repr(each) for each in looks}) == 36
    assert len({repr(each["linestyle"]) for each in looks[:6]}) == 6


def test_a_style_ends_with_its_figure():
    before = Figure().get_facecolor()
    with style.applied():
        assert Figure().get_facecolor() != before
    assert Figure().get_facecolor() == before
