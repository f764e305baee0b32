"""What a plan is told of the rows: the longest of all of them, wherever it stands."""

import json
from types import SimpleNamespace

import pytest
from PIL import Image

from toy_runs import QUIET
from vgs_mlx.models.loading import load_processor
from vgs_mlx.recipe import file as recipe_file
from vgs_mlx.resources import tiny_model
from vgs_mlx.rollout.collect import given_answers
from vgs_mlx.runs.rows import load_data, longest
from vgs_mlx.train.setup import render_prompt


@pytest.fixture
def rows(tmp_path):
    """80 rows; the last has the longest question and the longest solution, the one before it the largest picture."""
    lines = []
    for row in range(80):
        Image.new("RGB", (96, 96) if row == 78 else (48, 48), "red").save(tmp_path / f"{row}.png")
        more = "large " * 5 if row == 79 else ""
        lines.append(
            {"image": f"{row}.png", "question": f"What {more}shape is it?", "answer": "red",
             "solution": f"{more}red \\boxed{{red}}"}
        )  # fmt: skip
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return file


@pytest.mark.parametrize("objective", ["vgs", "sft"])
def test_the_longest_prompt_and_answer_are_found_wherever_they_stand(objective, rows):
    recipe = recipe_file.load_recipe(None, [f"data.source={rows}", f"objective.name={objective}"])
    processor = load_processor(tiny_model("student"), "--student")
    data = load_data(recipe, processor, QUIET)
    prompts = [render_prompt(processor, example, recipe) for example in (*data.train, *data.held_out)]
    found = longest(processor, data, recipe)
    assert (
        found.image
        == max(
            len(prompt.student["with_image"].ids) - len(prompt.student["text_only"].ids) - 2
            for prompt in prompts
        )
        == 16
    )
    assert found.text == max(len(prompt.student["text_only"].ids) for prompt in prompts) + 2
    answers = given_answers(SimpleNamespace(processor=processor), prompts)
    assert found.answer == (max(len(each.completion) for each in answers) if objective == "sft" else None)
