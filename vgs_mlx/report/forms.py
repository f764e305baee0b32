"""What the files of a run and of an ablation must hold for a page to show it; anything else is damage, and left out.

A kill cuts files short, disks lose parts, and other versions write other keys. What is checked here once need not be
doubted where it is drawn. Keys that are not named here stay.
"""

import re
from typing import Annotated, Any, NotRequired

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, with_config
from typing_extensions import TypedDict

from vgs_mlx.geometry import PAIRS, TERMS
from vgs_mlx.objective.binning import GROUPS
from vgs_mlx.objective.terms import DIAGNOSTICS

_UNDRAWABLE = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML has no place for these


def drawable(text: str) -> str:
    """The text with a sign in the place of each character that no page can hold."""
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
    """The same of so many prompts."""

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
    """A row of metrics.jsonl. Of the keys that are not named, those are kept that hold a number or null."""

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
        raise ValueError("as many ids as grades are needed")
    return row


@form
class Graded(TypedDict):
    """A row of answers.jsonl."""

    step: Step
    ids: Annotated[list[str], Field(min_length=1)]
    right: list[Share]


Means = form(TypedDict("Means", dict.fromkeys(DIAGNOSTICS, Number)))
Watched = form(TypedDict("Watched", {"step": Step} | dict.fromkeys(GROUPS, Means | None)))
"""A row of terms.jsonl; null for a group of bins without a token."""


@form
class Deviation(TypedDict):
    """A mean over batches."""

    mean: Number | None
    sd: NotRequired[Number | None]


Measured = NotRequired[Number | Deviation | None]
Bin = form(
    TypedDict(
        "Bin",
        {"bin": Step, "tokens": NotRequired[Count], "frequent": NotRequired[list[tuple[Text, Count]]]}
        | dict.fromkeys(("vds_low", "vds_high"), NotRequired[Number | None])
        | dict.fromkeys(
            (*PAIRS, *(f"{kind}_{term}" for kind in ("norm", "mean") for term in TERMS)), Measured
        ),
    )
)
"""A bin of geometry.json."""


@form
class Geometry(TypedDict):
    """geometry.json."""

    bins: list[Bin]
    batches: NotRequired[Count]


def _both_ends(found: Any) -> Any:
    if (found["low"] is None) != (found["high"] is None):
        raise ValueError("an interval has two ends")
    return found


@form
class _Spread(TypedDict):
    mean: Number
    sd: Number | None
    low: Number | None
    high: Number | None


Spread = Annotated[_Spread, AfterValidator(_both_ends)]
"""A mean over seeds, its standard deviation and interval where there are several."""


@form
class Interval(TypedDict):
    """A mean with its interval over prompts."""

    mean: Number
    low: Number
    high: Number


@form
class Point(TypedDict):
    """A cell at one evaluation."""

    step: Step
    accuracy: Spread


Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(drawable)]
Seeds = Annotated[list[Count], Field(min_length=1)]
One = Text | Annotated[int, Field(ge=-(10**15), le=10**15)] | Number | bool | None
Plain = One | list[One] | dict[Text, One]


@form
class Cell(TypedDict):
    """A cell over its seeds: see ablation.summary.CellSummary."""

    name: Name
    seeds: Seeds
    before: Spread
    final: Spread
    best: Spread
    blind: Spread | None
    reached: Count
    tokens_to_reach: Spread | None
    seconds_to_reach: Spread | None
    step_seconds: Spread
    curve: list[Point]
    by_kind: NotRequired[dict[Text, Spread]]
    settings: NotRequired[dict[Text, Plain]]


@form
class Difference(TypedDict):
    """A cell minus the baseline: see ablation.summary.Difference."""

    name: Name
    seeds: Seeds
    by_seed: list[Number]
    over_seeds: Spread
    over_prompts: Interval
    only_cell: Count
    only_baseline: Count
    mcnemar: Number
    by_kind: NotRequired[dict[Text, Spread]]


@form
class Summary(TypedDict):
    """summary.json of an ablation."""

    baseline: Name
    reach: Number | None
    cells: Annotated[list[Cell], Field(min_length=1)]
    differences: list[Difference]
    unfinished: list[Text]


METRICS, EVALUATIONS, COMPLETIONS = TypeAdapter(Metrics), TypeAdapter(Evaluation), TypeAdapter(Completion)
ANSWERS, WATCHED = TypeAdapter(Annotated[Graded, AfterValidator(_alike)]), TypeAdapter(Watched)
GEOMETRY, SUMMARY = TypeAdapter(Geometry), TypeAdapter(Summary)
VERSIONS: TypeAdapter = TypeAdapter(dict[Text, Text])
RESULT: TypeAdapter = TypeAdapter(form(TypedDict("Result", {"steps": Step})))
NUMBER: TypeAdapter = TypeAdapter(Number)
