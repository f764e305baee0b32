"""Teaches the vision tower to see before the language model learns to read it: a linear probe on every cell.

A picture's 9 tokens are its 9 cells. Each is to tell the colour, shape and size of the object there, or that
it is empty. Without this the whole model needs several times as many (and ten times as costly) steps.
"""

from collections.abc import Iterator

import vgs_mlx  # noqa: F401  (before mlx: it loads a fast BLAS)

# isort: split
import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np

from tiny import fast
from tiny.forward import TOKENS, patches, see
from vgs_mlx.data.shapes import Thing, draw, scene
from vgs_mlx.data.shapes_words import COLOURS, SHAPES, SIZES

BATCH = 64
FAMILIES = [[None, *family] for family in (COLOURS, SHAPES, SIZES)]  # None: an empty cell


class Probed(nn.Module):
    """A vision tower with a linear probe on each of its outputs."""

    def __init__(self, model: nn.Module, width: int) -> None:
        super().__init__()
        self.vision_tower = model.vision_tower
        outputs = 1 + len(model.vision_tower.deepstack_visual_indexes)
        self.probes = [nn.Linear(width, sum(map(len, FAMILIES))) for _ in range(outputs)]


def look(model: nn.Module, steps: int, peak: float, seed: int) -> Iterator[tuple[int, float]]:
    """Train the vision tower of `model` in place; yields (steps done, share of cells seen rightly)."""
    probed = Probed(model, model.config.vision_config.out_hidden_size)
    rise, fall = optim.linear_schedule(0, peak, 50), optim.cosine_decay(peak, steps - 50, 0.02 * peak)
    optimiser = optim.AdamW(optim.join_schedules([rise, fall], [50]), weight_decay=0.01)
    step_loss = nn.value_and_grad(probed, _loss)
    for step in range(steps):
        scenes = [scene("train", step * BATCH + i, seed=seed) for i in range(BATCH)]
        pixels = patches([np.asarray(draw(things, step * BATCH + i)) for i, things in enumerate(scenes)])
        (value, right), gradients = step_loss(probed, pixels, _labels(scenes))
        gradients, _ = optim.clip_grad_norm(gradients, 1.0)
        optimiser.update(probed, gradients)
        mx.eval(probed.parameters(), optimiser.state, value)
        yield step + 1, right.item()


def _labels(scenes: list[tuple[Thing, ...]]) -> list[np.ndarray]:
    """For each family the index of each cell's value, (N * 9,); 0 where the cell is empty."""
    labels = [np.zeros((len(scenes), TOKENS), int) for _ in FAMILIES]
    for row, things in enumerate(scenes):
        for thing in things:
            looks = (thing.colour, thing.shape, thing.size)
            for label, family, value in zip(labels, FAMILIES, looks, strict=True):
                label[row, thing.cell[0] * 3 + thing.cell[1]] = family.index(value)
    return [label.ravel() for label in labels]


def _loss(probed: Probed, pixels: np.ndarray, labels: list[np.ndarray]) -> tuple[mx.array, mx.array]:
    """Cross-entropy of all probes; the share of the filled cells that the first reads rightly."""
    visual = see(probed, mx.array(pixels))
    total, right = mx.array(0.0), mx.array(labels[0] > 0)
    for probe, features in zip(probed.probes, [visual.merged, *visual.deepstack], strict=True):
        scores = probe(features.reshape(-1, features.shape[-1]))
        first = 0
        for label, family in zip(labels, FAMILIES, strict=True):
            part = scores[:, first : first + len(family)]
            total = total + fast.cross_entropy(part, mx.array(label))
            if probe is probed.probes[0]:
                right = right & (mx.argmax(part, axis=-1) == mx.array(label))
            first += len(family)
    return total, right.sum() / (labels[0] > 0).sum()
