"""How a VGS update grows with completions, image tokens and length; by continuation and with a row for each.

An update is scoring with both models, backward and AdamW on given rollouts: sampling is the same in both ways.
"""

from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt

from benchmarks import made
from benchmarks.timing import Medians, alternate, console, one_update

# prompts, image tokens, completions, length
CASES = {
    "completions per prompt": {count: (2, 64, count, 64) for count in (1, 2, 4, 8, 16)},
    "image tokens": {count: (2, count, 4, 64) for count in (64, 144, 256, 576, 1024)},
    "tokens of a completion": {count: (1, 64, 2, count) for count in (128, 256, 512, 1024, 2048)},
}
PANELS = {"seconds": "seconds an update", "peak_gb": "peak memory, GB"}
WAYS = {"prompts shared": True, "a row for each completion": False}


def run(repetitions: int) -> Medians:
    """Seconds and peak memory of one update at every point, its two ways taking turns."""
    student, teacher = made.scaled_models(layers=4)
    found = {}
    for axis, points in CASES.items():
        for point, (count, image, completions, length) in points.items():
            console.print(f"{axis}: {point:,}")
            asked = made.prompts(count, image)
            rollouts = made.answers(asked, completions, length)
            settings = made.recipe("vgs", "interval", micro=completions)
            found |= alternate(
                {
                    f"{axis}, {point}, {way}": partial(
                        one_update, student, teacher, rollouts, settings, shared
                    )
                    for way, shared in WAYS.items()
                },
                repetitions,
            )
    return found


def draw(found: Medians, folder: Path) -> None:
    """growth-completions.svg and so on: time and memory beside each other."""
    folder.mkdir(parents=True, exist_ok=True)
    plt.rcParams["svg.hashsalt"] = "vgs-mlx"  # the same figures, the same bytes
    for axis, points in CASES.items():
        figure, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
        for panel, (key, label) in zip(axes, PANELS.items(), strict=True):
            for way, style in zip(WAYS, ("-o", "--s"), strict=True):
                panel.plot(
                    list(points),
                    [found[f"{axis}, {point}, {way}"][key] for point in points],
                    style,
                    label=way,
                )
            panel.set(xlabel=axis, ylabel=label, xscale="log", xticks=list(points), ylim=(0, None))
            panel.set_xticklabels([f"{point:,}" for point in points])
            panel.minorticks_off()
            panel.spines[["top", "right"]].set_visible(False)
        axes[0].legend(frameon=False)
        figure.savefig(folder / f"growth-{axis.split()[0]}.svg", metadata={"Date": None})
        plt.close(figure)
