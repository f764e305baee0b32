r"""Which texts are mathematical expressions, and how a parser of LaTeX reads them.

Few texts are: an expression has an operator, a command or a bracket, and no sign that the parser would misread. All
others are compared as text, since the parser reads letters as factors that may change places: C2H6O = CH6O2.
"""

import re

from vgs_mlx.grading.symbols import FUNCTION, GREEK, LATEX

LONGEST = 200  # characters; no sensible final answer is longer, and parsing time grows fast
CHARACTERS = re.compile(rf"[\w+\-*/^=(){{}}\[\]|!·×÷ .,±∞\\<>≤≥ℝ∪∫∑∏{GREEK}]+")
COMMANDS = re.compile(r"\\(?!(?:frac|sqrt|binom|pmod|bmod|mathbb|int|sum|prod|log|\W)(?![A-Za-z]))[A-Za-z]+")
OPERATOR = re.compile(rf"[+\-*/^(){{}}|!·×÷±∞=\\{GREEK}]")
SET = re.compile(r"\\[{}]|\[.*\]", re.DOTALL)
TOWER = re.compile(r"\d\s*\^\s*\{\s*\d+\s*\^|\^\s*\{?\d{5}")  # powers of powers: too large to compute
DECIMAL = re.compile(r"(?<![\w.])(\d*)\.(\d+)")
MONOMIAL = re.compile(r"-?\d+(?:\.\d+)?[a-z]{1,3}|[A-Za-z]|-?[\d.]+")
WORD = re.compile(r"[^\W\d_]{3,}")
CODE = re.compile(
    r"[A-Z]\d|(?<![\w.])\d+ +\d|(?<![A-Za-z])[A-Z]{2,}\d|\\frac\s*\{\s*d[^{}]*\}\s*\{\s*d[^{}]*\}"
)
NUMBER = r"\d+(?:\.\d+)?"
MIXED = re.compile(r"(?<![\d.])(\d+)\s*\\frac\s*\{\s*(\d+)\s*\}\s*\{\s*(\d+)\s*\}")
GROUPED = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")


def is_expression(text: str) -> bool:
    """Whether a parser can read it: it has an operator, a command or a bracket, and no words or codes."""
    if FUNCTION.search(text):
        text = text.replace("°", "")  # an angle's
    if len(text) > LONGEST or not CHARACTERS.fullmatch(text) or COMMANDS.search(text) or CODE.search(text):
        return False
    if SET.match(text) or TOWER.search(text):
        return False
    if "," in GROUPED.sub("", text) and not FUNCTION.search(text):
        return False
    letters = FUNCTION.sub(" ", re.sub(r"\\[A-Za-z]+", " ", text))
    if any(not set(word) <= set(GREEK) for word in WORD.findall(letters)):
        return False
    return bool(MONOMIAL.fullmatch(text) or OPERATOR.search(text) or FUNCTION.search(text))


def to_latex(text: str) -> str:
    """The expression in pure LaTeX."""
    text = GROUPED.sub("", text)
    text = DECIMAL.sub(_exact, MIXED.sub(_mixed, text))
    text = re.sub(rf"({NUMBER})\s*°", r"(\1π/180)", text)
    text = FUNCTION.sub(lambda found: f"\\{found[0]}", re.sub(r"log_e(?![A-Za-z])", "ln", text))
    text = "".join(f"{LATEX[each]} " if each in LATEX else each for each in text)
    text = re.sub(rf"({NUMBER})\s*/\s*({NUMBER})", r"\\frac{\1}{\2}", text)
    return _round_roots(text)


def _mixed(found: re.Match) -> str:
    """A whole number before a proper fraction, as a sum."""
    whole, above, below = found.groups()
    fraction = rf"\frac{{{above}}}{{{below}}}"
    return rf"({whole}+{fraction})" if int(above) < int(below) else f"{whole}{fraction}"


def _exact(found: re.Match) -> str:
    """A decimal as a fraction, since a parser would round it."""
    return rf"\frac{{{found[1]}{found[2]}}}{{1{'0' * len(found[2])}}}"


def _round_roots(text: str) -> str:
    r"""\sqrt(3) becomes \sqrt{3}."""
    while (found := re.search(r"\\sqrt\s*\(", text)) is not None:
        depth, place = 1, found.end()
        while place < len(text) and depth:
            depth += (text[place] == "(") - (text[place] == ")")
            place += 1
        if depth:
            return text
        text = rf"{text[: found.start()]}\sqrt{{{text[found.end() : place - 1]}}}{text[place:]}"
    return text
