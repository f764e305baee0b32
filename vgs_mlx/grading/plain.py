r"""One spelling for what looks or means the same: styles, spaces, signs and letters, in LaTeX or in Unicode.

`canonical` keeps all that may change an answer: letters, numbers, signs, brackets and their order.
"""

import re
import unicodedata
from functools import lru_cache

from vgs_mlx.grading.symbols import BOARD, FUNCTIONS, UNICODE
from vgs_mlx.grading.units import UPRIGHT, read_unit

ROW_END = "\ue000"  # the \\ of a matrix
_INNER = "[^{}]*"
for _ in range(4):  # braces within braces, as deep as answers go
    _INNER = rf"(?:[^{{}}]|\{{{_INNER}\}})*"
GROUP = rf"\{{({_INNER})\}}"
STYLES = (
    "text|textbf|textit|textrm|textsf|texttt|textsc|textnormal|textup|mathrm|mathbf|mathit|mathsf|mathtt|mathnormal|"
    "operatorname|mbox|hbox|fbox|emph|boldsymbol|bm|pmb|underline|ce|mathop|mathbin|displaylines|ensuremath|boxed"
)
STYLE = re.compile(rf"\\(?:{STYLES})\*?\s*{GROUP}")
SWITCH = re.compile(
    r"\\(?:text)?color\s*\{\w+\}|\\(?:bf|rm|it|sf|tt|em|bfseries|itshape|displaystyle|textstyle|scriptstyle|tiny|small|normalsize|large|Large|"
    r"LARGE|huge|Huge|limits|nolimits|mathrm|mathbf|mathit|text|boldsymbol|bm)(?![A-Za-z])\s*"
)
SIZES = re.compile(r"\\(?:left|right|middle|[bB]igg?[lrm]?)(?![A-Za-z])\s*\.?")
SPACES = re.compile(r"\\[,;:> ]|\\(?:q?quad|thinspace|enspace|,)(?![A-Za-z])|\\[hv]space\*?\{[^{}]*\}|~|\s+")
GROUPING = re.compile(r"(?<=\d)(?:,?\s*\\!\s*|\\,|\{,\})(?=\d{3}(?!\d))")
COMMAND = re.compile(r"\\([A-Za-z]+)")
DEGREES = re.compile(
    r"\^\s*(?:○|∘|\{\s*(?:∘|\\circ)\s*\}|\\circ(?![A-Za-z]))|\\(?:degree|textdegree)(?![A-Za-z])"
)
PRIMES = re.compile(r"\^\s*(?:\{\s*((?:\\prime\s*|')+)\}|(\\prime(?![A-Za-z])|'))")
SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿⁱ", "0123456789+-=()ni", strict=True))
SUBSCRIPTS = dict(zip("₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎ₐₑₒₓₙᵢ", "0123456789+-=()aeoxni", strict=True))
KEPT = re.compile(f"([{''.join(BOARD.values())}])")
RAISED = re.compile(f"[{''.join(SUPERSCRIPTS)}]+")
LOWERED = re.compile(f"[{''.join(SUBSCRIPTS)}]+")
SAME_CHARACTERS = str.maketrans({
    "−": "-", "‐": "-", "‑": "-", "‒": "-", "–": "-", "—": "-", "―": "-", "º": "°", "˚": "°", "′": "'", "’": "'",
    "‘": "'", "ʼ": "'", "`": "'", "´": "'", "″": '"', "“": '"', "”": '"', "„": '"', "«": '"', "»": '"',
    "⁄": "/", "∕": "/", "∗": "*", "⋅": "·", "∙": "·", "•": "·", "∣": "|", "、": ",", "。": ".", "，": ",", "∆": "Δ",
    "⩽": "≤", "⩾": "≥", "∶": ":", "♡": "♥", "♤": "♠", "♢": "♦", "♧": "♣", "⟶": "→", "➔": "→", "➡": "→", "⁢": "",
})  # fmt: skip
SIGNS_IN_ASCII = {"**": "^", "...": "…", "<=>": "⇔", ">=": "≥", "<=": "≤"}
EDGES = ",;:。 "


@lru_cache(maxsize=8192)
def canonical(text: str) -> str:
    r"""The text in one spelling: commands as Unicode (\pi is π), no styles or sizes, a single space for any space.

    Braces stay if they group (\frac{1}{2}, x^{10}). UPRIGHT marks a unit that was set upright after a number.
    """
    text = _without_delimiters(_characters(text))
    text = text.replace(r"\\", ROW_END) if r"\begin" in text else text.replace(r"\\", " ")
    text = re.sub(r"\{([,:;])\}", r"\1", GROUPING.sub(",", text))
    text = re.sub(r"\\!(?![A-Za-z])", "", re.sub(r"\\!(?=[A-Za-z])", " ", text))
    text = re.sub(r"^~(?=\s*[\d$])(?!.*~$)", "≈", text)
    text = SPACES.sub(" ", re.sub(r" ~ (?=△|∠|\\triangle|\\angle)", "∼", text))
    text = _without_styles(re.sub(r"\\([%&#_])", r"\1", text) if r"\begin" not in text else text)
    text = _commands(text).replace("\\$", "$")
    text = re.sub(r" +", " ", text).strip().removesuffix("\\")
    return _without_edges(text)


def bare(text: str) -> str:
    """The text without the marks of upright units."""
    return re.sub(rf"[ {UPRIGHT}]+", " ", text).strip() if UPRIGHT in text else text


def _characters(text: str) -> str:
    """The text with one spelling of each character; superscripts and fractions in one character become LaTeX."""
    if text.isascii():
        return text
    text = RAISED.sub(lambda found: f"^{{{''.join(map(SUPERSCRIPTS.get, found[0]))}}}", text)
    text = LOWERED.sub(lambda found: f"_{{{''.join(map(SUBSCRIPTS.get, found[0]))}}}", text)
    text = "".join(map(_vulgar, text))
    text = "".join(part if part in BOARD.values() else _compatible(part) for part in KEPT.split(text))
    text = re.sub(r"√\s*(\d+|[^\W\d_]|\()", _root, text)
    text = re.sub(r"([^\W_])\u0304", r"\\overline{\1}", text)
    return "".join(map(_digit, (each for each in text if unicodedata.category(each) != "Cf")))


def _compatible(text: str) -> str:
    return unicodedata.normalize("NFKC", text.translate(SAME_CHARACTERS)).translate(SAME_CHARACTERS)


def _digit(character: str) -> str:
    """The ASCII digit for a digit of any script."""
    return str(unicodedata.decimal(character, character))


def _vulgar(character: str) -> str:
    r"""½ becomes \frac{1}{2}."""
    parts = unicodedata.decomposition(character)
    if not parts.startswith("<fraction>"):
        return character
    above, _, below = unicodedata.normalize("NFKC", character).partition("⁄")
    return rf"\frac{{{above}}}{{{below}}}" if below else character


def _root(found: re.Match) -> str:
    return r"\sqrt(" if found[1] == "(" else rf"\sqrt{{{found[1]}}}"


def _without_delimiters(text: str) -> str:
    """The text without the delimiters of mathematics around it, or in pairs inside it."""
    text = re.sub(r"^(\*\*|__|`)(.*)\1$", r"\2", text.strip())
    for opening, closing in (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]")):
        if text.startswith(opening) and text.endswith(closing) and len(text) > len(opening + closing):
            text = text.removeprefix(opening).removesuffix(closing).strip()
    unescaped = re.sub(r"\\\$", "", text)
    if (
        unescaped.count("$") % 2 == 0
        and "$" in unescaped
        and not re.search(r"\$\d[\d.,]*(?=[^$]*\$\d)", text)
    ):
        text = re.sub(r"(?<!\\)\$", "", text)
    return text


def _without_styles(text: str) -> str:
    def unwrapped(found: re.Match) -> str:
        """The content of a style, with a mark if it is the unit of what precedes it."""
        content, before = found[1], text[: found.start()].rstrip()
        if re.fullmatch(r"\s*(?:and|or|per)\s*", content):
            return f" {content} "
        ends_value = before[-1:].isalnum() or before[-1:] in tuple(")}|!°")
        is_index = re.search(r"[_^]\d?$", before) is not None
        if ends_value and not is_index and not re.match(r"\s", content) and content[:1].isdigit():
            return f" {content}"  # 2\text{3} is not 23
        return (UPRIGHT if ends_value and not is_index and read_unit(content) else "") + content

    while (unstyled := STYLE.sub(unwrapped, text)) != text:
        text = unstyled
    return SWITCH.sub("", text)


def _commands(text: str) -> str:
    text = re.sub(
        r"\\([lr])brace(?![A-Za-z])", lambda found: "\\{" if found[1] == "l" else "\\}", SIZES.sub("", text)
    )
    text = re.sub(r"\{([^{}]*)\\over(?![A-Za-z])([^{}]*)\}", r"\\frac{\1}{\2}", text)
    text = DEGREES.sub("°", text)
    text = PRIMES.sub(lambda found: "'" * (found[0].count("prime") + found[0].count("'")), text)
    text = re.sub(r"\\mathbb\s*\{?([RZQNC])\}?", lambda found: BOARD[found[1]], text)
    text = COMMAND.sub(_character, text)
    text = re.sub(r"([∠∡△⊙]) ?\{(\w+)\}", r"\1\2", text)
    text = re.sub(r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}", text)
    text = re.sub(r"\\frac\s*(\d)\s*\{", r"\\frac{\1}{", text)
    text = re.sub(rf"\\frac\s*{GROUP}\s*(\d)", r"\\frac{\1}{\2}", text)
    text = re.sub(r"\\sqrt\s*(\d)", r"\\sqrt{\1}", text)
    text = re.sub(r"(?<![A-Za-z\\])pi(?![A-Za-z])", "π", text)
    text = re.sub(r"(?<![A-Za-z\\])(sqrt)(?=\s*\()", r"\\sqrt", text)
    text = re.sub(r"([_^])\s*\{\s*(\w)\s*\}", r"\1\2", text)
    for ascii_, sign in SIGNS_IN_ASCII.items():
        text = text.replace(ascii_, sign)
    return re.sub(r"(?<!\d)!=", "≠", text)


def _character(found: re.Match) -> str:
    r"""The character that a command stands for, a function's bare name, or the command unchanged."""
    name = found[1]
    if name in ("dfrac", "tfrac", "cfrac"):
        return r"\frac"
    if name in UNICODE:
        return UNICODE[name]
    if name not in FUNCTIONS:
        return found[0]
    return f" {name}" if found.string[: found.start()][-1:].isalpha() else name


def _without_edges(text: str) -> str:
    """The text without punctuation at its end and without braces around the whole."""
    while True:
        shorter = text.rstrip(EDGES)
        if shorter.endswith(".") and not shorter.endswith(".."):
            shorter = shorter[:-1].rstrip()
        if shorter.startswith("{") and _closes(shorter) == len(shorter) - 1:
            shorter = shorter[1:-1].strip()
        if shorter == text:
            return text
        text = shorter


def _closes(text: str) -> int:
    """Where the brace that `text` starts with is closed; -1 if it never is."""
    depth = 0
    for place, character in enumerate(text):
        if character in "{}" and text[place - 1 : place] != "\\":
            depth += 1 if character == "{" else -1
            if depth == 0:
                return place
    return -1
