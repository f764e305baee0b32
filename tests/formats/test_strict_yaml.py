"""YAML is read as YAML 1.2, plainly; what else it can say is refused in one line that names the place."""

import itertools
import math
import random

import pytest

from vgs_mlx.errors import Refusal
from vgs_mlx.formats import strict_yaml


def fanned(start: str, nested: str, levels: int = 12) -> str:
    """A text whose every line refers nine times to the line above."""
    names = "abcdefghijklmnop"[: levels + 1]
    lines = [f"{names[0]}: &{names[0]} {start}"]
    lines += [
        f"{here}: &{here} {nested % ', '.join([f'*{above}'] * 9)}"
        for above, here in itertools.pairwise(names)
    ]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("1.5E+3", 1500.0),
        ("1_000", 1000),
        ("012", 12),
        ("0x1F", 31),
        (".inf", math.inf),
        ("true", True),
        ("~", None),
        ("", None),
        ("# a comment", None),
        ("yes", "yes"),
        ("off", "off"),
        ("1:30", "1:30"),
        ("'2020-01-01'", "2020-01-01"),
        ("Qwen/Qwen3-VL-2B-Instruct", "Qwen/Qwen3-VL-2B-Instruct"),
        ("{question: problem, image: [a, b]}", {"question": "problem", "image": ["a", "b"]}),
        ("a: &x [1]\nb: *x", {"a": [1], "b": [1]}),
        ("a: &x {p: 1, q: 2}\nb: {<<: *x, q: 3}", {"a": {"p": 1, "q": 2}, "b": {"p": 1, "q": 3}}),
        ("a: &x {p: 1}\nb: &y {q: 2}\nc: {<<: [*x, *y]}", {"a": {"p": 1}, "b": {"q": 2}, "c": {"p": 1, "q": 2}}),
        ("\ufeffa: 1", {"a": 1}),
    ],
)  # fmt: skip
def test_plain_values_are_read_as_yaml_1_2_has_them(text, value):
    found = strict_yaml.load(text, "f")
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a: 1\nb: 2\na: 3", 3, "the key 'a' appears twice"),
        ("a: 1\n? [b]\n: 2", 2, "a list or a section as a key"),
        ("a: 1\n{b: 1}: 2", 2, ""),
        ("a: 1\n1: 2", 2, "1 as a key, where a name is needed (put it in quotes)"),
        ("a: 1\nnull: 2", 2, "null as a key"),
        ("a: 1\nb: 2020-01-01", 2, "'2020-01-01' is read as a timestamp: put it in quotes"),
        ("a: 1\nb: =", 2, "put it in quotes"),
        ("a: 1\nb: <<", 2, "put it in quotes"),
        ("a: 1\nb: !!binary aGVsbG8=", 2, "a tag (tag:yaml.org,2002:binary), and only plain values are read"),
        ("a: 1\nb: !!python/object/apply:os.system [id]", 2, "a tag"),
        ("a: 1\nb: !mine x", 2, "a tag (!mine)"),
        ("a: 1\nb: !!int x", 2, "a tag"),
        ("a: 1\nb: &x [*x]", 2, "an alias that refers to the node it is part of"),
        ("a: 1\nb: &x\n  c: [{d: *x}]", 2, "an alias that refers to the node it is part of"),
        ("a: 1\nb: *x", 2, "undefined alias"),
        (fanned("[x]", "[%s]"), 6, "more than 20,000 values with its aliases written out"),
        (fanned("{x: 1}", "{<<: [%s]}"), 6, "more than 20,000 values with its aliases written out"),
        ("a: 1\nb: " + "[" * 3000, 2, "more than 20 nested levels"),
        ("a: 1\nb: " + "{a: " * 3000, 2, "more than 20 nested levels"),
        ("a: 1\nb: " + "9" * 5000, 2, "a number of 5,000 characters"),
        ("a: 1\nb: 0." + "9" * 5000, 2, "a number of 5,002 characters"),
        ("a: 1\n\tb: 2", 2, "'\\t' that cannot start any token"),
        ("a: 1\nb: \0", 2, "the character U+0000"),
        ("a: 1\nb: \x07", 2, "the character U+0007"),
        ("a: 1\nb: \udcff", 2, "the character U+DCFF"),
        ("a: 1\nb: [1, 2", 2, "expected ',' or ']'"),
        ("a: 1\n---\nb: 2", 2, "expected a single document"),
        ("a: 1\nb: c: d", 2, "not allowed here"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else None,
)
def test_what_is_no_plain_value_is_refused_with_its_line(text, line, said):
    with pytest.raises(Refusal) as refused:
        strict_yaml.load(text, "here.yaml")
    message = str(refused.value)
    assert message.startswith(f"here.yaml, line {line}: ") and said in message
    assert message.endswith("fix the YAML there") and "\n" not in message and len(message) < 250


def test_what_is_dumped_reads_back_equal():
    texts = ["yes", "1e-5", "012", "1:30", "2020-01-01", "~", "=", "<<", "!x", "&a", "*a", "a: b", "# x", "-", "---",
             "", " a ", "\t", "a\nb", "\n\n a\n", "\x85", "\u2028", "é 🙂", "'", '"', "%", "@", "\ufeff",
             "word " * 99]  # fmt: skip
    draw = random.Random(0)
    texts += [
        "".join(draw.choices("ab01:-#'\"[]{}&*!|>%@`,?=~_.+ \n\t\\é🙂\u2028\x85", k=7)) for _ in range(1000)
    ]
    value = {
        "texts": texts,
        **dict.fromkeys(texts, 1),
        "numbers": [1, 1e-6, 5e-5, 1.0, -3],
        "none": [None, True, {}, []],
    }
    again = strict_yaml.load(strict_yaml.dump(value), "f")
    assert again == value and list(again) == list(value)


def test_a_recipe_that_pyyaml_wrote_for_an_earlier_run_is_read():
    text = """\
student:
  path: embedded:student
  targets: null
data:
  columns: {}
  system_prompt: Look at the picture and reason step by step inside <reason></reason>.
    Then give the final answer in \\boxed{}.
  held_out: 'yes'
  empty: ''
train:
  learning_rate: 5.0e-05
  grad_checkpoint: false
"""
    found = strict_yaml.load(text, "f")
    assert found["data"]["system_prompt"].endswith("</reason>. Then give the final answer in \\boxed{}.")
    assert found["train"] == {"learning_rate": 5e-5, "grad_checkpoint": False}
    assert found["student"] == {"path": "embedded:student", "targets": None}
    assert (
        found["data"]["held_out"] == "yes" and found["data"]["empty"] == "" and found["data"]["columns"] == {}
    )
