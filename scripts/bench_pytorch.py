"""Our update beside a careful PyTorch user's: same weights, same rollouts, one process, taking turns.

    python scripts/bench_pytorch.py                       standard and VGS at `scaled`, on the CPU
    python scripts/bench_pytorch.py --threads 2 --repetitions 5 --json made.json

An update is scoring with both models, backward and AdamW, without the rollouts. The PyTorch side is transformers'
Qwen3-VL with what scripts/pytorch/ takes care of: no head off the completions, log-probabilities in chunks, no graph
where none is needed. It has a row for each completion, as its users have; ours shares the prompts. Needs torch.
"""

import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import vgs_mlx  # noqa: F401  (before mlx: it loads a fast BLAS)

# isort: split
sys.path.extend(
    [
        str(Path(__file__).parent),
        str(Path(__file__).parent.parent),
        str(Path(__file__).parent.parent / "tests"),
    ]
)
import click
import mlx.core as mx
import numpy as np
import torch
from mlx.utils import tree_flatten

import random_models
from benchmarks import made
from benchmarks.timing import NORM_SCALE, alternate, one_update, ratio, show
from scripts.pytorch.model import TorchModel, adapt, build
from scripts.pytorch.step import Settings, step_gradients
from vgs_mlx.models import adapters
from vgs_mlx.models.base import LoadedModel
from vgs_mlx.recipe.objective import resolved
from vgs_mlx.recipe.options import Student as StudentSettings
from vgs_mlx.rollout.collect import collect
from vgs_mlx.train.step import encode_views
from vgs_mlx.types import Rollout


def torch_side(model: LoadedModel, weights: dict[str, mx.array]) -> TorchModel:
    arrays = {name: np.array(value) for name, value in weights.items()}
    answerable = np.setdiff1d(np.arange(made.VOCABULARY), [random_models.IMAGE, random_models.VIDEO])
    return build(asdict(model.module.config), arrays, answerable)


def theirs(
    student: TorchModel, teacher: TorchModel, parameters: dict, rollouts: list[Rollout], settings: Settings
):
    kept = {name: value.detach().clone() for name, value in parameters.items()}
    optimizer = torch.optim.AdamW(parameters.values(), lr=5e-5, weight_decay=0.01)
    begin = time.perf_counter()
    tree = step_gradients(student, teacher, parameters, rollouts, settings).gradients["total"]
    for name, value in parameters.items():
        value.grad = NORM_SCALE * tree[name]
    optimizer.step()
    optimizer.zero_grad()
    seconds = time.perf_counter() - begin
    with torch.no_grad():
        for name, value in parameters.items():
            value.copy_(kept[name])
    return {"seconds": seconds}


@click.command()
@click.option("--threads", default=2, show_default=True, help="PyTorch's; ours uses all cores.")
@click.option("--repetitions", default=5, show_default=True)
@click.option("--json", "file", type=click.Path(path_type=Path))
def main(threads: int, repetitions: int, file: Path | None) -> None:
    """See the module's text."""
    torch.set_num_threads(threads)
    student, teacher = (made.plain_model(name) for name in ("student", "teacher"))
    plain = [dict(tree_flatten(model.module.parameters())) for model in (student, teacher)]
    sides = [torch_side(model, weights) for model, weights in zip((student, teacher), plain, strict=True)]
    options = StudentSettings(rank=16)
    adapters.prepare(student, options, seed=0)
    values = {name: np.array(value) for name, value in adapters.trainable_weights(student.module).items()}
    parameters = adapt(sides[0], values, options.alpha / options.rank)
    student, teacher = (replace(model, shares_prefix=True) for model in (student, teacher))
    variants = {}
    for objective in ("standard", "vgs"):
        settings = made.recipe(objective, "interval")
        asked = made.prompts(8, 256)
        encodings = encode_views(student, asked, resolved(settings))
        rollouts = collect(student, asked, settings.rollout, encodings, 0, 0)
        coefficients = (2.0, 0.01) if objective == "vgs" else (0.0, 0.0)
        careful = Settings(*coefficients, separate=False, microbatch_size=settings.train.microbatch_size)
        variants[f"{objective}, ours"] = lambda r=rollouts, s=settings: one_update(
            student, teacher, r, s, True
        )
        variants[f"{objective}, PyTorch"] = lambda r=rollouts, s=careful: theirs(*sides, parameters, r, s)
    found = alternate(variants, repetitions)
    show(f"an update at `scaled`, PyTorch {torch.__version__} with {threads} threads", found, file)
    for objective in ("standard", "vgs"):
        pair = [found[f"{objective}, {side}"]["seconds"] for side in ("PyTorch", "ours")]
        ratio(f"PyTorch / ours, {objective} (a GPU must reach 1.0)", *pair)


if __name__ == "__main__":
    main()
