"""JSON is read so that nothing of it is lost or guessed, and what can't be is said in one line."""

import json

import pytest

from vgs_mlx.formats import strict_json


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"a": 1, "a": 2}', "the key 'a' appears twice"),
        (b'{"a": {"b": 1, "b": 1}}', "the key 'b' appears twice"),
        (b'{"a": NaN}', "NaN is not a JSON value"),
        (b"[-Infinity]", "-Infinity is not a JSON value"),
        (b"\xff{}", "not UTF-8"),
        (b'{"a": ', "broken JSON"),
        (b"", "broken JSON"),
        (b"[" * 100_000, "levels"),
        (b"[" * 101 + b"]" * 101, "more than 100 levels"),
        (b'{"a":' * 101 + b"1" + b"}" * 101, "more than 100 levels"),
        (b"9" * 5_000, "a number with too many digits"),
    ],
    ids=lambda value: str(value)[:12],
)
def test_what_would_be_lost_or_guessed_is_refused_in_one_line(content, said):
    with pytest.raises(strict_json.Faulty) as faulty:
        strict_json.load(content)
    assert said in str(faulty.value) and "\n" not in str(faulty.value)


@pytest.mark.parametrize("value", [{"a": [1, {"b": None}]}, 10**300, "é", [[]] * 300, {"a": {}, "b": {}}])
def test_everything_else_is_what_json_says(value):
    text = json.dumps(value)
    assert strict_json.load(text) == strict_json.load(text.encode()) == value


def test_a_hundred_levels_are_read():
    assert strict_json.load(b"[" * 100 + b"]" * 100)


def test_constants_are_read_where_a_file_may_hold_them():
    assert strict_json.load(b'{"loss": NaN}', constants=True)["loss"] != 0
