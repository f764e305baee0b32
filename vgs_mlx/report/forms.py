"""The forms that the files of an analysis and of an ablation must have for a page to show them.

A kill truncates files, disks lose data, and other versions write other keys. Values are checked once, here, so that
no drawing needs to check them. Keys that are not named here are kept. For the files of a run see runs/forms.py.
"""

from typing import Annotated, Any, NotRequired

from pydantic import AfterValidator, Field, TypeAdapter
from typing_extensions import TypedDict

from vgs_mlx.analysis.geometry import PAIRS, TERMS
from vgs_mlx.runs.forms import Count, Number, Step, Text, drawable, form


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


def _both_ends(spread: Any) -> Any:
    if (spread["low"] is None) != (spread["high"] is None):
        raise ValueError("an interval has two ends")
    return spread


@form
class _Spread(TypedDict):
    mean: Number
    sd: Number | None
    low: Number | None
    high: Number | None


Spread = Annotated[_Spread, AfterValidator(_both_ends)]
"""A mean over seeds, with its standard deviation and interval where there are several seeds."""


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


GEOMETRY, SUMMARY = TypeAdapter(Geometry), TypeAdapter(Summary)
