"""A run's models are probed before it starts, with as few forward passes as that takes."""

from collections import Counter
from dataclasses import replace

import pytest

import toy_runs
from random_models import changed_family
from vgs_mlx.errors import Refusal
from vgs_mlx.models.base import LoadedModel
from vgs_mlx.models.families.qwen3_vl import FAMILY as qwen3_vl
from vgs_mlx.train import setup


def with_forward(model: LoadedModel, forward) -> LoadedModel:
    return replace(model, family=changed_family(hidden_states=forward))


def continues_late(module, rows, cache=None):
    """The same where several tokens go on at once."""
    if cache is not None and not rows.features and rows.ids.shape[1] > 1:
        rows = replace(rows, positions=rows.positions * 2)
    return qwen3_vl.hidden_states(module, rows, cache)


def decodes_late(module, rows, cache=None):
    """A token's position is one too high where the model goes on from a cache."""
    if cache is not None and rows.ids.shape[1] == 1:
        rows = replace(rows, positions=rows.positions + 1)
    return qwen3_vl.hidden_states(module, rows, cache)


def test_a_student_that_samples_otherwise_than_it_is_scored_starts_no_run():
    ready = toy_runs.ready("rollout.max_completion_length=32")
    student = with_forward(ready.student, decodes_late)
    with pytest.raises(Refusal, match="embedded:student: the log-prob of a sampled token is"):
        setup.probe(replace(ready, student=student), toy_runs.QUIET)


def test_a_teacher_that_continues_otherwise_than_in_a_row_of_its_own_starts_no_run():
    ready = toy_runs.ready()
    with pytest.raises(
        Refusal, match="embedded:teacher: completions that continue their prompt's cache differ"
    ):
        setup.probe(replace(ready, teacher=with_forward(ready.teacher, continues_late)), toy_runs.QUIET)


def test_each_forward_pass_is_run_once():
    """In each view 4 rows alone, all padded, and one with another end; two prompts continued; 6 for the text view."""
    ready, passes = toy_runs.ready(), Counter()

    def watched(role: str) -> LoadedModel:
        def hidden_states(module, rows, cache=None):
            passes[role, "a row each" if cache is None else "continued"] += 1
            return qwen3_vl.hidden_states(module, rows, cache)

        def encode_pictures(module, view):
            passes[role, "pictures"] += bool(view.media)
            return qwen3_vl.encode(module, view)

        functions = {"hidden_states": hidden_states, "encode": encode_pictures}
        return replace(vars(ready)[role], family=changed_family(**functions))

    watching = replace(ready, student=watched("student"), teacher=watched("teacher"))
    setup.probe(watching, toy_runs.QUIET)
    for role in ("student", "teacher"):
        # alone, padded, another end; the text view after others; the gradient to compare with
        assert passes[role, "a row each"] == 2 * (4 + 1 + 1) + 6 + (role == "student")
        assert passes[role, "pictures"] == 4 + 2
    assert passes["teacher", "continued"] == 2 * (2 + 2)
