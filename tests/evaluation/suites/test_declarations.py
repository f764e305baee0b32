"""Every declaration, on rows that are made here in the schema which it says its data set has.

None of it is the real data: these tests hold the declarations to what was read about the schemas.
"""

import io

import pytest
from PIL import Image

from vgs_mlx.data import hub
from vgs_mlx.errors import Refusal
from vgs_mlx.evaluation.suites import ALL, SUITES, chosen
from vgs_mlx.evaluation.suites.benchmark import LETTER
from vgs_mlx.evaluation.suites.rows import items, key
from vgs_mlx.types import Example

hf = pytest.importorskip("datasets")
TEXT, PICTURE = hf.Value("string"), hf.Image()


def png(width):
    buffer = io.BytesIO()
    Image.new("RGB", (width, 40), "red").save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


MMMU = {
    **dict.fromkeys(("id", "question", "options", "explanation"), TEXT),
    **{f"image_{number}": PICTURE for number in range(1, 8)},
    **dict.fromkeys(("img_type", "answer", "topic_difficulty", "subject"), TEXT),
}
MATHVERSE = {
    **dict.fromkeys(("sample_index", "problem_index", "problem_version", "question"), TEXT),
    "image": PICTURE,
    **dict.fromkeys(("answer", "question_type", "query_wo", "query_cot", "question_for_eval"), TEXT),
}
VERSES = [
    dict(problem_version="Text Dominant", question="?", answer="A", question_type="multi-choice"),
    dict(problem_version="Vision Dominant", question="AC is?\nChoices:\nA:5\nB:6", answer="B",
         question_type="multi-choice"),
    dict(problem_version="Vision Dominant", question="Find x.", answer="2\\sqrt{2}", question_type="free-form"),
    dict(problem_version="Vision Only", question="", answer="C", question_type="multi-choice"),
    dict(problem_version="Vision Only", question="", answer="12", question_type="free-form"),
]  # fmt: skip
VERSES = [{**row, "image": png(40 + place)} for place, row in enumerate(VERSES)]

# (features, rows, the (question, answer, kind, widths of the pictures) of those that are asked, by row)
EXPECTED = {
    "mmmu-pro": (
        MMMU,
        [
            dict(question="See <image 1> and <image 2>. Which?", options="['30 kg', \"<image 3>\"]", answer="B",
                 subject="Music", image_1=png(41), image_2=png(42), image_3=png(43)),
            dict(question="?", options="no list", answer="A", subject="Music", image_1=png(41)),
        ],
        {0: (f"See [picture 1] and [picture 2]. Which?\nA. 30 kg\nB. [picture 3]\n{LETTER}", "B. [picture 3]", "Music",
             [41, 42, 43])},
    ),
    "logicvista": (
        {**dict.fromkeys(("question", "answer", "reasoning", "id"), TEXT), "skill": hf.List(TEXT),
         "image": PICTURE},
        [
            dict(question="Which two of A, B, C or D?", answer="B, D", skill=["inductive", "spatial"], image=png(44)),
            dict(question="", answer="", skill=[], image=png(44)),
            dict(question="No picture?", answer="A", skill=["deductive"], image=None),
        ],
        {0: (f"Which two of A, B, C or D?\n{LETTER}", "B, D", "inductive, spatial", [44])},
    ),
    "mathverse-vd": (
        MATHVERSE,
        VERSES,
        {1: (f"AC is?\nChoices:\nA:5\nB:6\n{LETTER}", "B. 6", "", [41])},
    ),
    "mathverse-vo": (
        MATHVERSE,
        VERSES,
        {3: (f"Answer the question in the picture.\n{LETTER}", "C", "", [43])},
    ),
    "visualpuzzles": (
        {"id": TEXT, "category": TEXT, "image": PICTURE, "question": TEXT, "options": hf.List(TEXT), "answer": TEXT},
        [
            dict(category="Spatial", image=png(45), question="Which cube?", options=None, answer="A"),
            dict(category="Deductive", image=png(46), question="Who?", options=["Jo", "Al", "Li", "Bo"], answer="C"),
        ],
        {0: (f"Which cube?\nThe options A, B, C and D are in the picture.\n{LETTER}", "A", "Spatial", [45]),
         1: (f"Who?\nA. Jo\nB. Al\nC. Li\nD. Bo\n{LETTER}", "C. Li", "Deductive", [46])},
    ),
    "mathvision": (
        {**dict.fromkeys(("id", "question", "image", "answer", "solution", "subject"), TEXT),
         "options": hf.List(TEXT), "decoded_image": PICTURE, "level": hf.Value("int64")},
        [
            dict(question="How many?\n<image1>", options=[], image="images/1.jpg", decoded_image=png(47),
                 answer="7", level=1, subject="counting"),
            dict(question="Which?\n<image1>", options=["4", "5"], image="images/2.jpg", decoded_image=png(48),
                 answer="B", level=2, subject="algebra"),
        ],
        {0: ("How many?", "7", "counting", [47]), 1: (f"Which?\nA. 4\nB. 5\n{LETTER}", "B. 5", "algebra", [48])},
    ),
    "vlmsareblind": (
        {"task": TEXT, "image": PICTURE, "prompt": TEXT, "groundtruth": TEXT, "metadata": TEXT},
        [
            dict(task="Counting Grid - Blank Grids", image=png(49), prompt="Count. Example, rows={5} columns={6}",
                 groundtruth="5,6", metadata="{}"),
            dict(task="Nested Squares", image=png(49), prompt="In curly brackets e.g., {10}.", groundtruth="4"),
        ],
        {0: ("Count. Example, rows={5} columns={6}", "(5, 6)", "Counting Grid - Blank Grids", [49]),
         1: ("In curly brackets e.g., \\boxed{10}.", "4", "Nested Squares", [49])},
    ),
    "geometry3k": (
        {"images": hf.List(PICTURE), "problem": TEXT, "answer": TEXT},
        [dict(images=[png(50)], problem="<image>Find y.", answer="2 \\sqrt { 221 }")],
        {0: ("Find y.", "2 \\sqrt { 221 }", "", [50])},
    ),
    "we-math": (
        {**dict.fromkeys(("ID", "split", "knowledge concept", "question", "option", "answer"), TEXT),
         "image_path": PICTURE, "key": TEXT},
        [dict(ID="1", question="How wide?", option="A. 45; B. 60; C. 72; D. No correct answer", answer="B",
              image_path=png(51), key="2steps_multi")],
        {0: (f"How wide?\nA. 45\nB. 60\nC. 72\nD. No correct answer\n{LETTER}", "B. 60", "2steps_multi", [51])},
    ),
    "math500": (
        {**dict.fromkeys(("problem", "solution", "answer", "subject", "unique_id"), TEXT),
         "level": hf.Value("int64")},
        [dict(problem="Convert.", solution="...", answer="\\left( 3, \\frac{\\pi}{2} \\right)", subject="Precalculus",
              level=2, unique_id="test/1.json")],
        {0: ("Convert.", "\\left( 3, \\frac{\\pi}{2} \\right)", "Precalculus", [])},
    ),
    "aime25": (
        {"problem": TEXT, "answer": TEXT, "id": TEXT},
        [dict(problem="Find the sum.", answer="70", id="0")],
        {0: ("Find the sum.", "70", "", [])},
    ),
    "olympiadbench": (
        {"id": hf.Value("int64"), "question": TEXT, "solution": hf.List(TEXT), "final_answer": hf.List(TEXT),
         "is_multiple_answer": hf.Value("bool"), "unit": TEXT, "answer_type": TEXT, "error": TEXT, "subfield": TEXT},
        [
            dict(id=1606, question="Find all $x$.", final_answer=["$-1$", "$\\frac{1}{2}$"], is_multiple_answer=True,
                 subfield="Algebra"),
            dict(id=1607, question="Prove it.", final_answer=None, subfield="Algebra"),
        ],
        {0: ("Find all $x$.", "-1, \\frac{1}{2}", "Algebra", [])},
    ),
}  # fmt: skip


@pytest.fixture
def stored(monkeypatch):
    """Puts a table where a benchmark's rows would be loaded from; the Hub id and the configuration must be its."""

    def store(benchmark, features, rows):
        columns = {name: [row.get(name) for row in rows] for name in features}
        table = hf.Dataset.from_dict(columns, features=hf.Features(features))

        def load_dataset(source, config=None, revision=None):
            assert (source, config, revision) == (benchmark.source, benchmark.config, None)
            return hf.DatasetDict({benchmark.split: table, "another": table})

        monkeypatch.setattr(hub.datasets, "load_dataset", load_dataset)

    return store


@pytest.mark.parametrize("benchmark", ALL, ids=lambda each: each.name)
def test_rows_of_the_schema_become_examples(benchmark, stored):
    features, rows, expected = EXPECTED[benchmark.name]
    stored(benchmark, features, rows)
    found = {}
    for item in items(benchmark):
        try:
            example = item.example()
        except Refusal:
            continue
        if example is not None:
            widths = [picture.open().width for picture in example.pictures]
            found[item.number] = (example.question, key(example), example.kind, widths)
            assert example.id == f"{benchmark.source}:{benchmark.split}:{item.number}"
    assert found == expected


@pytest.mark.parametrize("benchmark", ALL, ids=lambda each: each.name)
def test_the_right_answer_in_a_box_is_right_and_another_is_not(benchmark):
    for _, answer, *_ in EXPECTED[benchmark.name][2].values():
        row = Example("row", "?", answer, ())
        assert benchmark.grade(f"So it is \\boxed{{{answer}}}.", row).right
        assert not benchmark.grade("So it is \\boxed{E}.", row).right
        assert not benchmark.grade(f"So it is {answer}.", row).right


@pytest.mark.parametrize("benchmark", ALL, ids=lambda each: each.name)
def test_a_column_that_is_not_there_is_refused_with_those_that_are(benchmark, stored):
    features, rows, _ = EXPECTED[benchmark.name]
    gone = (*benchmark.columns, *benchmark.pictures)[-1]
    kept = {name: feature for name, feature in features.items() if name != gone}
    stored(benchmark, kept, rows)
    with pytest.raises(Refusal) as refused:
        items(benchmark)
    said = str(refused.value)
    assert benchmark.name in said and f"no column {gone!r} but {', '.join(kept)}" in said
    assert len(said.splitlines()) == 1


def test_a_column_of_another_type_makes_bad_rows_and_no_crash(stored):
    [benchmark] = chosen("aime25")
    stored(benchmark, {"problem": hf.List(TEXT), "answer": TEXT}, [dict(problem=["a"], answer="1")])
    with pytest.raises(Refusal, match="empty or not text"):
        items(benchmark)[0].example()


def test_whole_number_answers_are_read_as_text(stored):
    [benchmark] = chosen("aime25")
    stored(benchmark, {"problem": TEXT, "answer": hf.Value("int64")}, [dict(problem="?", answer=70)])
    assert items(benchmark)[0].example().answer == "70"


def test_the_order_of_rows_is_shuffled_and_always_the_same(stored):
    [benchmark] = chosen("aime25")
    stored(benchmark, EXPECTED["aime25"][0], [dict(problem=str(n), answer="1") for n in range(30)])
    order = [item.number for item in items(benchmark)]
    assert order == [item.number for item in items(benchmark)]
    assert order != sorted(order) and sorted(order) == list(range(30))


def test_suites_hold_what_the_paper_measures():
    assert {suite: len(benchmarks) for suite, benchmarks in SUITES.items()} == {
        "vision": 7,
        "low-vision": 2,
        "text": 3,
    }
    assert chosen("all") == ALL and len({each.name for each in ALL}) == 12 == len(EXPECTED)
    assert chosen("low-vision") == SUITES["low-vision"] and chosen("we-math") == SUITES["low-vision"][1:]


@pytest.mark.parametrize(("name", "said"), [("visions", "did you mean vision?"), ("%", "there are vision,")])
def test_an_unknown_suite_is_refused_with_the_nearest_name(name, said):
    with pytest.raises(Refusal, match=f"--suite {name}: .*{said[:12]}"):
        chosen(name)
