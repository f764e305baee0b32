"""A model's own chat template: renders messages, and reports its options and how it opens the answer.

Templates of reasoning models open a block (`<think>`) before the answer, or write an empty one. Some have an option
for it.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, TemplateError, meta

from vgs_mlx.errors import Refusal

Messages = Sequence[Mapping[str, Any]]
Options = Mapping[str, bool | int | float | str]

QUESTION: Messages = ({"role": "user", "content": [{"type": "text", "text": "What is it?"}]},)
# how a reasoning block begins
REASONING = re.compile(r"<\|?(think|thought|reason)|\[think|<\|channel", re.IGNORECASE)
ABOUT_REASONING = ("think", "reason")  # parts of the names of options that switch reasoning

_ENVIRONMENT = Environment(extensions=["jinja2.ext.loopcontrols"])
_GENERATION = re.compile(r"\{%[-+]?\s*(end)?generation\s*[-+]?%\}")  # transformers' own tags
_BROUGHT = {
    "messages", "tools", "documents", "add_generation_prompt", "continue_final_message", "raise_exception",
    "strftime_now", *_ENVIRONMENT.globals,
}  # fmt: skip
"""The names that every template is given."""


def apply(processor: Any, messages: Messages, options: Options, *, answering: bool = True) -> str:
    """The messages as the model reads them; with `answering`, up to where its answer begins.

    Raises `Refusal` for messages that the template rejects: some accept no system prompt.
    """
    try:
        return processor.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=answering, **options
        )
    except Exception as error:  # a template is a program: it may divide by zero
        prompted = any(each["role"] == "system" for each in messages)
        fix = "set data.system_prompt=''" if prompted else "copy chat_template.jinja from the original model"
        raise Refusal(f"the model's chat template refuses a question ({error}): {fix}") from error


def known_options(processor: Any) -> list[str]:
    """The names in the chat template that only `data.template_options` can set."""
    template = processor.chat_template
    source = template.get("default", "") if isinstance(template, dict) else template
    try:
        used = meta.find_undeclared_variables(_ENVIRONMENT.parse(_GENERATION.sub("", source)))
    except TemplateError as error:
        fix = "copy chat_template.jinja from the original model"
        raise Refusal(f"the model's chat template can't be read ({error}): {fix}") from error
    return sorted(used - _BROUGHT - set(processor.tokenizer.special_tokens_map))


def refuse_unknown(processor: Any, options: Options) -> None:
    """Raises `Refusal` for an option that the model's chat template does not use: it would change nothing."""
    known = known_options(processor)
    for name in options:
        if name not in known:
            fix = f"it uses {', '.join(known)}" if known else "it has no options: remove the setting"
            raise Refusal(f"data.template_options: the model's chat template does not use {name!r}: {fix}")


def opening(processor: Any, options: Options) -> str:
    """What the template writes before the answer: its header and, if there is one, the reasoning block."""
    opened, without = (apply(processor, QUESTION, options, answering=each) for each in (True, False))
    return opened.removeprefix(without)


def switches(processor: Any) -> list[str]:
    """The template's options that are about reasoning."""
    return [name for name in known_options(processor) if any(part in name for part in ABOUT_REASONING)]


def reasoning_line(processor: Any, options: Options) -> str | None:
    """How the answer opens, for readers; None if the template has neither a reasoning block nor an option for it."""
    opened, names = opening(processor, options), switches(processor)
    block = REASONING.search(opened)
    if not (block or names):
        return None
    does = f"opens the answer with {opened[block.start() :]!r}" if block else "opens no reasoning block"
    states = [
        f"{name}={json.dumps(options[name])}" if name in options else f"{name} is not set" for name in names
    ]
    return f"{does} ({', '.join(states) or 'it has no option for that'})"
