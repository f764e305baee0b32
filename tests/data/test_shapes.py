"""The built-in data set `shapes`: deterministic, disjoint, true to its pictures, and hard to guess."""

import hashlib
import pickle
import subprocess
import sys
from collections import Counter, defaultdict

import numpy as np
import pytest

from vgs_mlx.data.shapes import KINDS, RGB, Thing, draw, examples, scene_f1
from vgs_mlx.errors import Refusal


def digest(rows):
    text = "\n".join(f"{row.id} {row.question} {row.answer} {row.solution} {row.facts}" for row in rows)
    pixels = b"".join(row.pictures[0].open().tobytes() for row in rows)
    return hashlib.sha256(text.encode() + pixels).hexdigest()


def test_examples_are_the_same_in_another_process():
    code = "from tests.data.test_shapes import digest, examples; print(digest(examples('train', 20, seed=3)))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == digest(examples("train", 20, seed=3))


def test_a_longer_list_starts_with_the_shorter_one():
    assert digest(examples("held_out", 5)) == digest(examples("held_out", 50)[:5])


def test_splits_and_seeds_share_no_picture():
    lists = [examples("train", 300), examples("held_out", 300), examples("train", 300, seed=1)]
    pictures = [row.pictures[0].open().tobytes() for rows in lists for row in rows]
    assert len(set(pictures)) == len(pictures)
    ids = [row.id for rows in lists for row in rows]
    assert len(set(ids)) == len(ids)


def test_two_thousand_held_out_examples_hold_every_kind():
    kinds = Counter(row.kind for row in examples("held_out", 2000))
    assert set(kinds) == set(KINDS) and min(kinds.values()) > 150


def test_a_picture_is_72_pixels_square_and_reopens_the_same():
    picture = examples("train", 1)[0].pictures[0]
    first, again = picture.open(), pickle.loads(pickle.dumps(picture)).open()
    assert first.size == (72, 72) and first.mode == "RGB"
    assert first.tobytes() == again.tobytes()


def test_style_words_the_solution_and_nothing_else():
    for teacher, student in zip(examples("train", 50), examples("train", 50, style="student"), strict=True):
        assert teacher.solution != student.solution
        assert (teacher.question, teacher.answer, teacher.facts) == (
            student.question,
            student.answer,
            student.facts,
        )
        assert teacher.pictures[0].open().tobytes() == student.pictures[0].open().tobytes()


@pytest.mark.parametrize("style", ["teacher", "student"])
def test_a_solution_names_every_object_and_boxes_the_answer(style):
    for row in examples("train", 300, style=style):
        assert scene_f1(row.solution, row.facts) == 1
        assert row.solution.endswith(f"\\boxed{{{row.answer}}}")


def test_guessing_the_commonest_answer_of_a_question_scores_little():
    """Keyed by the question without its colours and shapes: what a model without eyes could learn."""
    words = {**dict.fromkeys(RGB, "C"), **dict.fromkeys(("circle", "square", "triangle", "cross"), "S")}
    answers = defaultdict(Counter)
    rows = examples("train", 6000)
    for row in rows:
        answers[" ".join(words.get(word.strip("?.,"), word) for word in row.question.split())][
            row.answer
        ] += 1
    guessed = sum(counter.most_common(1)[0][1] for counter in answers.values())
    assert guessed / len(rows) < 0.3


def test_every_object_is_drawn_in_its_colour():
    for row in examples("held_out", 100):
        pixels = np.asarray(row.pictures[0].open(), np.float32).reshape(-1, 3)
        for colour in {fact.split()[0] for fact in row.facts}:
            assert (np.abs(pixels - RGB[colour]).max(axis=1) < 30).sum() > 10, (row.id, colour)


def touching_pixels(row):
    """How many neighbouring pixels have the (clearly) different colours of two different objects."""
    pixels = np.asarray(row.pictures[0].open(), np.float32)
    labels = np.zeros(pixels.shape[:2], int)
    for number, colour in enumerate(RGB, 1):
        labels[np.abs(pixels - RGB[colour]).max(axis=2) < 40] = number
    across = [(labels[:, :-2], labels[:, 2:]), (labels[:-2], labels[2:])]  # 2 apart: edges are averaged
    return sum(int(((a != b) & (a > 0) & (b > 0)).sum()) for a, b in across)


def test_objects_touch_where_the_answer_says_so_and_nowhere_else():
    rows = [r for r in examples("train", 3000) if len({fact.split()[0] for fact in r.facts}) == len(r.facts)]
    yes = [touching_pixels(row) for row in rows if row.kind == "touch" and row.answer != "none"][:60]
    no = [touching_pixels(row) for row in rows if row.kind not in ("touch",)][:60]
    assert (
        np.mean([count >= 4 for count in yes]) > 0.9
    )  # blended edges take up to 4 pixels for another colour
    assert np.mean([count >= 4 for count in no]) < 0.05


def test_sides_are_those_of_the_picture():
    left = Thing("red", "circle", "large", (1, 0), 12, 36)
    right = Thing("blue", "square", "small", (1, 2), 60, 36)
    pixels = np.asarray(draw((left, right), 0), np.float32)
    columns = {
        name: np.argwhere(np.abs(pixels - RGB[name]).max(axis=2) < 30)[:, 1].mean()
        for name in ("red", "blue")
    }
    assert columns["red"] < columns["blue"]


def test_scene_f1_counts_objects_and_knows_both_vocabularies():
    facts = ("red circle", "blue square")
    assert scene_f1("I see a tiny crimson disc and a big azure box. So \\boxed{2}", facts) == 1
    assert scene_f1("Shown: one small red circle; one large blue cross. So \\boxed{2}", facts) == 0.5
    assert scene_f1("Shown: one small red circle. The blue square", facts) == pytest.approx(
        2 / 3
    )  # first sentence only
    assert scene_f1("I see a red disc, a red disc and a blue box.", facts) == pytest.approx(
        4 / 5
    )  # a multiset
    assert scene_f1("\\boxed{red}", facts) == 0


def test_unknown_split_or_style_is_refused():
    with pytest.raises(Refusal, match="held_out"):
        examples("test", 1)
    with pytest.raises(Refusal, match="student"):
        examples("train", 1, style="poet")
