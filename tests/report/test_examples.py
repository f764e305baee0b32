"""Examples have the right scores, embedded pictures, and a note where something can't be shown."""

import base64
import io
import weakref
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import oracle
from random_models import random_completion, random_model, random_prompt
from toy_runs import QUIET, finished, recipe
from vgs_mlx.data import shapes
from vgs_mlx.models import loading
from vgs_mlx.models.logprobs import compute_logprobs
from vgs_mlx.models.rows import Continued
from vgs_mlx.report import examples, page
from vgs_mlx.report.examples import AFTER, BEFORE, LARGEST_SIDE, TEACHER, collect, score, shown_picture
from vgs_mlx.report.record import read
from vgs_mlx.rollout import collect as collecting


@pytest.fixture(scope="module")
def found():
    return collect([(AFTER, finished())], recipe(), 2, QUIET)


def test_a_token_s_score_is_the_teacher_s_own_in_both_views():
    teacher, prompt, completion = random_model(3), random_prompt(1), random_completion(2, 7)
    scores, with_picture, text_only = score(teacher, prompt, completion, chunk_size=3)
    seeing, blind = (
        compute_logprobs(teacher, [Continued(view, completion)])
        for view in (prompt.student["with_image"], prompt.student["text_only"])
    )
    answerable = np.array(teacher.support())
    expected = [
        oracle.kl(np.array(one)[answerable], np.array(other)[answerable])
        for one, other in zip(seeing[0], blind[0], strict=True)
    ]
    assert scores == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert with_picture == pytest.approx(np.array(seeing[1]), abs=1e-5)
    assert text_only == pytest.approx(np.array(blind[1]), abs=1e-5)
    assert scores.max() > 0.1  # the picture moves this model


def test_the_first_held_out_rows_are_answered_by_all_three(found):
    rows = shapes.examples("held_out", 2)
    assert [each.question for each in found.shown] == [row.question for row in rows]
    assert [[said.who for said in each.said] for each in found.shown] == [[BEFORE, AFTER, TEACHER]] * 2
    assert found.notes == ()
    for said in found.shown[0].said:
        assert 1 <= len(said.tokens) <= recipe().rollout.max_completion_length
        assert all(token.score >= 0 and 0 <= token.with_picture <= 1.0001 for token in said.tokens)


def test_one_model_is_in_memory_at_a_time_and_answers_as_many_as_the_recipe_says(monkeypatch):
    alive, drawn, load_model, sample = [], [], loading.load_model, collecting.sample

    def watched(*given, **how):
        assert not [name for name, module in alive if module() is not None], "still there"
        model = load_model(*given, **how)
        alive.append((given[0], weakref.ref(model.module)))
        return model

    def counted(model, views, *given):
        drawn.append(len(views))
        return sample(model, views, *given)

    monkeypatch.setattr(examples, "load_model", watched)
    monkeypatch.setattr(examples.trained, "load_model", watched)
    monkeypatch.setattr(collecting, "sample", counted)
    collect([(AFTER, finished())], recipe("rollout.batch_size=2"), 3, QUIET)
    assert len(alive) == 3 and drawn == [2, 1] * 3


def test_a_known_picture_is_described(found):
    facts = shapes.examples("held_out", 1)[0].facts
    assert all(fact in found.shown[0].pictures[0].alt for fact in facts)


def test_a_run_without_weights_omits_its_student_and_says_so(tmp_path):
    found = collect([(AFTER, tmp_path)], recipe(), 1, QUIET)
    assert [said.who for said in found.shown[0].said] == [BEFORE, TEACHER]
    assert len(found.notes) == 1 and str(tmp_path) in found.notes[0]


def test_a_run_without_a_teacher_shows_its_answers_without_colours_and_says_why(tmp_path):
    alone = replace(recipe(), teacher=replace(recipe().teacher, path=""))
    found = collect([(AFTER, finished())], alone, 2, QUIET)
    assert [[said.who for said in each.said] for each in found.shown] == [[BEFORE, AFTER]] * 2
    with_teacher = collect([(AFTER, finished())], recipe(), 2, QUIET)
    for each, scored in zip(found.shown, with_teacher.shown, strict=True):
        for said, coloured in zip(each.said, scored.said, strict=False):
            assert said == replace(coloured, tokens=())
    assert len(found.notes) == 1 and "This run has no teacher" in found.notes[0]
    shown = page.render_run(read(finished()), found)
    assert found.shown[0].said[1].text in shown.replace("&#39;", "'").replace("&#34;", '"')
    assert page.EXAMPLE in shown and 'class="t v' not in shown and 'class="legend"' not in shown
    assert "no colours" in shown and "The colour of a token" not in shown
    assert 'class="legend"' in page.render_run(read(finished()), with_teacher)


def test_models_that_are_gone_omit_the_examples_and_say_so():
    gone = replace(recipe(), teacher=replace(recipe().teacher, path="/no/such/teacher"))
    found = collect([(AFTER, finished())], gone, 1, QUIET)
    assert found.shown == () and "/no/such/teacher" in found.notes[0]


def test_a_picture_is_embedded_in_the_page_and_is_no_larger_than_needed():
    noise = np.random.default_rng(0).integers(0, 255, (900, 1300, 3)).astype(np.uint8)
    shown = shown_picture(Image.fromarray(noise), "noise")
    kind, data = shown.uri.split(",")
    decoded = Image.open(io.BytesIO(base64.b64decode(data)))
    assert kind == "data:image/jpeg;base64"  # far smaller than PNG for a photograph
    assert decoded.size == (shown.width, shown.height) and max(decoded.size) == LARGEST_SIDE
    flat = shown_picture(Image.new("RGB", (40, 30), "red"), "red")
    assert flat.uri.startswith("data:image/png") and (flat.width, flat.height) == (40, 30)
