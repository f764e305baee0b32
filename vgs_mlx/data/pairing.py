"""Checks that a student and a teacher may be paired: both must read the same ids, prompts and pictures."""

import json
from typing import Any

from vgs_mlx.data import templates
from vgs_mlx.data.templates import Options
from vgs_mlx.errors import Refusal

FIX = "take a student and a teacher of one model family and release"


def same_language(student: Any, teacher: Any, options: Options | None = None) -> None:
    """Student and teacher (processors) must read the same input; `options`: of the chat template. Raises `Refusal`."""
    types = [each.family.model_type for each in (student, teacher)]
    if types[0] != types[1]:
        raise Refusal(f"the student's family is {types[0]}, the teacher's {types[1]}: {FIX}")
    ours, theirs = student.tokenizer.get_vocab(), teacher.tokenizer.get_vocab()
    if ours != theirs:
        count = len(set(ours.items()) ^ set(theirs.items()))
        raise Refusal(f"student and teacher have different vocabularies ({count:,} entries differ): {FIX}")
    left, right = ((each.tokenizer.eos_token_id, each.tokenizer.pad_token_id) for each in (student, teacher))
    if left != right:
        raise Refusal(f"student and teacher have different end-of-sequence or padding tokens: {FIX}")
    _same_template(student, teacher, options or {})
    left, right = student.preparation, teacher.preparation
    for name, value in left.items():
        if value != right.get(name):
            raise Refusal(
                f"student and teacher prepare pictures differently ({name} {value} and {right.get(name)}): {FIX}, "
                "or make their preprocessor_config.json and processor_config.json equal"
            )


def _same_template(student: Any, teacher: Any, options: Options) -> None:
    if _alike(student, teacher, options):
        return
    if not _alike(student, teacher, options, answering=False):
        raise Refusal(f"student and teacher have chat templates that render a message differently: {FIX}")
    settings = ({name: value} for name in templates.switches(student) for value in (False, True))
    helps = next((each for each in settings if _alike(student, teacher, {**options, **each})), {})
    fix = "".join(
        f"set data.template_options={{{name}: {json.dumps(value)}}}, or " for name, value in helps.items()
    )
    ours, theirs = (templates.opening(each, _for(each, options)) for each in (student, teacher))
    raise Refusal(
        f"student and teacher have chat templates that open the answer differently ({ours!r} and {theirs!r}): "
        f"{fix}{FIX}, both with a reasoning block (Thinking) or both without (Instruct)"
    )


def _alike(student: Any, teacher: Any, options: Options, *, answering: bool = True) -> bool:
    """Whether both render messages equally, with and without a system prompt, with zero to two pictures."""
    system = {"role": "system", "content": [{"type": "text", "text": "Look."}]}
    question = [{"type": "text", "text": "What is it?"}]
    messages = [
        [*before, {"role": "user", "content": [{"type": "image"}] * pictures + question}]
        for before in ([system], [])
        for pictures in (0, 1, 2)
    ]
    ours, theirs = (
        [_rendered(side, each, options, answering) for each in messages] for side in (student, teacher)
    )
    return ours == theirs


def _rendered(processor: Any, messages: templates.Messages, options: Options, answering: bool) -> str:
    """The messages as the chat template renders them, or why it rejects them."""
    try:
        return templates.apply(processor, messages, _for(processor, options), answering=answering)
    except Refusal as refusal:
        return str(refusal)


def _for(processor: Any, options: Options) -> Options:
    """The options that this template uses. The teacher's never renders a prompt, so it may lack some."""
    known = templates.known_options(processor)
    return {name: value for name, value in options.items() if name in known}
