r"""Grades a completion: is the final answer in its last \boxed{} the right one? And how sure an accuracy is.

Strict on purpose. An answer outside a box is wrong: the system prompt asks for the box, and a student that
was cut off before it has not answered. An answer is compared as a whole, never looked for inside a sentence.
Its form says how: as an option's letter, as a quantity, as words, or else as an expression.
"""

import math
import re

from vgs_mlx.data.expressions import same_expression
from vgs_mlx.data.quantities import cut_unit, read_quantity, same_quantity

LONGEST = 1_000  # characters; a longer answer is right only where it is the very same text

BOX = re.compile(r"\\boxed\s*\{")
OPTION = re.compile(r"(?:(?:option|choice|answer)\s*:?\s*)?[(\[]?([a-j])[)\]]?[.:]?", re.IGNORECASE)
STYLE = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox)\s*\{([^{}]*)\}")
# A styled piece at the end, perhaps to a power
UPRIGHT_END = re.compile(STYLE.pattern + r"[\s\d^{}²³.$\\)\]]*$")
# LaTeX that changes the looks alone, and what stands for it
LOOKS = [
    # 10,\!080 and 10\,080 are ten thousand and eighty
    (re.compile(r"(?<=\d)(?:,?\s*\\!\s*|\\,|\{,\})(?=\d{3}(?!\d))"), ","),
    (re.compile(r"\\!(?![a-zA-Z])"), ""),  # no width at all; before a letter it ends a command's name
    (re.compile(r"\\[,;:! ]|\\q?quad(?![a-zA-Z])|~|\s+"), " "),
    (re.compile(r"\\(?:left|right)(?![a-zA-Z])"), ""),
    (re.compile(r"\\[dt]frac(?![a-zA-Z])"), r"\\frac"),
    (re.compile(r"\\frac\s*(\d)\s*(\d)"), r"\\frac{\1}{\2}"),
    (re.compile("[−‐‑–]"), "-"),
]
FUNCTIONS = "(?:arc)?(?:sin|cos|tan|cot|sec|csc)h?|log|exp|sqrt|frac|lim|max|min|gcd|lcm|mod"
PROSE = re.compile(rf"(?<![\\a-z])(?!(?:{FUNCTIONS})(?![a-z]))[^\W\d_]{{3,}}")  # on casefolded text
ENVIRONMENT = re.compile(r"\\(?:begin|end)\{\w+\*?\}")  # of a matrix, say
EDGES = ".,;:!?\"'“”‘’()。，！？；：、"


def extract_answer(text: str) -> str | None:
    r"""What stands in the last \boxed{...}, inner braces included; None without a box.

    None too where the last box is never closed: the completion was cut off inside its answer.
    """
    boxes = list(BOX.finditer(text))
    if not boxes:
        return None
    depth, escaped = 1, False
    for place in range(boxes[-1].end(), len(text)):
        character = text[place]
        if not escaped and character in "{}":
            depth += 1 if character == "{" else -1
            if depth == 0:
                return text[boxes[-1].end() : place].strip()
        escaped = character == "\\" and not escaped  # \{ and \} are signs, not groups
    return None


def is_correct(completion: str, answer: str) -> bool:
    """Whether the completion's final answer is `answer` (which may stand in a box itself)."""
    given, boxed = extract_answer(completion), extract_answer(answer)
    return given is not None and same_answer(given, answer if boxed is None else boxed)


def gradable(answer: str) -> bool:
    r"""Whether any completion can be graded right by `answer`: no \boxed{} holds "{1", and "." says nothing."""
    if extract_answer(f"\\boxed{{{answer}}}") != answer.strip():
        return False
    return len(answer) > LONGEST or bool(_plain(answer))


def same_answer(given: str, right: str) -> bool:
    r"""Whether two final answers say the same.

    Letters: A, (A), A., Option A. Quantities by value, exactly: 1/2 = 0.5 = 50%, and 3 cm = 3, but not 3 m.
    Words but for case, spaces and punctuation: red. = Red. Expressions through math-verify, with units as
    quantities have them; a letter is a unit there where it is set upright: 2\pi \text{ m} = 2\pi, but not 2\pi m.
    """
    if max(len(given), len(right)) > LONGEST:
        return given == right
    upright = [UPRIGHT_END.search(text) is not None for text in (given, right)]
    given, right = _plain(given), _plain(right)
    if not given or not right or given == right:
        return bool(given) and given == right
    options = [OPTION.fullmatch(text) for text in (given, right)]
    if options[1]:
        return options[0] is not None and options[0][1].casefold() == options[1][1].casefold()
    quantities = [read_quantity(text) for text in (given, right)]
    if quantities[0] and quantities[1]:
        return same_quantity(quantities[0], quantities[1])
    if _same_but_for_unit(given, right, upright):
        return True
    if _is_prose(given) or _is_prose(right) or (_is_words(given) and _is_words(right)):
        return _words(given) == _words(right)  # math-verify would take letters for factors: red = r e d = erd
    return same_expression(given, right)


def accuracy_interval(right: int, n: int) -> tuple[float, float]:
    """The 95 % interval of an accuracy, `right` out of `n` (Wilson, 1927). (0, 1) where nothing was asked."""
    if not 0 <= right <= n:
        raise ValueError(f"{right} right answers out of {n}")
    if n == 0:
        return 0.0, 1.0
    z = 1.959963984540054  # the normal distribution's 97.5 % quantile
    share = right / n
    middle = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def _plain(text: str) -> str:
    """The text without LaTeX that only changes its looks, dollar signs around it, a full stop at its end."""
    text = text.strip()
    for opening, closing in (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]")):
        if text.startswith(opening) and text.endswith(closing) and len(text) > len(opening + closing):
            text = text.removeprefix(opening).removesuffix(closing)
    while (unstyled := STYLE.sub(r" \1 ", text)) != text:
        text = unstyled
    for looks, meaning in LOOKS:
        text = looks.sub(meaning, text)
    return text.strip().removesuffix(".").strip()


def _same_but_for_unit(given: str, right: str, upright: list[bool]) -> bool:
    """Whether they are equal expressions once a unit is cut off one of them, or the same unit off both."""
    numbers, units = zip(*map(cut_unit, (given, right), upright), strict=True)
    if not any(units) or (all(units) and units[0] != units[1]):
        return False
    if any(_is_prose(text) or _is_words(text) for text in numbers):  # "right foot" is not "right"
        return False
    return same_expression(*numbers)


def _is_prose(text: str) -> bool:
    """Whether a word stands in it that is no function's name; formulas are written with shorter ones."""
    return PROSE.search(ENVIRONMENT.sub("", text).casefold()) is not None


def _is_words(text: str) -> bool:
    """Whether it is nothing but words; one letter is none where letters are an alphabet."""
    return all(word.isalpha() and (len(word) > 1 or not word.isascii()) for word in _words(text))


def _words(text: str) -> list[str]:
    """The words but for case, spaces, punctuation around them and hyphens between them."""
    joined = re.sub(r"(?<=[^\W\d_]{3})-(?=[^\W\d_]{3})", " ", text.casefold())  # not in x-y or AB-CD
    return [word.strip(EDGES) for word in joined.split() if word.strip(EDGES)]
