"""Texts that can't be written down: UTF-8 has no place for them, and tokenizers and files take UTF-8 alone."""


def fault(text: str) -> str | None:
    """What keeps the text from being valid Unicode and where, counted from 1; None for a good one.

    JSON and file names bring lone surrogates (`\\ud800`) into a program; a NUL ends a text for many a library.
    """
    for place, character in enumerate(text, start=1):
        if "\ud800" <= character <= "\udfff":
            return f"lone surrogate \\u{ord(character):04x} at character {place}"
        if character == "\0":
            return f"NUL at character {place}"
    return None


def printable(text: str) -> str:
    """The text with what can't be printed written out, as in `caf\\udce9`."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
