"""Start-up checks: a run that would compute wrong gradients is refused before it starts.

Each probe returns nothing when all is well, and raises a `Refusal` with the fix otherwise. All probes use one `Trial`,
because forward passes are most of their cost.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten

from vgs_mlx.errors import Refusal
from vgs_mlx.models.base import LoadedModel
from vgs_mlx.models.logprobs import completion_hidden
from vgs_mlx.models.precision import rounds_float32
from vgs_mlx.models.rows import Continued, Encodings, encode, flat_positions, separate
from vgs_mlx.objective.divergence import restricted_logprobs, token_logprobs
from vgs_mlx.objective.visual import visual_dependency_score
from vgs_mlx.recipe import options as recipe
from vgs_mlx.types import Prompt, Side, View

VIEWS = ("with_image", "text_only")
CONTINUED = 2  # prompts whose completions are also run as continuations of one prefill
FARTHEST = 4  # positions at which log-probs are compared: those where the hidden states differ most
SCORED = 32  # positions at which the picture's effect on the teacher is measured
REACTS_ABOVE = 0.05  # nats of VDS above which a position depends on the picture


def sampling_is_on_policy(rollout: recipe.Rollout, *, may_truncate: bool = False) -> None:
    """Distillation terms are expectations under p itself: no truncation, temperature 1.

    GRPO's ratio uses the sampling policy, so top_p may be smaller there (`may_truncate`).
    """
    for key, value in (("temperature", rollout.temperature), ("top_p", rollout.top_p)):
        if value != 1.0 and not (may_truncate and key == "top_p"):
            raise Refusal(
                f"rollout.{key}={value}: the objective needs samples of the student's own "
                f"distribution: set rollout.{key}=1"
            )


@dataclass(frozen=True, eq=False)
class Trial:
    """A few prompts with short completions, and the hidden states that a model computes for them, once for all probes.

    States predict the completions' tokens: after the final norm, (T, D) for each completion, by view. `alone` and
    `padded` have a row for each completion; `continued` uses prefix continuation.
    """

    model: LoadedModel
    prompts: Sequence[Prompt]
    completions: Sequence[np.ndarray]
    side: Side  # whose views these are
    encodings: Encodings  # the model's, of both views
    alone: Mapping[str, list[mx.array]]  # each sequence in a separate forward pass
    padded: Mapping[str, list[mx.array]]  # all of them beside a longer one
    continued: Mapping[str, list[mx.array]]  # the first ones, each beside other completions of its prompt


def attempt(
    model: LoadedModel,
    prompts: Sequence[Prompt],
    completions: Sequence[np.ndarray],
    encodings: Encodings,
    side: Side = "student",
) -> Trial:
    """Run the forward passes that the probes share. `encodings` are the model's, of both views of the prompts."""

    apart = replace(model, shares_prefix=False)

    def by_view(run: Callable[[list[Continued]], list[mx.array]]) -> dict[str, list[mx.array]]:
        return {view: run(_sequences(prompts, completions, view, side)) for view in VIEWS}

    def alone(sequences: list[Continued]) -> list[mx.array]:
        return [_states(apart, [each], encodings)[0] for each in sequences]

    def padded(sequences: list[Continued]) -> list[mx.array]:
        longest = max(sequences, key=lambda each: len(each.view.ids) + len(each.completion))
        longer = Continued(longest.view, np.concatenate([longest.completion, longest.completion]))
        return _states(apart, [*sequences, longer], encodings)[:-1]

    def continued(sequences: list[Continued]) -> list[mx.array]:
        """Each completion between two others, one longer. It must neither see them nor be confused with them."""
        rows = [
            Continued(view, each)
            for view, completion in sequences[:CONTINUED]
            for each in (completion[::-1], completion, np.concatenate([completion, completion]))
        ]
        return _states(replace(model, shares_prefix=True), rows, encodings)[1::3]

    return Trial(
        model, prompts, completions, side, encodings, by_view(alone), by_view(padded), by_view(continued)
    )


def causality(trial: Trial) -> None:
    """Changing the last token must move no log-prob, in either view: each is predicted by earlier tokens."""
    model, prompt, completion = trial.model, trial.prompts[0], trial.completions[0]
    changed = completion.copy()
    changed[-1] = completion[0] if completion[0] != completion[-1] else _another(model, completion[-1])
    for name in VIEWS:
        sequence = Continued(prompt.views(trial.side)[name], changed)
        after = _states(replace(model, shares_prefix=False), [sequence], trial.encodings)
        moved = _gap(model, trial.alone[name][:1], after)
        if moved > tolerance(model):
            raise Refusal(
                f"{model.name}: its last token changes earlier predictions (log-probs move by {moved:.2g} "
                "nats): this family is not causal in training: use another family or version of mlx-vlm"
            )


def padding(trial: Trial) -> None:
    """A row beside a longer one must equal the row alone, in both views."""
    for name in VIEWS:
        moved = _gap(trial.model, trial.alone[name], trial.padded[name])
        if moved > tolerance(trial.model):
            raise Refusal(
                f"{trial.model.name}: a padded row differs from the row alone ({name}: log-probs move by "
                f"{moved:.2g} nats): this family can't be batched: use another family or version of mlx-vlm"
            )


def continuation(trial: Trial) -> None:
    """Completions that continue one prefill of their prompt (prefix.py) must have the log-probs of separate rows."""
    for name in VIEWS:
        moved = _gap(trial.model, trial.alone[name][:CONTINUED], trial.continued[name])
        if not moved <= tolerance(trial.model):
            raise Refusal(
                f"{trial.model.name}: completions that continue their prompt's cache differ from separate rows "
                f"({name}: log-probs move by {moved:.2g} nats): mlx-vlm's cache is not exact for this family: "
                "use another family or version of mlx-vlm"
            )


def sampling(trial: Trial, sampled: Sequence[np.ndarray]) -> None:
    """The log-probs recorded in sampling, (T,) for each completion, must equal those of scoring.

    If the two distributions differ, every importance weight and every mean under p is wrong. Continuations are
    compared as far as the trial has them, padded rows for the rest.
    """
    model, shared = trial.model, trial.continued["with_image"]
    states = [*shared, *trial.padded["with_image"][len(shared) :]]
    for row, hidden in enumerate(states):
        gaps = np.abs(_taken(model, hidden, trial.completions[row]) - sampled[row])
        place = int(gaps.argmax())
        if not gaps[place] <= tolerance(model):
            position = len(trial.prompts[row].views(trial.side)["with_image"].ids) + place
            raise Refusal(
                f"{model.name}: the log-prob of a sampled token is {gaps[place]:.2g} nats from that of the same "
                f"token when scored (token {place + 1} of {len(gaps)}, position {position} of training "
                f"row {row + 1}): training would use another distribution than sampling: use another "
                "family or version of mlx-vlm"
            )


def text_view(trial: Trial) -> None:
    """The completion must be at its own positions in both views, and no picture may linger in the text view.

    A model may remember something from before this probe, so a single text-only result is not a clean reference.
    It is computed after a different number of rows, after the picture and after another picture, and must not change.
    Pictures are encoded anew each time, since the vision tower may be what remembers. Separate rows are used: with
    them, the number of rows that a model may remember stays the same.
    """
    model, prompt, completion = (
        replace(trial.model, shares_prefix=False),
        trial.prompts[0],
        trial.completions[0],
    )
    with_image, text_only = (prompt.views(trial.side)[name] for name in VIEWS)
    for view in (with_image, text_only):
        sequence = [Continued(view, completion)]
        rows = separate(model, sequence, trial.encodings)
        following = rows.ids.reshape(-1)[np.array(flat_positions(sequence, rows.ids.shape[1])) + 1]
        if not np.array_equal(following, completion):
            raise Refusal(
                f"{model.name}: the completion is misplaced in a view of its prompt: fix this family's file"
            )
    text = Continued(text_only, completion)
    pictures = [Continued(view, completion) for view in (with_image, _inverted(with_image))]
    found = []
    for earlier in ([text, text], *([each] for each in pictures)):
        _states(model, earlier, encode(model, [each.view for each in earlier]))
        found += _states(model, [text], encode(model, [text.view]))
    if not all(mx.array_equal(found[0], each) for each in found[1:]):
        raise Refusal(
            f"{model.name}: its text-only predictions change after it has seen a picture: "
            "mlx-vlm keeps state between calls for this family: use another family or version"
        )


def picture_reaction(trial: Trial) -> float:
    """The share of completion positions with a VDS (Eq. 12) above 0.05 nats; 0 makes VGS the standard loss.

    Measured at SCORED positions, evenly spread; at all positions if none of those depends on the picture.
    """
    model = trial.model
    views = [mx.concatenate(trial.padded[name]) for name in VIEWS]
    count = views[0].shape[0]

    def share(where: np.ndarray) -> float:
        with_image, text_only = (_logprobs(model, each[mx.array(where)]) for each in views)
        scores = visual_dependency_score(with_image, text_only)
        return float((scores > REACTS_ABOVE).astype(mx.float32).mean())

    spread = np.unique(np.linspace(0, count - 1, min(SCORED, count)).astype(np.int32))
    return share(spread) or share(np.arange(count))


def tolerance(model: LoadedModel) -> float:
    """How far rounding alone may move log-probs, in nats. Measured leaks were 0.5 and more.

    With sums in another order, the embedded models' log-probs of sampled tokens move by 0.05 in bfloat16 and by 1e-5
    in float32; those of the whole vocabulary by 0.16 and 2e-5. On a GPU that cuts the factors of float32 products to
    10 bits, except in single rows, they move by 0.002 and 0.02.
    """
    if not is_float32(model):
        return 0.25
    return 0.1 if rounds_float32() else 1e-3


def is_float32(model: LoadedModel) -> bool:
    """Whether the model's decoder layers are float32."""
    weights = model.family.layers(model.module)[0].parameters()
    return all(each.dtype == mx.float32 for _, each in tree_flatten(weights))


def _sequences(
    prompts: Sequence[Prompt], completions: Sequence[np.ndarray], view: str, side: Side
) -> list[Continued]:
    return [
        Continued(prompt.views(side)[view], each) for prompt, each in zip(prompts, completions, strict=True)
    ]


def _states(model: LoadedModel, sequences: Sequence[Continued], encodings: Encodings) -> list[mx.array]:
    """The states (T, D) that predict each completion's tokens, computed now by one forward pass.

    Comparisons with NaN are never true, so NaN is refused here.
    """
    hidden = completion_hidden(model, sequences, encodings)
    if not mx.isfinite(hidden).all():
        raise Refusal(f"{model.name}: its hidden states are not finite: damaged weights: download it again")
    ends = np.cumsum([len(completion) for _, completion in sequences])[:-1]
    return mx.split(hidden, ends.tolist())


def _gap(model: LoadedModel, left: Sequence[mx.array], right: Sequence[mx.array]) -> float:
    """The largest distance in nats between the log-probs that two lists of states predict.

    Over a real vocabulary, log-probs cost more than the states did. Logits are linear in a state, so log-probs are
    computed only where the states are farthest apart, and not at all if all states are equal.
    """
    left, right = mx.concatenate(left), mx.concatenate(right)
    apart = (left.astype(mx.float32) - right.astype(mx.float32)).square().sum(axis=-1)
    farthest = mx.argsort(apart)[-FARTHEST:]
    if not apart[farthest[-1]].item():
        return 0.0
    return float(mx.abs(_logprobs(model, left[farthest]) - _logprobs(model, right[farthest])).max())


def _logprobs(model: LoadedModel, hidden: mx.array) -> mx.array:
    """Log-probs over the vocabulary, (N, V), of states (N, D), computed together: only for a few states."""
    found = restricted_logprobs(model.logits(hidden), model.support())
    if not mx.isfinite(found).all():
        raise Refusal(f"{model.name}: its log-probs are not finite: damaged weights: download it again")
    return found


def _taken(model: LoadedModel, hidden: mx.array, tokens: np.ndarray) -> np.ndarray:
    """The log-probs (T,) of the tokens that the states (T, D) predict."""
    return np.array(token_logprobs(_logprobs(model, hidden), mx.array(tokens)))


def _inverted(view: View) -> View:
    """The view with other pictures of the same size."""
    return View(
        view.ids, {name: -each if each.dtype.kind == "f" else each for name, each in view.media.items()}
    )


def _another(model: LoadedModel, token: int) -> int:
    answerable = np.flatnonzero(np.array(model.support()))
    return int(answerable[answerable != token][0])
