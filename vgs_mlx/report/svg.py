"""matplotlib's figures as SVG that lives inside a page: its colours are the page's, and its ids its own.

Figures are drawn in stand-in colours, each of which becomes a CSS variable: one drawing for light, dark and
paper. Text stays text, in the page's font.
"""

import io
import re
import xml.etree.ElementTree as ET

import matplotlib
from markupsafe import Markup
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

COLOURS = {
    "ink": "#010203",
    "muted": "#020304",
    "rule": "#030405",
    "first": "#040506",
    "second": "#050607",
    "third": "#060708",
    "fourth": "#070809",
    "fifth": "#08090a",
    "sixth": "#090a0b",
    "alarm": "#0a0b0c",
}
"""The page's CSS variables (style.css) and the colour that stands for each while matplotlib draws."""

SERIES = tuple(COLOURS[name] for name in ("first", "second", "third", "fourth", "fifth", "sixth"))
SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
REFERENCE = re.compile(r"url\(#([^)]+)\)")
STYLE = {
    "svg.fonttype": "none",
    "font.size": 11,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "text.parse_math": False,  # a name with dollar signs is no formula
    "text.color": COLOURS["ink"],
    "axes.edgecolor": COLOURS["rule"],
    "axes.labelcolor": COLOURS["muted"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.unicode_minus": True,
    "xtick.color": COLOURS["rule"],
    "ytick.color": COLOURS["rule"],
    "xtick.labelcolor": COLOURS["muted"],
    "ytick.labelcolor": COLOURS["muted"],
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
}


def drawing(width: int, height: int) -> Figure:
    """An empty figure of so many CSS pixels, which scales with its place in the page."""
    return Figure(figsize=(width / 72, height / 72), dpi=72, layout="constrained")


def embedded(figure: Figure, name: str, title: str, description: str) -> Markup:
    """The figure as an <svg> element with a text alternative. `name` is unique in the page."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    root = ET.fromstring(buffer.getvalue())
    _drop(root, "metadata")
    _drop(root, "style")
    for element in root.iter():
        _rewrite(element, name)
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    root.set("role", "img")
    root.set("aria-labelledby", f"{name}-title {name}-description")
    for place, (kind, text) in enumerate((("title", title), ("description", description))):
        element = ET.Element(f"{{{SVG}}}{'title' if kind == 'title' else 'desc'}", id=f"{name}-{kind}")
        element.text = text
        root.insert(place, element)
    ET.register_namespace("", SVG)
    ET.register_namespace("xlink", XLINK)
    return Markup(ET.tostring(root, encoding="unicode"))


def _drop(parent: ET.Element, tag: str) -> None:
    for child in list(parent):
        if child.tag.rpartition("}")[2] == tag:
            parent.remove(child)
        else:
            _drop(child, tag)


def _rewrite(element: ET.Element, name: str) -> None:
    """Page-wide unique ids, and CSS variables for the stand-in colours."""
    if "id" in element.attrib:
        element.set("id", f"{name}-{element.get('id')}")
    for attribute, value in list(element.attrib.items()):
        if attribute == f"{{{XLINK}}}href" and value.startswith("#"):
            element.set(attribute, f"#{name}-{value[1:]}")
        elif "url(#" in value:
            element.set(attribute, REFERENCE.sub(lambda found: f"url(#{name}-{found[1]})", value))
    for attribute in ("style", "fill", "stroke"):
        if (value := element.get(attribute)) is not None:
            for variable, colour in COLOURS.items():
                value = value.replace(colour, f"var(--{variable})")
            element.set(attribute, value)
