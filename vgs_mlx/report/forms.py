"""What the files of an analysis and of an ablation must hold for a page to show it; anything else is left out.

A kill cuts files short, disks lose parts, and other versions write other keys. What is checked here once need not be
doubted where it is drawn. Keys that are not named here stay. For the files of a run see runs/forms.py.
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


GEOMETRY, SUMMARY = TypeAdapter(Geometry), TypeAdapter(Summary)
