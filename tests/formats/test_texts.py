"""Texts that UTF-8 can't hold are found, with their place."""

import pytest

from vgs_mlx.formats import texts


@pytest.mark.parametrize("text", ["", "plain", "é 日本 🙂 \u2028 \ufffe", "tab\tand\nline"])
def test_what_utf_8_can_hold_has_no_fault(text):
    assert texts.fault(text) is None
    assert text.encode("utf-8").decode("utf-8") == text


def test_the_first_fault_is_named_with_its_place():
    assert texts.fault("1234567\ud800") == r"is not valid Unicode (lone surrogate \ud800 at character 8)"
    assert texts.fault("\udcff\0") == r"is not valid Unicode (lone surrogate \udcff at character 1)"
    assert texts.fault("ab\0") == "holds a NUL (at character 3)"


def test_what_cannot_be_printed_is_written_out():
    assert texts.printable("caf\udce9 é\n") == r"caf\udce9 é\n"
