"""Start-up checks: a run that would compute wrong gradients is refused before it starts.

Each probe returns nothing when all is well and raises a `Refusal` that names the mend.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten

from vgs_mlx import recipe
from vgs_mlx.errors import Refusal
from vgs_mlx.models.base import LoadedModel
from vgs_mlx.models.logprobs import completion_hidden, compute_logprobs
from vgs_mlx.models.rows import Continued, build, encode, flat_positions
from vgs_mlx.objective.divergence import restricted_logprobs
from vgs_mlx.objective.visual import visual_dependency_score
from vgs_mlx.types import Prompt, PromptView

REACTS_ABOVE = 0.05  # nats of VDS from which a position counts as one that the picture moves


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


def same_language(student: Any, teacher: Any) -> None:
    """Teacher and student read the same ids, prompts and pictures. Takes their processors alone."""
    mend = "take a student and a teacher of one model family and release"
    ours, theirs = student.tokenizer, teacher.tokenizer
    if ours.get_vocab() != theirs.get_vocab():
        count = len(set(ours.get_vocab().items()) ^ set(theirs.get_vocab().items()))
        raise Refusal(f"student and teacher have different vocabularies ({count:,} entries differ): {mend}")
    if (ours.eos_token_id, ours.pad_token_id) != (theirs.eos_token_id, theirs.pad_token_id):
        raise Refusal(f"student and teacher have different end-of-sequence or padding tokens: {mend}")
    if _rendered(student) != _rendered(teacher):
        raise Refusal(f"student and teacher have chat templates that render a message differently: {mend}")
    left_settings, right_settings = _picture_settings(student), _picture_settings(teacher)
    for name, left in left_settings.items():
        right = right_settings[name]
        if left != right:
            raise Refusal(
                f"student and teacher prepare pictures differently ({name} {left} and {right}): {mend}, "
                "or make their preprocessor_config.json equal"
            )


def causality(model: LoadedModel, prompt: Prompt, completion: np.ndarray) -> None:
    """Changing the last token must not move any log-prob, in either view: those before it predict it."""
    changed = completion.copy()
    changed[-1] = completion[0] if completion[0] != completion[-1] else _another(model, completion[-1])
    for view in (prompt.with_image, prompt.text_only):
        before, after = (_logprobs(model, [Continued(view, each)]) for each in (completion, changed))
        moved = _largest_difference(before, after)
        if moved > tolerance(model):
            raise Refusal(
                f"{model.name}: its last token changes earlier predictions (log-probs move by {moved:.2g} "
                "nats): this family is not causal in training: use another family or version of mlx-vlm"
            )


def padding(model: LoadedModel, prompts: Sequence[Prompt], completions: Sequence[np.ndarray]) -> None:
    """A row beside a longer one equals the row alone, in both views."""
    for view in ("with_image", "text_only"):
        views = [vars(prompt)[view] for prompt in prompts]
        sequences = [Continued(*each) for each in zip(views, completions, strict=True)]
        longest = max(sequences, key=lambda each: len(each.view.ids) + len(each.completion))
        longer = Continued(longest.view, np.concatenate([longest.completion, longest.completion]))
        alone = mx.concatenate([_logprobs(model, [each]) for each in sequences])
        together = _logprobs(model, [*sequences, longer])[: len(alone)]
        moved = _largest_difference(together, alone)
        if moved > tolerance(model):
            raise Refusal(
                f"{model.name}: a padded row differs from the row alone ({view}: log-probs move by "
                f"{moved:.2g} nats): this family can't be batched: use another one or version of mlx-vlm"
            )


def packing(model: LoadedModel, prompts: Sequence[Prompt], completions: Sequence[np.ndarray]) -> bool:
    """Whether completions may share a row with their prompt (packing.py): log-probs as of separate rows."""
    for view in ("with_image", "text_only"):
        sequences = [Continued(vars(prompt)[view], each) for prompt in prompts for each in completions]
        apart, packed = (_logprobs(replace(model, packs=packs), sequences) for packs in (False, True))
        if _largest_difference(apart, packed) > tolerance(model):
            return False
    return True


def text_view(model: LoadedModel, prompt: Prompt, completion: np.ndarray) -> None:
    """The completion stands at its own positions in both views, and no picture lingers in the text view.

    What a model remembers may be older than this probe, so one text-only result is no clean reference: it is
    taken after rows of another number, after the picture, and after another picture, and must stay the same.
    """
    for view in (prompt.with_image, prompt.text_only):
        sequence = [Continued(view, completion)]
        rows = build(model, sequence, encode(model, [view]))
        following = rows.ids.reshape(-1)[np.array(flat_positions(sequence, rows.ids.shape[1])) + 1]
        if not np.array_equal(following, completion):
            raise Refusal(
                f"{model.name}: the completion is misplaced in a view of its prompt: mend this family's file"
            )
    text = Continued(prompt.text_only, completion)
    pictures = [Continued(view, completion) for view in (prompt.with_image, _inverted(prompt.with_image))]
    found = []
    for earlier in ([text, text], *([each] for each in pictures)):
        _logprobs(model, earlier)
        found.append(_logprobs(model, [text]))
    if not all(mx.array_equal(found[0], each) for each in found[1:]):
        raise Refusal(
            f"{model.name}: its text-only predictions change after it has seen a picture: "
            "mlx-vlm keeps state between calls for this family: use another family or version"
        )


def picture_reaction(
    teacher: LoadedModel, prompts: Sequence[Prompt], completions: Sequence[np.ndarray]
) -> float:
    """The share of completion positions with a VDS (Eq. 12) above 0.05 nats; 0 makes VGS the standard loss."""

    def logprobs(views: Sequence[PromptView]) -> mx.array:
        sequences = [Continued(view, each) for view, each in zip(views, completions, strict=True)]
        hidden = completion_hidden(teacher, sequences, encode(teacher, views))
        return restricted_logprobs(teacher.logits(hidden), teacher.support())

    with_image = logprobs([prompt.with_image for prompt in prompts])
    scores = visual_dependency_score(with_image, logprobs([prompt.text_only for prompt in prompts]))
    return float((scores > REACTS_ABOVE).astype(mx.float32).mean())


def tolerance(model: LoadedModel) -> float:
    """How far log-probs may move by rounding alone, nats: leaks measured in practice were 0.5 and more."""
    weights = model.family.layers(model.module)[0].parameters()
    return 1e-3 if all(each.dtype == mx.float32 for _, each in tree_flatten(weights)) else 0.25


def _logprobs(model: LoadedModel, sequences: Sequence[Continued]) -> mx.array:
    """Log-probs over the vocabulary, (N, V). A comparison with nan is never true, so nan is refused here."""
    found, _ = compute_logprobs(model, sequences)
    if not mx.isfinite(found).all():
        raise Refusal(f"{model.name}: its log-probs are not finite: damaged weights: download it again")
    return found


def _inverted(view: PromptView) -> PromptView:
    """The view with other pictures of the same size."""
    return view if view.pixel_values is None else replace(view, pixel_values=-view.pixel_values)


def _largest_difference(left: mx.array, right: mx.array) -> float:
    """The largest distance between two arrays of log-probs, nats."""
    return float(mx.abs(left - right).max())


def _another(model: LoadedModel, token: int) -> int:
    answerable = np.flatnonzero(np.array(model.support()))
    return int(answerable[answerable != token][0])


def _rendered(processor: Any) -> list[str]:
    """Messages as the chat template has them: with and without a system prompt, with none to two pictures."""
    system = {"role": "system", "content": [{"type": "text", "text": "Look."}]}
    question = [{"type": "text", "text": "What is it?"}]
    messages = [
        [*before, {"role": "user", "content": [{"type": "image"}] * pictures + question}]
        for before in ([system], [])
        for pictures in (0, 1, 2)
    ]
    render = processor.apply_chat_template
    return [render(each, tokenize=False, add_generation_prompt=True) for each in messages]


def _picture_settings(processor: Any) -> dict[str, Any]:
    settings = processor.image_processor
    return {
        "patch_size": settings.patch_size,
        "merge_size": settings.merge_size,
        "temporal_patch_size": settings.temporal_patch_size,
        "min_pixels": settings.min_pixels,
        "max_pixels": settings.max_pixels,
        "do_rescale": settings.do_rescale,
        "rescale_factor": settings.rescale_factor,
        "do_normalize": settings.do_normalize,
        "image_mean": list(settings.image_mean),
        "image_std": list(settings.image_std),
    }
