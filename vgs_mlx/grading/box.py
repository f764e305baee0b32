r"""The final answer of a completion: the content of its last \boxed{}."""

import re

BOX = re.compile(r"\\boxed\s*\{")


def extract_answer(text: str) -> str | None:
    r"""The content of the last \boxed{...}, inner braces included; None without a box.

    Also None if the last box is never closed: the completion was cut off inside its answer.
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
