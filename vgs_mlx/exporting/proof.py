"""Is the exported model the trained one? It and the untrained model score the trained model's own answers.

One model is in memory at a time. Of each, the hidden states at the compared positions, (N, D), are kept; the heads
that turn them into log-probabilities are read again later, without the bodies.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import mlx.core as mx
import numpy as np

from vgs_mlx.models import precision
from vgs_mlx.models.base import LoadedModel
from vgs_mlx.models.letting_go import letting_go
from vgs_mlx.models.logprobs import separate_hidden
from vgs_mlx.models.rows import Continued, encode, evaluate
from vgs_mlx.objective.divergence import restricted_logprobs, reverse_kl
from vgs_mlx.rollout.collect import greedy
from vgs_mlx.types import Prompt

KEPT_SHARE = 0.01  # of KL(trained ‖ untrained); KL grows with the square, so this is a tenth of the way back
LOST_SHARE = 0.25  # half of the way back: too much even for a packed model
HARDLY_TRAINED = (
    1e-4  # nats: below this KL(trained ‖ untrained) there is too little training to measure its loss
)


@dataclass(frozen=True)
class Difference:
    """How far another model is from the trained one, over all positions of the completions."""

    mean: float  # KL(trained ‖ other), nats
    largest: float
    agreement: float  # share of positions with the same most likely token
    positions: int

    def __str__(self) -> str:
        return f"mean {self.mean:.2g}, largest {self.largest:.2g} nats"


@dataclass(frozen=True)
class Proof:
    """What the comparison of trained, fused and untrained model found."""

    dtype: str  # of the fused layers
    bits: int | None  # what the fused language model was packed into
    fused: Difference
    untrained: Difference

    @property
    def hardly_trained(self) -> bool:
        """There was hardly any training to lose."""
        return self.untrained.mean < HARDLY_TRAINED

    @property
    def share(self) -> float:
        """KL(trained ‖ fused) as a share of KL(trained ‖ untrained): how much of the training was lost."""
        return self.fused.mean / self.untrained.mean

    @property
    def kept(self) -> bool:
        """The fused model is the trained one, as far as it matters. False where the fuse overflowed (nan)."""
        return self.fused.mean < (HARDLY_TRAINED if self.hardly_trained else KEPT_SHARE * self.untrained.mean)

    @property
    def acceptable(self) -> bool:
        """Kept; or packed on request and most of the training kept; or there was hardly any to lose."""
        if self.hardly_trained:
            return math.isfinite(self.fused.mean)
        return self.kept or (self.bits is not None and self.share < LOST_SHARE)

    def __str__(self) -> str:
        name = f"{self.dtype}, {self.bits} bits" if self.bits else self.dtype
        return (
            f"{name}: KL(trained ‖ fused) {self.fused}; KL(trained ‖ untrained) {self.untrained}; "
            f"same greedy token at {self.fused.agreement:.1%} of {self.fused.positions:,} positions"
        )


@dataclass(frozen=True, eq=False)
class Scored:
    """What a comparison needs of a model whose body is freed."""

    states: mx.array  # (N, D) float32, at the positions that predict the completions' tokens
    head: Callable[[], LoadedModel]  # the model again, lazy: its head alone is computed


def answers(trained: LoadedModel, prompts: Sequence[Prompt], longest: int, at_once: int) -> list[Continued]:
    """The trained model's greedy completions, with pictures: what the models are compared on.

    `at_once` prompts are answered at a time, in the precision in which the model is stored.
    """
    drawn = greedy(trained, prompts, longest, at_once)
    return [
        Continued(prompt.student["with_image"], each.ids) for prompt, each in zip(prompts, drawn, strict=True)
    ]


def states(model: LoadedModel, sequences: Sequence[Continued], at_once: int) -> mx.array:
    """The hidden states that predict the completions' tokens, (N, D), in float32; `at_once` completions a pass.

    Beside the stored model there are float32 copies of the vision tower, and then of the embedding and one layer.
    """
    states_by_batch = []
    for start in range(0, len(sequences), at_once):
        batch = sequences[start : start + at_once]
        encodings = evaluate(encode(in_float32(model), [view for view, _ in batch]))
        copied = in_float32(model)
        with letting_go(copied.family.layers(copied.module)):
            states_by_batch.append(separate_hidden(copied, batch, encodings))
            mx.eval(states_by_batch[-1])
    return mx.concatenate(states_by_batch)


def compare(trained: Scored, other: Scored, chunk: int) -> Difference:
    """How far `other` is from `trained`. Two heads are in memory, and log-probabilities of `chunk` positions."""
    heads = [in_float32(each.head()) for each in (trained, other)]
    divergences, same = [], []
    for first in range(0, trained.states.shape[0], chunk):
        ours, theirs = (
            restricted_logprobs(head.logits(each.states[first : first + chunk]), head.support())
            for head, each in zip(heads, (trained, other), strict=True)
        )
        divergences.append(np.array(reverse_kl(ours, theirs)))
        same.append(np.array(mx.argmax(ours, axis=-1) == mx.argmax(theirs, axis=-1)))
    kl = np.concatenate(divergences).astype(np.float64)
    mean = float(np.maximum(kl.mean(), 0.0))  # equal models give rounding of either sign; nan stays nan
    return Difference(mean, float(kl.max()), float(np.concatenate(same).mean()), len(kl))


def in_float32(model: LoadedModel) -> LoadedModel:
    """A copy of the model that computes in float32, whatever the device. Lazy, see `precision.widened`.

    Trained, fused and untrained model must differ in their weights alone. In 16-bit arithmetic an adapter beside
    its layer and the same adapter fused into it round differently, which alone can cost more KL than a short
    training makes.
    """
    return replace(model, module=precision.widened(model.module), pictures=None)
