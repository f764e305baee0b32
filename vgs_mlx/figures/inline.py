"""A figure as an <svg> element inside a page: in the page's colours, light or dark, and with unique ids."""

import io
import re
import xml.etree.ElementTree as ET

from markupsafe import Markup
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from vgs_mlx.figures import style
from vgs_mlx.figures.palette import DRAWN, LIGHT

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
REFERENCE = re.compile(r"url\(#([^)]+)\)")


@style.applied()
def embedded(figure: Figure, name: str, title: str, description: str) -> Markup:
    """The element, with a title and a description for screen readers. `name` must be unique in the page."""
    buffer = io.StringIO()
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
    """Make its ids unique in the page, and its colours the page's variables."""
    if "id" in element.attrib:
        element.set("id", f"{name}-{element.get('id')}")
    for attribute, value in list(element.attrib.items()):
        if attribute == f"{{{XLINK}}}href" and value.startswith("#"):
            element.set(attribute, f"#{name}-{value[1:]}")
        elif "url(#" in value:
            element.set(attribute, REFERENCE.sub(lambda found: f"url(#{name}-{found[1]})", value))
    for attribute in ("style", "fill", "stroke"):
        if (value := element.get(attribute)) is not None:
            for colour in DRAWN:
                value = value.replace(LIGHT[colour], f"var(--{colour})")
            element.set(attribute, value)
