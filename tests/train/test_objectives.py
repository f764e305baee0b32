"""Every objective through a whole step on random models: its tree, what it asks for, its rewards and given answers."""

from types import SimpleNamespace

import mlx.core as mx
import numpy as np
import pytest

from random_models import random_completion, random_model, random_prompt
from random_rollouts import LENGTHS, flat_logits, prepared, rollouts
from vgs_mlx.errors import Refusal
from vgs_mlx.models import adapters
from vgs_mlx.models.rows import encode, evaluate
from vgs_mlx.objective.objectives import resolve
from vgs_mlx.recipe import file as recipe_file
from vgs_mlx.recipe.objective import needs_teacher
from vgs_mlx.recipe.options import Grpo, Student
from vgs_mlx.rollout.collect import given_answers
from vgs_mlx.runs import identity
from vgs_mlx.train import setup
from vgs_mlx.train.gradients import Weighing, compute
from vgs_mlx.train.rewards import advantages as rewards
from vgs_mlx.train.rewards.reasoning_steps import cut
from vgs_mlx.train.step import Progress, asked, measures
from vgs_mlx.types import Example, Prompt, Rollout, View

GAMMA, LAMBDA = 2.0, 0.5


def weighing(name, micro=2, one=False, **mix):
    return Weighing(
        resolve(name, GAMMA, LAMBDA, **mix), GAMMA, LAMBDA, "sequence", 4, micro, None, False, False,
        one_pass=one,
    )  # fmt: skip


def degraded_rollouts():
    """The usual rollouts, each prompt with a degraded view: the same ids, other pixels."""
    made, views = [], {}
    for rollout in rollouts():
        prompt = rollout.prompt
        if id(prompt) not in views:
            view = prompt.student["with_image"]
            pixels = view.media["pixel_values"] * 0.1
            degraded = View(view.ids, {**view.media, "pixel_values": pixels})
            both = {**prompt.student, "degraded": degraded}
            views[id(prompt)] = Prompt(prompt.example, both, both)
        made.append(
            Rollout(views[id(prompt)], rollout.completion, rollout.sampling_logprobs, True, rollout.number)
        )
    return made


def run(name, student, teacher, batch, advantages=None, **mix):
    views = [
        view
        for each in batch
        for view in (each.prompt.student["with_image"], each.prompt.student["text_only"])
    ]
    encodings = evaluate(encode(student, views))
    return compute(student, teacher, batch, weighing(name, **mix), encodings, advantages)


@pytest.mark.parametrize("one", [False, True], ids=["two passes", "one pass"])
def test_the_tree_of_the_policy_equals_plain_autograd(one):
    student = prepared(Student(rank=4))
    batch, advantages = rollouts(), np.linspace(-1, 2, sum(LENGTHS)).astype(np.float32)
    batch = [
        Rollout(
            each.prompt, each.completion, np.full(len(each.completion), -2.0, np.float32), True, each.number
        )
        for each in batch
    ]
    found = run("grpo", student, None, batch, advantages, one=one)
    tokens = mx.array(np.concatenate([each.completion for each in batch]))
    weights = mx.array(found.batch.weights)

    def loss():
        logits = mx.where(student.support(), flat_logits(student, "with_image"), -1e30)
        logprobs = mx.take_along_axis(
            logits - mx.logsumexp(logits, axis=-1, keepdims=True), tokens[:, None], -1
        )[:, 0]
        ratio, advantage = mx.exp(logprobs + 2.0), mx.array(advantages)
        return -(weights * mx.minimum(ratio * advantage, mx.clip(ratio, 0.8, 1.2) * advantage)).sum()

    trainable = adapters.trainable_weights(student.module)
    expected = mx.grad(lambda weights: adapters.call_with(student.module, weights, loss))(trainable)
    largest = max(float(mx.abs(value).max()) for value in expected.values())
    assert largest > 1e-3
    for name, value in expected.items():
        np.testing.assert_allclose(np.array(found.trees["total"][name]), np.array(value), atol=2e-4 * largest)


@pytest.mark.parametrize("name", ["adaptive", "language", "vds-weighted", "va-opd", "jsd"])
def test_microbatches_change_nothing(name):
    student, teacher = prepared(Student(rank=4)), random_model(5)
    batch = degraded_rollouts()
    views = [
        view
        for each in batch
        for view in (each.prompt.student["with_image"], each.prompt.student["text_only"])
    ]
    encodings = evaluate(encode(student, views))
    whole, split = (compute(student, teacher, batch, weighing(name, micro), encodings) for micro in (8, 1))
    assert whole.losses == pytest.approx(split.losses, rel=1e-4)
    largest = max(float(mx.abs(value).max()) for value in whole.trees["total"].values())
    for key, value in whole.trees["total"].items():
        np.testing.assert_allclose(np.array(split.trees["total"][key]), np.array(value), atol=1e-5 * largest)


def test_the_standard_objective_computes_no_text_view():
    student, teacher = prepared(Student(rank=4)), random_model(5)
    found = run("standard", student, teacher, rollouts())
    assert set(found.terms) == {"standard", "entropy"}


def test_no_teacher_is_needed_for_rewards_and_given_answers():
    def needs(*sets):
        return needs_teacher(recipe_file.load_recipe(None, sets))

    assert not needs("objective.name=grpo") and not needs("objective.name=sft")
    assert needs("objective.name=grpo", "objective.mix=0.3")
    assert needs("objective.name=sft", "objective.answers=teacher")
    assert needs("objective.name=standard")


def test_eta_can_be_watched_under_the_standard_loss():
    watched = recipe_file.load_recipe(
        None, ["objective.name=standard", "objective.watch_norm_scale=true", "objective.norm_scale_every=3"]
    )
    assert [measures(watched, Progress(step)) for step in range(4)] == [True, False, False, True]
    assert asked(watched, Progress(0)).has("steering") and not asked(watched, Progress(1)).has("steering")


@pytest.mark.parametrize("own", [
    ["objective.name=grpo", "objective.mix=0.3", "objective.mix_with=vgs"],
    ["objective.name=vgs", "objective.steering_coef=0", "objective.preservation_coef=1"],
])  # fmt: skip
def test_eta_is_not_watched_where_that_would_drop_a_part_of_the_objective(own):
    with pytest.raises(Refusal, match=r"objective\.watch_norm_scale=true"):
        setup.refuse_contradictions(recipe_file.load_recipe(None, [*own, "objective.watch_norm_scale=true"]))
    setup.refuse_contradictions(recipe_file.load_recipe(None, own))


def test_without_a_measurement_of_eta_the_next_step_makes_one():
    steering = recipe_file.load_recipe(None, ["objective.name=vgs"])
    assert measures(steering, Progress(1)) and not measures(steering, Progress(1, [0.4]))


class Letters:
    """A tokenizer whose tokens are characters."""

    eos_token_id = 2
    all_special_tokens = ("<eos>",)

    def __call__(self, text, add_special_tokens=True):
        return {"input_ids": [ord(character) for character in text]}

    def decode(self, ids, skip_special_tokens=False):
        return "".join("<eos>" if each == self.eos_token_id else chr(each) for each in ids)


def letters(text):
    return np.array([ord(character) for character in text], dtype=np.int32)


def pieces(text):
    steps = cut(Letters(), letters(text), ended=False)
    return [text[start:stop] for start, stop in steps.spans], steps.closing


def test_steps_end_at_sentences_and_lines_inside_the_reasoning():
    found, closing = pieces("<reason>It is 3.5 cm. So\ntwo</reason> \\boxed{2}")
    assert found == ["<reason>It is 3.5 cm.", " So\n", "two"]
    assert closing == "</reason>\n\\boxed{"
    assert pieces("I see a cat. So it is \\boxed{cat}") == (["I see a cat.", " So it is "], " \\boxed{")
    assert pieces("No box here")[0] == ["No box here"]
    assert pieces("\\boxed{1}")[0] == []


def test_the_end_of_the_sequence_belongs_to_no_step():
    ended = np.array([*letters("So. It"), Letters.eos_token_id], dtype=np.int32)
    steps = cut(Letters(), ended, ended=True)
    assert steps.spans == ((0, 3), (3, 6)) and steps.length == 7


def example(answer="2", solution=""):
    return Example("row", "?", answer, (), solution=solution)


def test_given_answers_are_the_solution_or_the_boxed_answer_with_an_end():
    model = SimpleNamespace(processor=SimpleNamespace(tokenizer=Letters()))
    view = random_prompt(1).student["with_image"]
    made = given_answers(
        model, [Prompt(example(solution="One. \\boxed{2}"), view, view), Prompt(example(), view, view)]
    )
    texts = [Letters().decode(each.completion.tolist()) for each in made]
    assert texts == ["One. \\boxed{2}<eos>", "\\boxed{2}<eos>"]
    assert all(each.completion[-1] == Letters.eos_token_id and each.ended for each in made)


def test_a_reward_of_one_s_own_is_called_with_the_example_and_the_text(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def short(example, text):\n    return len(example.answer) / len(text)\n")
    reward = rewards.reward_function(Grpo(reward=f"{file}:short"))
    assert reward(example("ab"), "abcd") == 0.5


def test_a_run_keeps_the_reward_it_began_with_and_is_not_resumed_with_another(tmp_path):
    file = tmp_path / "mine.py"
    settings = Grpo(reward=f"{file}:seen")
    file.write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n\n@dataclass\nclass Count:\n"
        "    calls: int = 0\n\ncount = Count()\n\ndef seen(example, text):\n    count.calls += 1\n"
        "    return count.calls\n"
    )
    first = identity.of_reward(settings.reward)
    assert rewards.reward_function(settings)(example(), "") == 1
    file.write_text("def seen(example, text):\n    return 7\n")
    assert rewards.reward_function(settings)(example(), "") == 2
    assert identity.of_reward(settings.reward) != first and identity.of_reward(Grpo().reward) is None


@pytest.mark.parametrize(("body", "reason"), [
    ("raise KeyError('missing')", "KeyError: 'missing', for row row: fix the function"),
    ("return 'good'", "ValueError: could not convert .*'good', for row row"),
    ("return float('nan')", "returned nan for row row"),
])  # fmt: skip
def test_a_reward_that_fails_or_is_no_number_is_told_with_its_row(tmp_path, body, reason):
    file = tmp_path / "mine.py"
    file.write_text(f"def reward(example, text):\n    {body}\n")
    reward = rewards.reward_function(Grpo(reward=f"{file}:reward"))
    with pytest.raises(Refusal, match=reason):
        reward(example(), "")


def test_a_reward_file_that_is_not_there_is_told_only_where_there_are_rewards(tmp_path):
    gone = [f"grpo.reward={tmp_path / 'mine.py'}:f"]
    (tmp_path / "rules").write_text("x = 1")
    with pytest.raises(Refusal, match=r"rules is not a Python file: give one whose name ends in \.py"):
        rewards.reward_function(Grpo(reward=f"{tmp_path / 'rules'}:x"))
    with pytest.raises(Refusal, match=r"no such file: x"):
        rewards.reward_function(Grpo(reward="x" * 5000 + ":f"))
    with pytest.raises(Refusal, match=r"no such file: .*mine\.py"):
        rewards.reward_function(recipe_file.load_recipe(None, gone).grpo)
    assert identity._own_reward(recipe_file.load_recipe(None, gone)) == {}


def test_the_file_of_a_reward_is_relative_to_the_recipe(tmp_path):
    (tmp_path / "mine.py").write_text("def short(example, text):\n    return 1\n")
    (tmp_path / "recipe.yaml").write_text("grpo: {reward: 'mine.py:short'}\n")
    found = recipe_file.load_recipe(tmp_path / "recipe.yaml").grpo.reward
    assert found == f"{(tmp_path / 'mine.py').resolve()}:short"
    assert recipe_file.load_recipe(None).grpo.reward == "answer"


@pytest.mark.parametrize(("content", "name", "reason"), [
    ("x = 1\n", "short", "has no function short"), ("1 +\n", "short", "can't be loaded: SyntaxError"),
])  # fmt: skip
def test_a_reward_that_is_not_there_is_refused(tmp_path, content, name, reason):
    file = tmp_path / "mine.py"
    file.write_text(content)
    with pytest.raises(Refusal, match=reason):
        rewards.reward_function(Grpo(reward=f"{file}:{name}"))


def test_an_unknown_reward_is_refused():
    with pytest.raises(Refusal, match="give answer, pacr, pdcr, or"):
        rewards.reward_function(Grpo(reward="anser"))


def test_right_answers_earn_more_than_wrong_ones_to_the_same_prompt(monkeypatch):
    prompt = random_prompt(1)
    prompt = Prompt(example("2"), prompt.student, prompt.teacher)
    made = [
        Rollout(prompt, random_completion(seed, 4), np.zeros(4, np.float32), True, 0) for seed in range(2)
    ]
    texts = iter(["so \\boxed{2}", "so \\boxed{3}"])
    monkeypatch.setattr(rewards, "_text", lambda student, rollout: next(texts))
    found = rewards.advantages(None, made, recipe_file.load_recipe(None, ["objective.name=grpo"]), {})
    assert found.rewards.tolist() == [1.0, 0.0] and found.right.tolist() == [True, False]
    assert found.by_token[0] == pytest.approx([1.0] * 4, abs=1e-4)
    assert found.by_token[1] == pytest.approx([-1.0] * 4, abs=1e-4)
