"""Make a model see worse and leave what it says alone: noise on the weights of its vision tower.

    python scripts/weaken_vision.py MODEL --noise 0.3 --output weak

For experiments: a student whose words are right and whose eyes are the bottleneck.
"""

import shutil
from pathlib import Path

import click
import mlx.core as mx

VISION = "vision_tower."


@click.command(help=__doc__.replace("\n\n    python", "\n\n\b\n    python"))
@click.argument("model", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--noise",
    type=click.FloatRange(min=0, min_open=True),
    required=True,
    help="Standard deviation of what is added, in those of each weight matrix.",
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), required=True, help="A new folder.")
def main(model: Path, noise: float, seed: int, output: Path) -> None:
    if output.exists():
        raise click.BadParameter(f"{output} is there already: name a new folder", param_hint="--output")
    files = {file: mx.load(str(file), return_metadata=True) for file in sorted(model.glob("*.safetensors"))}
    if not any(name.startswith(VISION) for weights, _ in files.values() for name in weights):
        raise click.BadParameter(f"{model}: no weights named {VISION}* there", param_hint="MODEL")
    key = mx.random.key(seed)
    shutil.copytree(model, output, ignore=shutil.ignore_patterns("*.safetensors", "README.md"))
    for file, (weights, metadata) in files.items():
        for name in sorted(weights):
            if name.startswith(VISION) and weights[name].ndim > 1:
                key, here = mx.random.split(key)
                weights[name] = _noisy(weights[name], noise, here)
        mx.save_safetensors(str(output / file.name), weights, metadata=metadata)


def _noisy(weight: mx.array, noise: float, key: mx.array) -> mx.array:
    exact = weight.astype(mx.float32)
    added = noise * mx.std(exact) * mx.random.normal(exact.shape, key=key)
    return (exact + added).astype(weight.dtype)


if __name__ == "__main__":
    main()
