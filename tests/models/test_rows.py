"""Rows hold the same completion in both views, and what is masked is as good as gone."""

from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest

from random_models import (
    IMAGE,
    VIDEO,
    VISION_START,
    VOCABULARY,
    changed_family,
    random_completion,
    random_model,
    random_prompt,
)
from vgs_mlx.errors import Refusal
from vgs_mlx.models.families.qwen3_vl import FAMILY as qwen3_vl
from vgs_mlx.models.logprobs import completion_hidden, compute_logprobs
from vgs_mlx.models.rows import Continued, encode, evaluate, flat_positions
from vgs_mlx.models.rows import _continued as continue_positions
from vgs_mlx.models.rows import separate as build
from vgs_mlx.types import View

VIEWS = ("with_image", "text_only")
LENGTHS = (5, 1, 8, 3)


def prompts():
    """Ragged: one, two, no and one picture."""
    return [
        random_prompt(seed, pictures=count, words=3 + 2 * seed) for seed, count in enumerate((1, 2, 0, 1))
    ]


def sequences(view: str) -> list[Continued]:
    return [Continued(prompt.student[view], random_completion(at, length))
            for at, (prompt, length) in enumerate(zip(prompts(), LENGTHS, strict=True))]  # fmt: skip


def built(model, chosen):
    return build(model, chosen, encode(model, [view for view, _ in chosen]))


def test_the_same_completion_stands_after_the_predicting_positions_of_both_views():
    model = random_model(0)
    found = []
    for view in VIEWS:
        chosen = sequences(view)
        rows = built(model, chosen)
        places = np.array(flat_positions(chosen, rows.ids.shape[1]))
        found.append(rows.ids.reshape(-1)[places + 1])
    expected = np.concatenate([random_completion(at, length) for at, length in enumerate(LENGTHS)])
    np.testing.assert_array_equal(found[0], expected)
    np.testing.assert_array_equal(found[1], expected)


def test_the_first_answer_token_is_predicted_where_the_prompt_ends():
    """Rows of width 9: a prompt of 3 with 2 tokens, and one of 5 with 4."""
    views = [View(np.arange(6, 6 + length, dtype=np.int32), {}) for length in (3, 5)]
    chosen = [Continued(views[0], random_completion(0, 2)), Continued(views[1], random_completion(1, 4))]
    assert built(random_model(0), chosen).ids.shape == (2, 9)
    assert flat_positions(chosen, 9).tolist() == [2, 3, 9 + 4, 9 + 5, 9 + 6, 9 + 7]


def test_an_empty_completion_predicts_nothing():
    chosen = [
        Continued(prompts()[0].student["with_image"], np.zeros(0, dtype=np.int32)),
        sequences("text_only")[1],
    ]
    assert len(flat_positions(chosen, 40).tolist()) == 1


def test_a_placeholder_in_a_completion_takes_no_picture():
    """None is ever sampled; one that is given must not shift the features of the rows after it."""
    [first, *others] = sequences("with_image")
    changed = [Continued(first.view, np.full(5, IMAGE, dtype=np.int32)), *others]
    rows = built(random_model(0), changed)
    assert rows.placeholders.sum(axis=1).tolist() == [4, 8, 0, 4]


def test_every_completion_token_goes_one_on_from_the_prompts_largest_position():
    """A picture's axes differ; the text after it goes on from the largest of all."""
    prompt = np.array([[0, 1, 1, 1], [0, 1, 2, 3], [0, 1, 1, 2]])
    assert continue_positions(prompt, 3).tolist() == [
        [0, 1, 1, 1, 4, 5, 6],
        [0, 1, 2, 3, 4, 5, 6],
        [0, 1, 1, 2, 4, 5, 6],
    ]


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_row_in_a_batch_equals_the_row_alone(view, seed):
    model, chosen = random_model(seed), sequences(view)
    together = np.array(completion_hidden(model, chosen, encode(model, [each for each, _ in chosen])))
    alone = [np.array(completion_hidden(model, [each], encode(model, [each.view]))) for each in chosen]
    np.testing.assert_allclose(together, np.concatenate(alone), atol=2e-5)


@pytest.mark.parametrize("view", VIEWS)
def test_what_stands_in_the_padding_changes_nothing(view):
    model, chosen = random_model(0), sequences(view)
    rows = built(model, chosen)
    width = rows.ids.shape[1]
    lengths = np.array([len(each.view.ids) + len(each.completion) for each in chosen])
    padding = np.arange(width)[None] >= lengths[:, None]
    assert padding.any() and (rows.placeholders is None or not rows.placeholders[padding].any())
    other = replace(
        rows, ids=np.where(padding, 17, rows.ids), positions=np.where(padding, 99, rows.positions)
    )
    places = flat_positions(chosen, width)
    found = [model.family.hidden_states(model.module, each).reshape(len(chosen) * width, -1)[places]
             for each in (rows, other)]  # fmt: skip
    np.testing.assert_array_equal(np.array(found[0]), np.array(found[1]))


def test_the_order_of_the_rows_changes_nothing():
    model, chosen = random_model(0), sequences("with_image")
    _, forwards = compute_logprobs(model, chosen)
    _, backwards = compute_logprobs(model, chosen[::-1])
    ends = np.cumsum(LENGTHS)
    split = np.split(np.array(forwards), ends[:-1])
    np.testing.assert_allclose(np.concatenate(split[::-1]), np.array(backwards), atol=2e-5)


def test_a_view_is_encoded_once_for_all_its_completions():
    model, calls = random_model(0), []

    def counted(module, view):
        calls.append(view)
        return qwen3_vl.encode(module, view)

    model = replace(model, family=changed_family(encode=counted))
    first, second = prompts()[:2]
    encodings = evaluate(
        encode(
            model,
            [
                first.student["with_image"],
                first.student["text_only"],
                first.student["with_image"],
                second.student["with_image"],
            ],
        )
    )
    assert len(calls) == len(encodings) == 3


def misplaced(**config):
    """A model whose config.json names other ids or sizes than the prompts were made with."""
    model = random_model(0)
    for name, value in config.items():
        setattr(model.module.config, name, value)
    return model


@pytest.mark.parametrize(
    ("model", "ids"),
    [
        (lambda: misplaced(image_token_id=VIDEO), [VISION_START, *[IMAGE] * 4, 7]),  # no place at all
        (lambda: random_model(0), [VISION_START, *[IMAGE] * 3, 7]),  # one place too few
        (lambda: random_model(0), [VISION_START, *[IMAGE] * 4, 7, IMAGE]),  # one place too many
    ],
    ids=["other-id", "too-few", "too-many"],
)
def test_features_that_have_no_place_of_their_own_are_refused(model, ids):
    view = replace(random_prompt(0).student["with_image"], ids=np.array(ids, dtype=np.int32))
    with pytest.raises(Refusal, match=r"placeholders for 4 picture features.*take a student") as refused:
        encode(model(), [view])
    assert "\n" not in str(refused.value)


def test_a_placeholder_without_any_picture_is_refused():
    view = View(np.array([7, IMAGE, 8], dtype=np.int32), {})
    with pytest.raises(Refusal, match="1 placeholders for 0 picture features"):
        encode(random_model(0), [view])


def test_a_completion_is_scored_by_what_it_says():
    """One other token moves its own log-prob and later ones, and none before."""
    model, [sequence, *_] = random_model(0), sequences("with_image")
    changed = sequence.completion.copy()
    changed[2] = 6 + (changed[2] - 5) % (VOCABULARY - 6)
    before, after = (np.array(compute_logprobs(model, [Continued(sequence.view, each)])[0])
                     for each in (sequence.completion, changed))  # fmt: skip
    moved = np.abs(before - after).max(axis=-1)
    assert moved[:3].max() < 1e-5 < 1e-2 < moved[3:].min()


def test_log_probabilities_sum_to_one_over_what_can_be_answered():
    model = random_model(0)
    logprobs, tokens = compute_logprobs(model, sequences("with_image"), chunk_size=3)
    probabilities = np.exp(np.array(logprobs))
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, atol=1e-5)
    assert probabilities[:, [IMAGE, VIDEO]].max() == 0
    taken = np.concatenate([each.completion for each in sequences("with_image")])
    np.testing.assert_array_equal(np.array(tokens), np.array(logprobs)[np.arange(len(taken)), taken])
    assert mx.allclose(logprobs, compute_logprobs(model, sequences("with_image"))[0], atol=1e-6)


def test_one_picture_s_attention_exists_at_a_time():
    """Pictures of 32 x 32 patches: their attention, 2 heads x 1,024 squared, is most of what a tower holds."""
    model = random_model(0)
    rng = np.random.default_rng(0)

    def peak(count):
        views = [
            View(
                np.full(256, IMAGE, dtype=np.int32),
                {
                    "pixel_values": rng.normal(size=(1024, 96)).astype(np.float32),
                    "image_grid_thw": np.array([[1, 32, 32]]),
                },
            )
            for _ in range(count)
        ]
        mx.clear_cache()
        before = mx.get_active_memory()
        mx.reset_peak_memory()
        evaluate(encode(model, views))
        return mx.get_peak_memory() - before

    assert peak(6) < 1.5 * peak(1)
