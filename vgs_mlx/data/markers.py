"""Markers in a text that stand for a picture, a video or a sound: `<image>`, `<|image_1|>`, `[IMG]`, `![](a.png)`.

Pictures always come before the question here. A marker at either end of a question says no more than that, and is
removed. One inside the text names a place where the picture will not be, and would still mention a picture in the text
view: such a row is refused.
"""

import re

from vgs_mlx.data.pictures import shown
from vgs_mlx.errors import Refusal

MARKER = "<image>"
_ANY = re.compile(
    r"<\|?/?(?:[a-z]+_)*(?:image|img|picture|vision|video|audio|sound|speech)(?:[\s_-]*(?:\d+|[a-z_]+))?\|?/?>"
    r"|<(?:img|video|audio)\s[^<>]*>"  # HTML
    r"|\[(?:image|img|video|audio)(?:[\s_-]*(?:\d+|end|break|token|placeholder))?\]"
    r"|!\[[^\]]*\]\([^)\s]*\)",  # Markdown
    re.IGNORECASE,
)
_NOT_READ = re.compile(r"video|audio|sound|speech", re.IGNORECASE)
_FIRST = re.compile(rf"(?:\s*{MARKER})*")
_LAST = re.compile(rf"(?:{MARKER}\s*)*$")


def fault(text: str, start: int = 0, end: int | None = None) -> str | None:
    """Why the text can't be asked as it is: the first marker in text[start:end], with a fix; None without a marker."""
    marker = _ANY.search(text, start, len(text) if end is None else end)
    if marker is None:
        return None
    where = f"holds the marker {shown(marker[0])} at character {marker.start() + 1}"
    if _NOT_READ.search(marker[0]):
        return f"{where}: videos and sounds are not read: remove the marker, or omit the row"
    return f"{where}: pictures come before the text, never inside it: write 'picture 1' there instead"


def taken_out(question: str, pictures: int) -> str:
    """The question without the markers `<image>` at its ends. There may be none, or one for each of the `pictures`.

    Raises `Refusal` for another number of markers, for one elsewhere, and for one of another form.
    """
    start = _FIRST.match(question).end()
    end = max(start, _LAST.search(question).start())
    if reason := fault(question, start, end):
        raise Refusal(f"the question {reason}")
    count = question.count(MARKER)
    if count not in (0, pictures):
        raise Refusal(
            f"the question has {count} x {MARKER} for {pictures} picture{'s' * (pictures != 1)}: "
            f"write {MARKER} once for each picture, or not at all"
        )
    return question[start:end].strip()
