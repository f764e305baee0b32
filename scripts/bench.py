"""Measures what a step costs, as ratios: every comparison in one process, alternating, medians after a warm-up.

    python scripts/bench.py scaled          a step of each kind, its phases and its memory
    python scripts/bench.py tiny            the same with the embedded models and the quickstart's settings
    python scripts/bench.py paper           the same at the sizes of the 2B student and the 8B teacher (a GPU, a Mac)
    python scripts/bench.py profile         where the time and the memory of a `scaled` step go
    python scripts/bench.py growth          time and memory by completions, image tokens and length
    python scripts/bench.py real-vocab      the loss phase alone at Qwen3-VL's vocabulary
    python scripts/bench.py chunk-size      the same by objective.chunk_size
    python scripts/bench.py first-line      how soon a command says something (--beside another checkout)
    python scripts/bench.py sampling        our sampler beside mlx-vlm's batch generator
    python scripts/bench.py probes          the start-up probes at Qwen3-VL's vocabulary, tiny bodies
    python scripts/bench.py precision       gradients in the stored precision beside float32 (no times)
    python scripts/bench.py grading         answers graded a second, and what hostile ones cost

A "step" is rollouts, scoring, backward and update. Models are random Qwen3-VLs but for `tiny`; completions of random
models never end early. `scripts/bench_pytorch.py` has the comparison with PyTorch.
"""

import os
from pathlib import Path

import vgs_mlx  # noqa: F401  (before mlx: it loads a fast BLAS)

# isort: split
import click

from benchmarks import first_line as first_lines
from benchmarks import grading as grades
from benchmarks import growth as growing
from benchmarks import loss_phase, made, profile, starting, steps
from benchmarks import precision as precisions
from benchmarks import sampling as drawing
from benchmarks.timing import alternate, show
from vgs_mlx.recipe.options import Student


@click.group(help=__doc__.replace("\n\n    python", "\n\n\b\n    python"))
def main() -> None: ...


def _in_a_folder(_: click.Context, option: click.Parameter, file: Path | None) -> Path | None:
    """Refuse before minutes of measuring what can't be written after them."""
    if file and not (file.parent.is_dir() and os.access(file.parent, os.W_OK)):
        raise click.BadParameter(f"{file.parent} is no folder that can be written to", param=option)
    return file


_repetitions = click.option("--repetitions", type=click.IntRange(1), default=5, show_default=True)
_json = click.option(
    "--json", "file", type=click.Path(dir_okay=False, path_type=Path), callback=_in_a_folder,
    help="Also write the medians there.",
)  # fmt: skip


@main.command()
@_repetitions
@_json
@click.option(
    "--prompts", type=click.IntRange(1), default=8, show_default=True, help="Fewer for a quick look."
)
@click.option(
    "--length", type=click.IntRange(1), default=128, show_default=True, help="Tokens of a completion."
)
def scaled(repetitions: int, file: Path | None, prompts: int, length: int) -> None:
    """8 prompts x 4 completions x 128 tokens, 256 image tokens."""
    settings = made.recipe("vgs", "interval", length=length)
    found = steps.run(*made.scaled_models(), made.prompts(prompts, 256), settings, repetitions)
    show("a step at `scaled`, seconds", found, file)
    steps.compare(found)


@main.command()
@_repetitions
@_json
def tiny(repetitions: int, file: Path | None) -> None:
    """The embedded student and teacher, 8 of their prompts x 4 completions, as in the quickstart."""
    found = steps.run(*made.embedded(), repetitions)
    show("a step at `tiny`, seconds", found, file)
    steps.compare(found)


@main.command()
@_repetitions
@_json
@click.option("--layers", type=click.IntRange(1), help="Fewer decoder layers, to see whether it runs.")
@click.option(
    "--length", type=click.IntRange(1), default=512, show_default=True, help="Tokens of a completion."
)
@click.option("--prompts", type=click.IntRange(1), default=8, show_default=True, help="4 completions each.")
@click.option(
    "--image-tokens", type=click.IntRange(1), default=256, show_default=True, help="Of a prompt's picture."
)
def paper(
    repetitions: int, file: Path | None, layers: int | None, length: int, prompts: int, image_tokens: int
) -> None:
    """2B in bfloat16 with LoRA, 8B in 4 bits, random weights."""
    settings = made.recipe("vgs", "interval", length=length)
    found = steps.run(*made.paper_models(layers), made.prompts(prompts, image_tokens), settings, repetitions)
    show("a step at `paper`, seconds", found, file)
    steps.compare(found)


@main.command("profile")
@_repetitions
@_json
def profile_(repetitions: int, file: Path | None) -> None:
    """Phases of a `scaled` step. Every phase is evaluated by itself, so the sum is a little above a plain step's."""
    show("where a step goes", profile.run(repetitions), file)


@main.command()
@_repetitions
@_json
@click.option(
    "--figures",
    type=click.Path(file_okay=False, path_type=Path),
    callback=_in_a_folder,
    help="A folder to draw into.",
)
def growth(repetitions: int, file: Path | None, figures: Path | None) -> None:
    """How a VGS update grows, by continuation and with a row for each completion (4 layers).

    With 1 to 16 completions, 64 to 1,024 image tokens, 128 to 2,048 tokens a completion.
    """
    found = growing.run(repetitions)
    show("how a VGS update grows", found, file)
    if figures:
        growing.draw(found, figures)


@main.command("real-vocab")
@_repetitions
@_json
def real_vocab(repetitions: int, file: Path | None) -> None:
    """The loss phase alone: V = 151,936, D = 2,048."""
    found = loss_phase.run(repetitions)
    show("the loss phase at V = 151,936", found, file)
    loss_phase.compare(found)


@main.command()
@_repetitions
@_json
def chunk_size(repetitions: int, file: Path | None) -> None:
    """The same by `objective.chunk_size`: seconds and memory beyond the inputs for 256 positions."""
    show("VGS for 256 positions at V = 151,936, by chunk", loss_phase.by_chunk(repetitions), file)


@main.command()
@_repetitions
@_json
@click.option(
    "--beside", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Another checkout."
)
def first_line(repetitions: int, file: Path | None, beside: Path | None) -> None:
    """Seconds until a command says something, and until it ends."""
    checkouts = {"": first_lines.ROOT, **({" there": beside.absolute()} if beside else {})}
    found = alternate(
        {
            f"{name}{where}": lambda folder=folder, command=command: first_lines.measure(folder, command)
            for name, command in first_lines.COMMANDS.items()
            for where, folder in checkouts.items()
        },
        repetitions,
        warm=False,
    )
    show("the first line, seconds", found, file)


@main.command()
@_repetitions
@_json
def sampling(repetitions: int, file: Path | None) -> None:
    """8 prompts x 4 completions x 128 tokens with 256 image tokens: tokens a second."""
    found = drawing.run(repetitions)
    show("sampling", found, file)
    drawing.compare(found)


@main.command()
@_repetitions
@_json
def probes(repetitions: int, file: Path | None) -> None:
    """The start-up probes: the least seconds of each, V = 151,936."""
    found = starting.run(repetitions)
    show("the start-up probes at V = 151,936", found, file)
    starting.compare(found)


@main.command()
@click.option("--prompts", type=click.IntRange(1), default=16, show_default=True, help="4 completions each.")
@click.option(
    "--length", type=click.IntRange(1), default=24, show_default=True, help="Tokens of a completion."
)
@click.option("--train", type=click.Choice(["lora", "dora", "full"]), default="lora", show_default=True)
def precision(prompts: int, length: int, train: str) -> None:
    """The embedded models as they are stored beside float32, on the same rollouts: no times, the same on any day."""
    precisions.show(precisions.run(prompts, 4, length, Student(train=train)))


@main.command()
@click.option("--count", type=click.IntRange(1), default=20_000, show_default=True, help="Plain answers.")
def grading(count: int) -> None:
    """Letters, numbers, quantities, times and words; then expressions that would never end."""
    print(f"plain forms: {grades.rate(grades.plain(count)):,.0f} a second")
    for answer, seconds in grades.hostile().items():
        print(f"{answer}: {seconds:.1f} s")


if __name__ == "__main__":
    main()
