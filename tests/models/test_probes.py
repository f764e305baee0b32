"""Each probe refuses a model with the fault that it looks for, in one line with the mend, and no sound one."""

import contextlib
from collections.abc import Callable
from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_map

from random_models import changed_family, random_completion, random_model, random_prompt
from vgs_mlx.data import shapes
from vgs_mlx.data.prompts import render
from vgs_mlx.errors import Refusal
from vgs_mlx.models import adapters, caches, gradient_probe, prefix, probes, recomputing
from vgs_mlx.models.base import LoadedModel
from vgs_mlx.models.families.base import Rows
from vgs_mlx.models.families.qwen3_vl import FAMILY as qwen3_vl
from vgs_mlx.models.loading import load_model
from vgs_mlx.models.rows import encode
from vgs_mlx.recipe import options as recipe
from vgs_mlx.rollout.sample import Sampling, sample

PROMPTS = tuple(random_prompt(seed, pictures=1 + seed % 2, words=4 + seed) for seed in range(3))
COMPLETIONS = tuple(random_completion(seed, 5 + seed) for seed in range(3))
ALIKE = tuple(random_prompt(seed, words=4) for seed in range(3))  # no row of these is longer than another
EQUALLY_LONG = tuple(random_completion(seed, 5) for seed in range(3))

Forward = Callable[..., mx.array]


def attempt(model, prompts=PROMPTS, completions=COMPLETIONS) -> probes.Trial:
    views = [prompt.student[view] for prompt in prompts for view in probes.VIEWS]
    return probes.attempt(model, prompts, completions, encode(model, views))


def causality(model, prompts=PROMPTS, completions=COMPLETIONS):
    probes.causality(attempt(model, prompts, completions))


def padding(model, prompts=PROMPTS, completions=COMPLETIONS):
    probes.padding(attempt(model, prompts, completions))


def text_view(model, prompts=PROMPTS, completions=COMPLETIONS):
    probes.text_view(attempt(model, prompts, completions))


def sampling(model, prompts=PROMPTS, completions=COMPLETIONS, *, sampler=None, top_p=1.0):
    """The probe of what `sampler`, the model itself by default, draws as long as `completions`."""
    views = [prompt.student["with_image"] for prompt in prompts]
    settings, seeds = (
        Sampling(max(map(len, completions)), 1.0, top_p),
        [[(row,)] for row in range(len(views))],
    )
    drawn = [row[0] for row in sample(sampler or model, views, seeds, encode(model, views), settings)]
    trial = attempt(model, prompts, [each.ids for each in drawn])
    probes.sampling(trial, [each.sampling_logprobs for each in drawn])


def continuation(model, prompts=PROMPTS, completions=COMPLETIONS):
    probes.continuation(attempt(model, prompts, completions))


def gradients(model, prompts=PROMPTS, completions=COMPLETIONS, *, checkpointed=False):
    gradient_probe.gradients(attempt(model, prompts, completions), checkpointed=checkpointed)


PROBES = (causality, padding, text_view, sampling, continuation, gradients)


def refused(probe: Callable[[], None], reason: str, mend: str) -> None:
    """The probe refuses in one line that says what is wrong and then how to fix it."""
    with pytest.raises(Refusal) as found:
        probe()
    line = str(found.value)
    assert "\n" not in line and reason in line and mend in line and line.index(reason) < line.index(mend)


# --- models with a fault ---------------------------------------------------------------------------------------


def with_forward(forward: Forward) -> LoadedModel:
    """A model whose family has another `hidden_states`."""
    return replace(random_model(0), family=changed_family(hidden_states=forward))


def everyone_sees_everyone(where: str) -> LoadedModel:
    """The leak of calling mlx-vlm with `attention_mask = ones`, in one kind of row or in both."""

    def forward(module, rows: Rows, cache=None):
        leaks = {"both": True, "with_image": bool(rows.features), "text_only": not rows.features}[where]
        if not leaks or cache is not None:
            return qwen3_vl.hidden_states(module, rows, cache)
        length = rows.ids.shape[1]
        mask = mx.ones((len(rows.ids), 1, length, length), dtype=mx.bool_)
        decoder = module.language_model.model
        return decoder(
            None,
            inputs_embeds=qwen3_vl.embedded(module, rows),
            mask=mask,
            position_ids=mx.array(rows.positions),
        )

    return with_forward(forward)


def pads_on_the_left() -> LoadedModel:
    """Rows pushed to the right end, nothing hiding the padding before them: causal, and still wrong."""

    def forward(module, rows: Rows, cache=None):
        if cache is not None:
            return qwen3_vl.hidden_states(module, rows, cache)
        width = rows.ids.shape[1]
        shift = width - (rows.ids > 0).sum(axis=1)  # id 0 is padding in these tests alone
        there = (np.arange(width)[None] - shift[:, None]) % width
        moved = replace(
            rows,
            ids=np.take_along_axis(rows.ids, there, 1),
            placeholders=None
            if rows.placeholders is None
            else np.take_along_axis(rows.placeholders, there, 1),
            positions=np.take_along_axis(rows.positions, np.broadcast_to(there, rows.positions.shape), 2),
        )
        back = mx.array((np.arange(width)[None] + shift[:, None]) % width)
        return mx.take_along_axis(qwen3_vl.hidden_states(module, moved, cache), back[..., None], axis=1)

    return with_forward(forward)


def remembers_a_picture() -> LoadedModel:
    """What a picture adds stays for later rows without one."""
    memory = []

    def forward(module, rows: Rows, cache=None):
        hidden = qwen3_vl.hidden_states(module, rows, cache)
        if rows.features:
            memory[:] = [rows.features[0].embeddings.mean(axis=0)]
        return hidden if rows.features or not memory else hidden + memory[0]

    return with_forward(forward)


def keeps_old_positions() -> LoadedModel:
    """As mlx-vlm's own language model does without position ids: old ones, where they are long enough."""
    kept = []

    def forward(module, rows: Rows, cache=None):
        if kept and kept[0].shape[1] == len(rows.ids) and kept[0].shape[2] >= rows.ids.shape[1]:
            rows = replace(rows, positions=kept[0][..., : rows.ids.shape[1]])
        else:
            kept[:] = [rows.positions]
        return qwen3_vl.hidden_states(module, rows, cache)

    return with_forward(forward)


def decodes(change: Callable[[Rows], Rows]) -> LoadedModel:
    """Right in one pass over a whole row, and wrong where it goes on from a cache, a token at a time."""

    def forward(module, rows: Rows, cache=None):
        return qwen3_vl.hidden_states(module, rows if cache is None or rows.features else change(rows), cache)

    return with_forward(forward)


def decodes_one_position_late() -> LoadedModel:
    return decodes(lambda rows: replace(rows, positions=rows.positions + 1))


def decodes_without_the_key_mask() -> LoadedModel:
    """Looks at the padding before the shorter prompts of a batch."""

    def forward(module, rows: Rows, cache=None):
        for each in cache or ():
            if hasattr(each, "left_padding"):
                each.left_padding = mx.zeros_like(each.left_padding)
        return qwen3_vl.hidden_states(module, rows, cache)

    return with_forward(forward)


def makes_nan() -> LoadedModel:
    def forward(module, rows: Rows, cache=None):
        return qwen3_vl.hidden_states(module, rows, cache) * mx.nan

    return with_forward(forward)


def looks_at_the_last_token_only() -> LoadedModel:
    """Predicts from one token: neither picture nor history matters."""

    def forward(module, rows: Rows, cache=None):
        return module.language_model.model.embed_tokens(mx.array(rows.ids))

    return with_forward(forward)


# --- models without one ----------------------------------------------------------------------------------------


def adapted(kind: str) -> LoadedModel:
    model = random_model(0)
    adapters.prepare(model, recipe.Student(train=kind, rank=4), seed=1)
    weights = adapters.trainable_weights(model.module)
    adapters.set_weights(model.module, {name: weights[name] + 0.3 for name in weights if "lora_b" in name})
    return model


def in_bfloat16() -> LoadedModel:
    model = random_model(0, scale=1.0)
    model.module.update(tree_map(lambda each: each.astype(mx.bfloat16), model.module.parameters()))
    return model


SOUND = {
    "tied": lambda: random_model(0),
    "untied": lambda: random_model(1, tied=False),
    "lora": lambda: adapted("lora"),
    "dora": lambda: adapted("dora"),
    "bfloat16": in_bfloat16,
}


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.__name__)
@pytest.mark.parametrize("make", SOUND.values(), ids=SOUND)
def test_a_sound_model_passes(make, probe):
    model = make()
    probe(model)
    probe(model, ALIKE, EQUALLY_LONG)
    probe(model, ALIKE[:1], EQUALLY_LONG[:1])


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_the_embedded_models_pass(role):
    model = load_model(f"embedded:{role}", f"--{role}", say=lambda _: None)
    rows = shapes.examples("train", 3)
    prompts = [render(model.processor, row, recipe.Data()) for row in rows]
    completions = [random_completion(at, 6 + at) + 10 for at in range(3)]
    for probe in PROBES:
        probe(model, prompts, completions)


@pytest.mark.parametrize("where", ["both", "with_image", "text_only"])
@pytest.mark.parametrize("length", [1, 6])
def test_a_model_that_sees_ahead_is_refused(where, length):
    model, completions = everyone_sees_everyone(where), [random_completion(4, length)]
    refused(lambda: causality(model, PROMPTS[:1], completions), "last token", "use another family")


def test_a_completion_of_one_repeated_token_still_shows_a_leak():
    """The probe must change the last token even where the first is no other."""
    model, same = everyone_sees_everyone("both"), np.full(4, 9, dtype=np.int32)
    refused(lambda: causality(model, PROMPTS[:1], [same]), "last token", "use another family")


@pytest.mark.parametrize(
    ("prompts", "completions"),
    [(PROMPTS, COMPLETIONS), (ALIKE, EQUALLY_LONG), (ALIKE[:1], EQUALLY_LONG[:1])],
    ids=["ragged", "equally long", "one row"],
)
def test_a_model_that_pads_on_the_left_is_refused_whatever_the_prompts(prompts, completions):
    model = pads_on_the_left()
    causality(model)  # this one sees nothing wrong
    refused(
        lambda: padding(model, prompts, completions), "padded row differs", "use another family or version"
    )


@pytest.mark.parametrize("make", [remembers_a_picture, keeps_old_positions])
@pytest.mark.parametrize("before", [[], [causality], [causality, padding], [text_view]], ids=str)
def test_a_model_that_keeps_state_is_refused_whatever_ran_before(make, before):
    """State left by an earlier probe must not make the text view look constant."""
    model = make()
    for probe in before:
        with contextlib.suppress(Refusal):
            probe(model)
    refused(lambda: text_view(model), "after it has seen a picture", "use another family")


def test_a_misplaced_completion_is_refused(monkeypatch):
    def one_too_late(sequences, width):
        return true_places(sequences, width) - 1

    true_places = probes.flat_positions
    monkeypatch.setattr(probes, "flat_positions", one_too_late)
    refused(lambda: text_view(random_model(0)), "misplaced", "fix this family's file")


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.__name__)
def test_nan_passes_no_probe(probe):
    refused(lambda: probe(makes_nan()), "not finite", "download it again")


def continues(change: Callable[[Rows], Rows]) -> LoadedModel:
    """Right in a row of its own, wrong where several tokens go on from a cache."""
    return decodes(lambda rows: change(rows) if rows.ids.shape[1] > 1 else rows)


def test_a_model_that_continues_at_other_positions_is_refused():
    model = continues(lambda rows: replace(rows, positions=rows.positions + 1))
    for probe in (causality, padding):  # these see nothing wrong
        probe(model)
    refused(lambda: continuation(model), "differ from separate rows", "use another family")


def test_a_model_that_forgets_its_prompt_where_it_continues_is_refused():
    def forward(module, rows: Rows, cache=None):
        going_on = cache is not None and not rows.features and rows.ids.shape[1] > 1
        return qwen3_vl.hidden_states(module, rows, None if going_on else cache)

    refused(lambda: continuation(with_forward(forward)), "differ from separate rows", "use another family")


def test_completions_taken_for_one_another_are_refused(monkeypatch):
    fork = prefix.fork
    monkeypatch.setattr(prefix, "fork", lambda begun, rows: fork(begun, rows[::-1]))
    both = [random_prompt(1, words=4), random_prompt(2, words=4)]  # as long as each other
    refused(
        lambda: continuation(random_model(0), both, EQUALLY_LONG[:2]),
        "differ from separate rows",
        "use another",
    )


@pytest.mark.parametrize("kind", ["lora", "dora", "full"])
@pytest.mark.parametrize("checkpointed", [False, True])
def test_a_sound_student_has_the_gradient_of_separate_rows(kind, checkpointed):
    gradients(adapted(kind), checkpointed=checkpointed)


def test_a_layer_that_is_recomputed_with_its_cache_closed_over_is_refused(monkeypatch):
    """Values are right: only the gradient shows it."""

    def closed_over(original):
        def call(layer, hidden, mask, cache, *others):
            def run(weights, hidden):
                layer.update(weights)
                return original(layer, hidden, mask, cache, *others)

            return mx.checkpoint(run)(layer.trainable_parameters(), hidden)

        return call

    monkeypatch.setattr(recomputing, "_recomputed", closed_over)
    continuation(adapted("lora"))
    refused(
        lambda: gradients(adapted("lora"), checkpointed=True), "with train.grad_checkpoint", "use another"
    )


def test_a_cache_that_stops_the_gradient_is_refused(monkeypatch):
    taken = caches.taken
    monkeypatch.setattr(
        caches, "taken",
        lambda cache, rows: [caches.mapped(each, mx.stop_gradient) for each in taken(cache, rows)],
    )  # fmt: skip
    continuation(adapted("lora"))
    refused(lambda: gradients(adapted("lora")), "from that of separate rows", "use another family")


# --- samples are of the distribution that they are scored under ------------------------------------------------

UNLIKE_SCORED = "nats from that of the same token when scored"


@pytest.mark.parametrize("make", [decodes_one_position_late, decodes_without_the_key_mask])
def test_a_model_that_decodes_otherwise_than_it_scores_is_refused(make):
    model = make()
    for probe in (causality, padding, text_view):  # these see nothing wrong
        probe(model)
    refused(lambda: sampling(model), UNLIKE_SCORED, "use another family")


def test_samples_of_a_truncated_distribution_are_refused():
    """A sound model, and a sampler that leaves the tail out: what it keeps is likelier than it is when scored."""
    refused(lambda: sampling(random_model(0), top_p=0.9), UNLIKE_SCORED, "use another family")


def test_the_refusal_says_how_far_off_which_token_of_which_model_is():
    trial = attempt(random_model(0))
    sampled = [
        probes._taken(trial.model, *each)
        for each in zip(trial.padded["with_image"], COMPLETIONS, strict=True)
    ]
    probes.sampling(trial, sampled)
    sampled[2][3] += 0.5
    with pytest.raises(Refusal) as found:
        probes.sampling(trial, sampled)
    position = len(PROMPTS[2].student["with_image"].ids) + 3
    assert str(found.value).startswith("random-0: the log-prob of a sampled token is 0.5 nats from")
    assert f"(token 4 of 7, position {position} of training row 3)" in str(found.value)


def test_samples_are_held_against_continuations():
    sound = attempt(random_model(0))
    sampled = [
        probes._taken(sound.model, *each)
        for each in zip(sound.padded["with_image"], COMPLETIONS, strict=True)
    ]
    probes.sampling(sound, sampled)
    moved = {view: [each * 1.1 for each in sound.continued[view]] for view in probes.VIEWS}
    refused(lambda: probes.sampling(replace(sound, continued=moved), sampled), UNLIKE_SCORED, "use another")


def test_the_gap_at_the_farthest_states_is_that_of_all_positions():
    """Log-probs are made at a few positions alone: where a state moved, not where all are apart by rounding."""
    model, rng = random_model(0), np.random.default_rng(0)
    states = attempt(model).alone["with_image"]
    for place in range(len(COMPLETIONS[0])):
        moved = mx.array(rng.normal(size=states[0].shape).astype(np.float32) * 1e-6)
        moved[place] += 0.1 * mx.array(rng.normal(size=states[0].shape[1]).astype(np.float32))
        before, after = (probes._logprobs(model, each) for each in (states[0], states[0] + moved))
        assert (
            probes._gap(model, states[:1], [states[0] + moved]) == float(mx.abs(before - after).max()) > 1e-3
        )


def test_leaks_are_told_from_rounding(monkeypatch):
    """Measured leaks are 0.5 and more: all tolerances lie below, float32's far below where products are whole."""
    assert probes.tolerance(random_model(0)) <= 1e-3
    assert 1e-3 < probes.tolerance(in_bfloat16()) < 0.5
    monkeypatch.setattr(probes, "rounds_float32", lambda: True)
    assert 0.02 < probes.tolerance(random_model(0)) < probes.tolerance(in_bfloat16())


# --- does the picture matter? ----------------------------------------------------------------------------------


def test_a_teacher_that_ignores_the_picture_has_share_zero():
    assert probes.picture_reaction(attempt(looks_at_the_last_token_only())) == 0


def test_a_teacher_that_looks_has_a_share_of_its_positions():
    share = probes.picture_reaction(attempt(random_model(0)))
    positions = share * sum(map(len, COMPLETIONS))
    assert 0 < share <= 1 and positions == pytest.approx(round(positions), abs=1e-4)


def test_the_share_counts_positions_above_the_threshold(monkeypatch):
    monkeypatch.setattr(probes, "REACTS_ABOVE", -1.0)
    assert probes.picture_reaction(attempt(random_model(0))) == 1
    monkeypatch.setattr(probes, "REACTS_ABOVE", 1e6)
    assert probes.picture_reaction(attempt(random_model(0))) == 0


def test_a_teacher_that_reacts_at_a_single_position_is_not_taken_for_one_that_does_not_look(monkeypatch):
    """A few positions are scored; that none of them moves does not mean that none does."""
    trial = attempt(random_model(0))
    views = [probes._logprobs(trial.model, mx.concatenate(trial.padded[view])) for view in probes.VIEWS]
    scores = np.array(probes.visual_dependency_score(*views))
    monkeypatch.setattr(probes, "SCORED", 1)
    monkeypatch.setattr(probes, "REACTS_ABOVE", float(np.sort(scores)[-2:].mean()))
    assert scores.argmax() != 0
    assert probes.picture_reaction(trial) == pytest.approx(1 / len(scores))


# --- the recipe ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("key", "value"), [("temperature", 0.7), ("temperature", 0.0), ("top_p", 0.95)])
def test_sampling_from_another_distribution_is_refused(key, value):
    settings = recipe.Rollout(**{key: value})
    refused(lambda: probes.sampling_is_on_policy(settings), f"rollout.{key}={value}", f"set rollout.{key}=1")


def test_sampling_from_the_students_own_distribution_passes():
    probes.sampling_is_on_policy(recipe.Rollout())
