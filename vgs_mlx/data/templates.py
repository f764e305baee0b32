"""Chat templates: what a model's own one makes of messages, what options it takes, how it opens the answer.

Templates of models that reason open a block for it (`<think>`) in front of the answer, or close an empty one; some
have an option that says which.
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
REASONING = re.compile(
    r"<\|?(think|thought|reason)|\[think|<\|channel", re.IGNORECASE
)  # how a block for it begins
ABOUT_REASONING = ("think", "reason")  # parts of the names of options that switch it

_ENVIRONMENT = Environment(extensions=["jinja2.ext.loopcontrols"])
_GENERATION = re.compile(r"\{%[-+]?\s*(end)?generation\s*[-+]?%\}")  # transformers' own tags
_BROUGHT = {
    "messages", "tools", "documents", "add_generation_prompt", "continue_final_message", "raise_exception",
    "strftime_now", *_ENVIRONMENT.globals,
}  # fmt: skip
"""What every template gets."""


def apply(processor: Any, messages: Messages, options: Options, *, answering: bool = True) -> str:
    """The messages as the model reads them, up to where its answer begins (`answering`).

    Raises `Refusal` for messages that the template doesn't take: some take no system prompt.
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
    """The names that the chat template uses and nothing but `data.template_options` gives a value."""
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
            fix = f"it uses {', '.join(known)}" if known else "it takes no options: remove it"
            raise Refusal(f"data.template_options: the model's chat template does not use {name!r}: {fix}")


def opening(processor: Any, options: Options) -> str:
    """What the template puts in front of the answer: its header, and where there is one the reasoning block."""
    asked, told = (apply(processor, QUESTION, options, answering=each) for each in (True, False))
    return asked.removeprefix(told)


def switches(processor: Any) -> list[str]:
    """The template's options that are about reasoning."""
    return [name for name in known_options(processor) if any(part in name for part in ABOUT_REASONING)]


def reasoning_line(processor: Any, options: Options) -> str | None:
    """How the answer opens, for readers; None where the template has nothing to do with reasoning."""
    opened, names = opening(processor, options), switches(processor)
    block = REASONING.search(opened)
    if not (block or names):
        return None
    does = f"opens the answer with {opened[block.start() :]!r}" if block else "opens no reasoning block"
    states = [
        f"{name}={json.dumps(options[name])}" if name in options else f"{name} is not set" for name in names
    ]
    return f"{does} ({', '.join(states) or 'it has no option for that'})"
