"""How the cost of a VGS update grows with completions, image tokens and length, continued and with a row each.

An update is scoring with both models, the backward pass and AdamW on given rollouts. Sampling is not part of it: it is
the same in both ways.
"""

from functools import partial
from pathlib import Path

from benchmarks import made
from benchmarks.timing import Medians, alternate, console, one_update
from vgs_mlx.figures import files, series, style
from vgs_mlx.figures.series import Series

# prompts, image tokens, completions, length
CASES = {
    "completions per prompt": {count: (2, 64, count, 64) for count in (1, 2, 4, 8, 16)},
    "image tokens": {count: (2, count, 4, 64) for count in (64, 144, 256, 576, 1024)},
    "tokens of a completion": {count: (1, 64, 2, count) for count in (128, 256, 512, 1024, 2048)},
}
PANELS = {"seconds": "seconds per update", "peak_gb": "peak memory, GB"}
WAYS = {"prompts shared": True, "a row for each completion": False}


def run(repetitions: int) -> Medians:
    """Seconds and peak memory of one update at every point. The two ways alternate."""
    student, teacher = made.scaled_models(layers=4)
    medians = {}
    for axis, points in CASES.items():
        for point, (count, image, completions, length) in points.items():
            console.print(f"{axis}: {point:,}")
            asked = made.prompts(count, image)
            rollouts = made.answers(asked, completions, length)
            settings = made.recipe("vgs", "interval", micro=completions)
            medians |= alternate(
                {
                    f"{axis}, {point}, {way}": partial(
                        one_update, student, teacher, rollouts, settings, shared
                    )
                    for way, shared in WAYS.items()
                },
                repetitions,
            )
    return medians


@style.applied()
def draw(medians: Medians, folder: Path) -> None:
    """growth-completions.svg and so on: time and memory side by side."""
    folder.mkdir(parents=True, exist_ok=True)
    for axis, points in CASES.items():
        figure = style.blank(8, 3)
        panels = figure.subplots(1, 2)
        for axes, (quantity, label) in zip(panels, PANELS.items(), strict=True):
            for place, way in enumerate(WAYS):
                values = [medians[f"{axis}, {point}, {way}"][quantity] for point in points]
                series.draw(axes, Series(way, list(points), values), style.line(place))
            axes.set(xlabel=axis, ylabel=label, xscale="log", xticks=list(points), ylim=(0, None))
            axes.set_xticklabels([f"{point:,}" for point in points])
            axes.minorticks_off()
        panels[0].legend()
        files.save(figure, folder, f"growth-{axis.split()[0]}", ("svg",))
