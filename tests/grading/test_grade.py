"""Grading: the last box, compared strictly, with time for every expression."""

import threading

import pytest

from vgs_mlx.errors import Refusal
from vgs_mlx.grading import compare, expressions, extract_answer, is_correct
from vgs_mlx.grading.quantities import read_quantity


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{3}", "3"),
        (r"\boxed{3} no, \boxed{4}.", "4"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\boxed{7}}", "7"),
        (r"\boxed{\text{red {dark}} x}", r"\text{red {dark}} x"),
        (r"\boxed {A}", "A"),
        ("\\boxed{\n 12 \n}", "12"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{\left\{ x \right.}", r"\left\{ x \right."),
        (r"\boxed{}", ""),
        (r"\boxed{3} and then \boxed{4", None),  # cut off inside its final answer
        ("the answer is 3", None),
        (r"\boxed 3", None),
        (r"boxed{3}", None),
        ("", None),
    ],
)
def test_the_answer_is_what_the_last_box_holds(text, answer):
    assert extract_answer(text) == answer


def same(given, right):
    return compare(given, right).right


RIGHT = [
    # given, right answer
    ("B", "B"), ("(B)", "B"), ("B.", "B"), ("B)", "B"), ("[b]", "B"), ("Option B", "B"), ("Choice (B).", "B"),
    (r"\text{B}", "B"), (r"\textbf{(B)}", "B"), (r"\mathrm{B}", "(B)"),
    ("b", "(B)"), ("A. 30 cm", "A"), ("A", "A. 30 cm"), ("A) 30", "A. 30 cm"),
    ("3", "3"), ("3.0", "3"), ("+3", "3"), ("$3$", "3"), (r"\(3\)", "3"), ("−3", "-3"), ("007", "7"),
    ("1/2", "0.5"), ("0.5", "1/2"), (r"\frac{1}{2}", "0.5"), (r"\dfrac12", "1/2"), ("-1/2", r"-\frac{1}{2}"),
    ("2 1/2", "2.5"), (r"2\frac{1}{2}", "5/2"), (".5", "0.5"), ("3e2", "300"),
    ("1,000", "1000"), ("1{,}000", "1000"), (r"12\,345", "12345"), ("1,234,567.5", "1234567.5"),
    ("10080", r"10,\!080"), ("10,080", r"10,\!080"), (r"10\,080", r"10,\!080"), ("58,500", r"58,\!500"),
    (r"\$32,348", r"\$32,\!348"), ("11,111,111,100", r"11,\! 111,\! 111,\! 100"), (r"f\!\left(2\right)", "f(2)"),
    (r"1,\,200", "200, 1"), (r"\log\!x", r"\log x"), (r"2\!5", "25"),
    ("50%", "0.5"), (r"50\%", "50%"), ("50", "50%"), ("0.5", r"50\%"), ("50 percent", "50%"), ("50%", "1/2"),
    ("3 cm", "3"), ("3", r"3\text{ cm}"), ("3cm", "3 centimetres"), (r"3\,\text{cm}^2", "3 cm²"),
    ("3 m", "3 metres"), ("$5", "5"), (r"\$5.00", "$5"), (r"60^\circ", "60"),
    ("60°", r"60^{\circ}"), ("60 degrees", "60°"),
    (r"8\sqrt{3} \text{ cm}", r"8\sqrt{3}"), (r"4\sqrt{12}", r"8\sqrt{3}\text{ cm}"), (r"8\sqrt3 cm", r"\sqrt{192}"),
    (r"10 \sqrt{2} \text{ m}", r"10\sqrt{2}"), (r"10\sqrt{2} m", r"10\sqrt{2}\text{ m}"),
    (r"25\pi\text{ cm}^2", r"25\pi"), (r"\(25\pi \mathrm{~m}^{2}\)", r"25\pi"),
    (r"5^2\pi\,\mathrm{cm}^{2}", r"25\pi cm²"),
    (r"x = 5\text{ cm}", "5"), (r"x = 5 \text{ m}", "5 m"), (r"x\text{ m}", "x"), (r"2\pi m", r"2m\pi"),
    (r"13 \text{ units}", "13"), (r"12 \text{ square units}", "12"), ("12 units^2", "12 sq. units"),
    ("3 square cm", r"3\text{ cm}^2"), (r"\sqrt{2} \text{ cubic feet}", r"\sqrt{2} \text{ ft}^3"),
    ("5.4", r"5.4 \text{ cents}"), ("20", r"20^\circ\text{C}"), ("20 °C", r"20^{\circ}C"),
    ("20 degrees Celsius", "20°C"),
    ("68 degrees F", r"68^\circ \mathrm{F}"), ("60 mph", "60"), (r"\frac{100}{3}\text{ miles per hour}", "100/3 mph"),
    (r"3 \text{ m/s}", "3"), (r"3\text{ m}/\text{s}", "3 m/s"), (r"(2x)^\circ", "2x"), (r"\pi\text{ radians}", r"\pi"),
    ("red", "Red"), ("Red.", "red"), (r"\text{red}", "red"), ("Top-left", "top left"),
    ("“Yes!”", "yes"), ("no", "No."), ("red, blue", "red blue"), ("Straße", "STRASSE"), ("红色", "红色。"),
    ("Figure 2", "figure 2."), ("the  cat", "The cat"),
    (r"2\sqrt{2}", r"\sqrt{8}"), ("x=5", "5"), (r"\theta = 5", "5"), ("x^2+2x+1", "(x+1)^2"),
    ("2^{10}", "1024"), (r"\frac{\pi}{2}", r"\pi/2"), ("1, 2", "2, 1"), (r"\{1,2\}", r"\{2,1\}"),
    ("(3, 4)", "(3,4)"), ("3:4", "3/4"), ("C", r"\boxed{C}"), ("0.5", r"The answer is \boxed{\frac{1}{2}}"),
    ("5 KG", "5 kg"), ("5 Kg", "5 kg"), ("5 hz", "5 Hz"), ("5 l", "5 L"), ("5 Cm", "5 cm"), ("1, 2", "x=1, y=2"),
    ("y=2, x=1", "x=1, y=2"), ("4, 5", "x=4, x=5"), ("5, 4", "x=4, x=5"), ("March 5 2021", "March 5, 2021"),
    ("March 5, 2021", "March 5, 2021"), ("A and B", "A, B"), ("x>=0", r"x \ge 0"), ("x<=3", r"x \le 3"),
    ("x!=4", r"x \neq 4"), ("0<=x<1", "[0,1)"), ("-1<=x<=1", "[-1,1]"), (r"\sum_{i=1}^{3} i", "6"),
    (r"\prod_{i=1}^{3} i", "6"), ("0.1+0.2", "0.3"), ("1.1+2.2", "3.3"), ("0.1*3", "0.3"), ("0.3", "0.1+0.2"),
    ("y=2x", "y-2x=0"), ("y-2x=0", "y=2x"), ("2y=x", "x-2y=0"), ("x=y", "y=x"), ("12 cm2", "12 cm^2"),
    ("5 N m", "5 Nm"), ("5 kWh", "5 kilowatt hours"), ("3 hours 20 minutes", "3 h 20 min"),
    ("2 hours and 30 minutes", "2 hours 30 minutes"), ("5 feet 3 inches", "5 ft 3 in"),
    (r"\mathrm{C}_6 \mathrm{H}_{12}\mathrm{O}_6", "C6H12O6"), (r"\textcolor{red}{5}", "5"),
    ("3h20min", "3 h 20 min"), ("5 apples and 3 pears", "5 apples and 3 pears"), ("3 cm and 5 cm", "5 cm and 3 cm"),
    ("10 N, 5 N", "5 N, 10 N"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "right"), RIGHT)
def test_the_same_answer_in_other_words_is_right(given, right):
    assert is_correct(rf"<reason>because</reason> \boxed{{{given}}}", right)


WRONG = [
    ("A", "B"), ("AB", "A"), ("A or B", "A"), ("A, B", "B"), ("apple", "A"),
    ("a cat", "A"), ("", "B"), (" ", "3"), (r"\text{}", "red"), (".", "3"), ("{}", ""), ("", ""),
    ("3", "4"), ("-3", "3"), ("13", "3"), ("3.1", "3"), ("15", "1.5"), ("0.333", "1/3"),
    ("1000001", "1000000"), ("3 or 4", "3"), ("3, 4", "3"), ("3 4", "3"), ("3 apples", "3"),
    ("the answer is 3", "3"), ("1/0", "0"),
    ("3 cm", "3 m"), ("3 cm", "3 cm²"), ("0.5%", "50%"), ("3m", "3"), ("5x cm", "5x m"),
    ("10^{2}", "10"), ("5²", "5"), ("$5", "5€"), ("1,2", "12"), ("1/2", "12"),
    ("10, 80", r"10,\!080"), ("10, 080", r"10,\!080"), (r"1,\!20", "120"), (r"1,\,200", "1200"),
    (r"8\sqrt{3} \text{ cm}", r"8\sqrt{3}\text{ m}"), (r"8\sqrt{3} \text{ cm}", r"8\sqrt{2}"),
    (r"25\pi\text{ cm}^2", r"25\pi\text{ cm}"), ("12 units", "12 square units"), ("12 units", "12 cm"),
    ("5.4 cents", r"\$5.40"), ("20°C", "20°F"), ("60 mph", "60 km/h"), ("2m", "2"), (r"2\pi m", r"2\pi"), ("3m/s", "3"),
    (r"2\sqrt{2} m", r"2\sqrt{2}"), (r"2\pi h\text{ m}", r"2\pi"), (r"x^2 + \text{m}", "x^2"), (r"v_\text{in}", "v"),
    (r"\sin", "s"), ("13 units or 14 units", "13 units"), ("the cat sat 3 m", "the cat sat 3 ft"),
    ("right foot", "right"), ("on foot", "on"), ("the second", "the"),
    ("red", "blue"), ("red circle", "red"), ("not red", "red"), ("reds", "red"), ("red or blue", "red"),
    ("red", "erd"), ("no", "on"), ("yes and no", "yes"), ("3 red dots", "3 blue dots"), ("top", "left top"),
    ("x+y", "x-y"), ("x-y", "xy"), ("n!", "n"), ("(3,4)", "(4,3)"), ("3=5", "5"), ("5 = x = 7", "7"),
    (r"\pm 2", "2"), (r"3 \neq 5", "5"), (r"4$ $5", "5"), (r"4 \) \( 5", "5"), (r"-\infty", r"\infty"),
    (r"\sqrt{2}", "1.41"), (r"\frac{1}{0}", r"\frac{2}{0}"), ("[1,2)", "[1,2]"), ("x>3", r"x\ge 3"),
    ("\\sqrt{", "\\sqrt{4}"), ("import os", "3"), ("\0", "3"), ("nan", "3"), ("1e99", "3"),
    ("12 ML", "12 mL"), ("5 mm", "5 Mm"), ("5 gb", "5 GB"), ("5 mw", "5 MW"), ("5 k", "5 K"), ("2, 1", "x=1, y=2"),
    ("12, 30", r"\angle A = 30, \angle B = 12"), ("2021, March 5", "March 5, 2021"),
    ("5 March 2021", "March 5, 2021"), ("A or B", "A, B"), (r"\{5\}", "5"), ("[1]", "1"), ("~5", "5"),
    ("0.1+0.2", "0.4"), ("y=3x", "y-2x=0"), ("12 cm3", "12 cm^2"), ("5 ft 4 in", "5 ft 3 in"),
    ("3 in 5 ft", "5 ft 3 in"), ("square", "5"), ("(3, 2)", "(2, 3)"),
    ("1.41421356237309504880168872420969807", r"\sqrt{2}"), ("2^{10^9}", "3"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "right"), WRONG)
def test_another_answer_is_wrong(given, right):
    assert not same(given, right)


def test_an_answer_outside_a_box_is_wrong():
    assert not is_correct("The answer is B", "B")
    assert not is_correct("B", "B")
    assert not is_correct(r"\boxed{A} so it is B", "B")


def test_very_long_texts_are_graded_at_once():
    assert is_correct("x" * 1_000_000 + r"\boxed{3}", "3")
    assert not is_correct(r"\boxed{" * 100_000, "3")
    assert not is_correct(r"\boxed{" + "3" * 1_000_000 + "}", "3")
    assert not is_correct(r"\boxed{" + r"\text{" * 100_000 + "}" * 100_001, "3")
    assert not is_correct(r"\boxed{" + "x+" * 100_000 + "1}", "x")
    assert is_correct(r"\boxed{" + "word " * 1_000 + "}", ("word " * 1_000).strip())


def test_an_expression_that_never_ends_is_wrong_and_the_next_one_is_graded(monkeypatch):
    assert same(r"\sqrt{8}", r"2\sqrt{2}")  # the worker has started
    monkeypatch.setattr(expressions, "SECONDS", 1.0)
    assert not same(
        "((((x+1)^{99})^{99})^{99})^{99}", "x+1"
    )  # returns at all: by itself it would take for ever
    monkeypatch.undo()
    assert same(r"\sqrt{8}", r"2\sqrt{2}")


def test_expressions_are_graded_in_threads_as_well():
    found = []
    threads = [
        threading.Thread(target=lambda n=n: found.append((n, same(f"1+{n}", f"{n}+1")))) for n in range(6)
    ]
    threads += [threading.Thread(target=lambda: found.append(("wrong", not same("x+1", "x+2"))))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 7 and all(right for _, right in found)


def test_an_interrupted_comparison_does_not_answer_the_next_one(monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    assert same(r"\sqrt{8}", r"2\sqrt{2}")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(expressions, "_reply", interrupt)
        same(r"\sqrt{8}", r"2\sqrt{2}")  # its "true" must not be taken for the next answer
    assert not same(r"\sqrt{8}", r"3\sqrt{2}")


def test_a_missing_checker_is_a_refusal_and_not_a_wrong_answer(monkeypatch):
    expressions.stop()
    monkeypatch.setattr(expressions.sys, "executable", "/bin/echo")
    with pytest.raises(Refusal, match="can't be graded"):
        same(r"\sqrt{8}", r"2\sqrt{2}")


@pytest.mark.parametrize("text", ["", "x", "3x", "1/0", "--3", "1,,0", "3 cm cm", "cm", "$", "1" * 41])
def test_what_is_not_a_quantity_reads_as_none(text):
    assert read_quantity(text) is None
