"""Chat templates that reason: how the answer opens, the options that say so, and who must agree on it."""

import copy
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

import toy_runs
from vgs_mlx.data import pairing, templates
from vgs_mlx.data.prompts import problem, render
from vgs_mlx.errors import Refusal
from vgs_mlx.models.loading import find_folder, load_processor
from vgs_mlx.recipe.options import Data
from vgs_mlx.resources import tiny_model
from vgs_mlx.runs import identity
from vgs_mlx.runs.rows import row_check
from vgs_mlx.runs.screen import Screen
from vgs_mlx.train import setup
from vgs_mlx.types import Example

HEADER = "<|im_start|>assistant\n"
PLACE = "{{- '<|im_start|>assistant\\n' }}"  # where a template puts it
OPEN, CLOSED = "<think>\n", "<think>\n\n</think>\n\n"
EITHER = (
    "{{%- if enable_thinking is defined and enable_thinking is {} %}}{{{{- '{}' }}}}"
    "{{%- else %}}{{{{- '{}' }}}}{{%- endif %}}"
)
ADDED = {
    "plain": "",
    "thinking": "{{- '<think>\\n' }}",  # as Qwen3-VL's Thinking variants: always
    "hybrid": EITHER.format(
        "false", "<think>\\n\\n</think>\\n\\n", ""
    ),  # as Qwen3: the model opens it itself
    "opens": EITHER.format("false", "<think>\\n\\n</think>\\n\\n", "<think>\\n"),  # as the larger Qwen3.5
    "closes": EITHER.format("true", "<think>\\n", "<think>\\n\\n</think>\\n\\n"),  # as the smaller ones
}


@pytest.fixture(scope="module")
def plain():
    return load_processor(find_folder("embedded:student", "--student"), "--student")


@pytest.fixture
def made(plain):
    """Processors with a template of each kind."""

    def processor(kind: str):
        changed = copy.deepcopy(plain)
        changed.inner.chat_template = changed.tokenizer.chat_template = with_ending(plain.chat_template, kind)
        return changed

    return processor


def with_ending(template: str, kind: str) -> str:
    assert PLACE in template
    return template.replace(PLACE, PLACE + ADDED[kind])


def folder(to: Path, kind: str, role: str = "student") -> Path:
    """A copy of an embedded model with such a template."""
    shutil.copytree(tiny_model(role), to)
    file = to / "chat_template.jinja"
    file.write_text(with_ending(file.read_text(), kind))
    return to


def ends(processor, **options) -> list[str]:
    """The prompt in both views, from where the answer's header stands."""
    example = Example("row", "How many?", "3", toy_runs.ready().data.train[0].pictures)
    prompt = render(processor, example, Data(template_options=options))
    texts = [
        processor.tokenizer.decode(view.ids)
        for view in (prompt.student["with_image"], prompt.student["text_only"])
    ]
    return [HEADER + each.rpartition(HEADER)[2] for each in texts]


@pytest.mark.parametrize(
    ("kind", "options", "opening"),
    [
        ("plain", {}, ""),
        ("thinking", {}, OPEN),
        ("hybrid", {}, ""),
        ("hybrid", {"enable_thinking": False}, CLOSED),
        ("opens", {}, OPEN),
        ("opens", {"enable_thinking": False}, CLOSED),
        ("closes", {}, CLOSED),
        ("closes", {"enable_thinking": True}, OPEN),
    ],
)
def test_both_views_end_as_the_template_opens_the_answer(made, kind, options, opening):
    processor = made(kind)
    assert ends(processor, **options) == [HEADER + opening] * 2
    assert templates.opening(processor, options) == HEADER + opening


def test_the_length_that_counts_is_that_of_the_prompt_with_its_options(made):
    processor, row = made("opens"), Example("row", "How many?", "3", ())
    for options in ({}, {"enable_thinking": False}):
        settings = Data(template_options=options)
        length = len(render(processor, row, settings).student["with_image"].ids)
        assert problem(processor, row, replace(settings, max_prompt_length=length)) is None
        assert "tokens" in problem(processor, row, replace(settings, max_prompt_length=length - 1))


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("plain", {}, None),
        ("thinking", {}, r"opens the answer with '<think>\n' (it has no option for that)"),
        ("hybrid", {}, "opens no reasoning block (enable_thinking is not set)"),
        ("opens", {}, r"opens the answer with '<think>\n' (enable_thinking is not set)"),
        (
            "opens",
            {"enable_thinking": False},
            r"opens the answer with '<think>\n\n</think>\n\n' (enable_thinking=false)",
        ),
    ],
)  # fmt: skip
def test_how_the_answer_opens_is_said(made, kind, options, said):
    assert templates.reasoning_line(made(kind), options) == said


@pytest.mark.parametrize(
    ("kind", "name", "fix"),
    [
        ("opens", "enable_thinkin", "it uses enable_thinking"),
        ("thinking", "enable_thinking", "it has no options: remove the setting"),
        ("plain", "messages", "it has no options"),
        ("plain", "add_generation_prompt", "it has no options"),
        ("plain", "namespace", "it has no options"),
    ],
)
def test_an_option_that_the_template_does_not_use_is_refused(made, kind, name, fix):
    settings = Data(template_options={name: True})
    for refusing in (templates.refuse_unknown, lambda *_: row_check(made(kind), settings)):
        with pytest.raises(Refusal) as refused:
            refusing(made(kind), settings.template_options)
        line = str(refused.value)
        assert line.startswith("data.template_options: ") and f"does not use {name!r}: {fix}" in line


def test_generation_tags_and_loop_controls_are_read(made):
    processor = made("opens")
    tags = "{% generation %}{% for each in messages %}{% break %}{% endfor %}{%- endgeneration -%}"
    processor.inner.chat_template += tags
    assert templates.known_options(processor) == ["enable_thinking"]


def test_a_template_that_can_not_be_read_or_takes_no_system_prompt_is_refused_in_a_line(made):
    processor = made("plain")
    processor.inner.chat_template = "{% if %}"
    with pytest.raises(Refusal, match=r"can't be read .*: copy chat_template\.jinja"):
        templates.known_options(processor)
    refusing = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    processor.inner.chat_template = refusing + "{{ messages }}"
    row = Example("row", "How many?", "3", ())
    with pytest.raises(Refusal, match=r"refuses a question \(no system role\): set data\.system_prompt=''"):
        render(processor, row, Data())
    render(processor, row, Data(system_prompt=""))
    pairing.same_language(processor, copy.deepcopy(processor))


@pytest.mark.parametrize(
    "reach", ["messages.__class__.__mro__", "cycler.__init__.__globals__", "messages.append(1)"]
)
def test_a_template_reaches_nothing_of_python(made, reach):
    processor = made("plain")
    processor.inner.chat_template = "{{ " + reach + " }}"
    with pytest.raises(Refusal, match=r"refuses a question \(access to attribute .* is unsafe"):
        templates.apply(processor, templates.QUESTION, {})


@pytest.mark.parametrize(
    "template", ["{{ 1/0 }}", "{{ 'a' + 1 }}", "{% for i in range(10**7) %}x{% endfor %}"]
)
def test_a_template_that_fails_while_it_runs_is_refused_in_a_line(made, template):
    processor = made("plain")
    processor.inner.chat_template = template
    with pytest.raises(Refusal, match=r"chat template refuses a question .*: copy chat_template\.jinja"):
        templates.apply(processor, templates.QUESTION, {})


@pytest.mark.parametrize(
    ("student", "teacher", "options", "fix"),
    [
        ("plain", "thinking", {}, ": take a student and a teacher of one model family"),
        ("thinking", "plain", {}, ": take a student and a teacher of one model family"),
        ("closes", "opens", {}, ": set data.template_options={enable_thinking: false}, or take a student"),
        ("hybrid", "opens", {}, ": set data.template_options={enable_thinking: false}, or take a student"),
        ("closes", "thinking", {}, ": set data.template_options={enable_thinking: true}, or take a student"),
        ("opens", "thinking", {"enable_thinking": False}, ": set data.template_options={enable_thinking: true}"),
    ],
)  # fmt: skip
def test_a_teacher_that_opens_the_answer_differently_is_refused(made, student, teacher, options, fix):
    ours, theirs = made(student), made(teacher)
    with pytest.raises(Refusal) as refused:
        pairing.same_language(ours, theirs, options)
    line = str(refused.value)
    assert "\n" not in line and "open the answer differently" in line and fix in line
    seen = [repr(templates.opening(each, options if each is ours else {})) for each in (ours, theirs)]
    assert f"({' and '.join(seen)})" in line


@pytest.mark.parametrize(
    ("student", "teacher", "options"),
    [
        ("thinking", "thinking", {}),
        ("hybrid", "plain", {}),
        ("closes", "opens", {"enable_thinking": True}),
        ("closes", "opens", {"enable_thinking": False}),
        ("closes", "thinking", {"enable_thinking": True}),  # the teacher's template needs no option for it
    ],
)
def test_a_teacher_that_opens_the_answer_alike_passes(made, student, teacher, options):
    pairing.same_language(made(student), made(teacher), options)


def test_a_resumed_run_keeps_its_options():
    before, after = (
        toy_runs.recipe(*each) for each in ((), ("data.template_options={enable_thinking: false}",))
    )
    assert after.data.template_options == {"enable_thinking": False}
    with pytest.raises(Refusal, match=r"data\.template_options"):
        identity.refuse_changes(before, after)


def test_a_run_with_models_that_reason_says_how_the_answer_opens_and_is_asked_that_way(tmp_path):
    paths = {role: folder(tmp_path / role, "opens", role) for role in ("student", "teacher")}
    options = "data.template_options={enable_thinking: false}"
    recipe = toy_runs.recipe(options, *(f"{role}.path={path}" for role, path in paths.items()))
    with (tmp_path / "screen").open("w") as file:
        ready = setup.load(recipe, Screen(Console(file=file)))
    said = (tmp_path / "screen").read_text().splitlines()
    assert r"template opens the answer with '<think>\n\n</think>\n\n' (enable_thinking=false)" in said
    assert ready.student.processor.tokenizer.decode(ready.prompt(0).student["text_only"].ids).endswith(
        HEADER + CLOSED
    )
    evaluated = toy_runs.command(
        "evaluate", paths["student"], "--data", "shapes:2", "--set", options.replace("_thinking", "")
    )
    assert evaluated.exit_code == 2 and "does not use 'enable': it uses enable_thinking" in evaluated.stderr
