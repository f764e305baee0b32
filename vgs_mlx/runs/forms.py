"""The form of the files of a run; anything else is damage. Keys that are not named here are kept.

Commands that continue a run refuse damage (records.py); a report omits it (report/record.py).
"""

import re
from typing import Annotated, Any, NotRequired

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, with_config
from typing_extensions import TypedDict

from vgs_mlx.objective.binning import GROUPS
from vgs_mlx.objective.terms import DIAGNOSTICS

_UNDRAWABLE = re.compile(
    "[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
)  # characters that XML can't hold


def drawable(text: str) -> str:
    """The text with U+FFFD in place of each character that a page can't hold."""
    return _UNDRAWABLE.sub("\ufffd", text)


form = with_config(ConfigDict(strict=True, extra="allow"))
Text = Annotated[str, AfterValidator(drawable)]
Number = Annotated[float, Field(ge=-1e30, le=1e30, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=10**15)]
Step = Annotated[int, Field(ge=0, le=10**9)]
Share = Annotated[float, Field(ge=-0.01, le=1.01, allow_inf_nan=False)]  # rounding may go a little beyond


@form
class Shares(TypedDict):
    """An accuracy with its interval."""

    accuracy: Share
    low: Share
    high: Share


@form
class Asked(Shares):
    """An accuracy with its interval, and the number of prompts asked."""

    prompts: Count


@form
class Evaluation(Asked):
    """A row of evaluations.jsonl."""

    step: Step
    by_kind: NotRequired[dict[Text, Asked]]
    blind: NotRequired[Shares]
    scene_f1: NotRequired[Number | None]


@form
class Metrics(TypedDict):
    """A row of metrics.jsonl. Other keys are kept where they hold a number or null."""

    step: Step
    finite: NotRequired[bool]
    seconds: NotRequired[dict[Text, Number]]
    tokens: NotRequired[Count | None]
    peak_memory_gb: NotRequired[Number | None]
    cache_memory_gb: NotRequired[Number | None]
    norm_scale_exact: NotRequired[Number | None]


@form
class Completion(TypedDict):
    """A row of completions.jsonl."""

    step: Step
    question: Text
    completion: Text
    expected: Text
    right: bool


def _alike(row: Any) -> Any:
    if len(row["ids"]) != len(row["right"]):
        raise ValueError("not as many ids as grades")
    return row


@form
class Graded(TypedDict):
    """A row of answers.jsonl."""

    step: Step
    ids: Annotated[list[str], Field(min_length=1)]
    right: list[Share]


Means = form(TypedDict("Means", dict.fromkeys(DIAGNOSTICS, Number)))
Watched = form(TypedDict("Watched", {"step": Step} | dict.fromkeys(GROUPS, Means | None)))
"""A row of terms.jsonl; null for a group of bins without tokens."""


@form
class Best(TypedDict):
    """The evaluation with the highest accuracy."""

    step: Step
    accuracy: Share


@form
class Result(TypedDict):
    """result.json."""

    steps: NotRequired[Step]
    accuracy_before: NotRequired[Share]
    accuracy_after: NotRequired[Share]
    best: NotRequired[Best]


Looked = form(TypedDict("Looked", {"step": Step} | dict.fromkeys(GROUPS, NotRequired[Means | None])))
"""What a resumed run reads of such a row."""

METRICS, EVALUATIONS, COMPLETIONS = TypeAdapter(Metrics), TypeAdapter(Evaluation), TypeAdapter(Completion)
LOOKED: TypeAdapter = TypeAdapter(Looked)
ANSWERS, WATCHED = TypeAdapter(Annotated[Graded, AfterValidator(_alike)]), TypeAdapter(Watched)
VERSIONS: TypeAdapter = TypeAdapter(dict[Text, Text])
RESULT: TypeAdapter = TypeAdapter(Result)
NUMBER: TypeAdapter = TypeAdapter(Number)
