"""One VGS step as a flat mapping of named figures: what two devices, or a machine and the tests, must agree on."""

import mlx.core as mx
import numpy as np

from vgs_mlx.models import adapters
from vgs_mlx.models.logprobs import completion_hidden
from vgs_mlx.models.rows import Continued, encode, evaluate
from vgs_mlx.objective.steering import Tree, steer
from vgs_mlx.runs.progress import Progress
from vgs_mlx.self_check.sides import Bench
from vgs_mlx.train import optimizer as adamw
from vgs_mlx.train import step
from vgs_mlx.types import Prompt

Figures = dict[str, np.ndarray]
"""`group: name` -> values. The group decides how far they may differ."""

VIEWS = ("with_image", "text_only")
LOGITS_OF = 4  # answers: with packed weights a CPU takes seconds for more


def inputs(bench: Bench) -> Figures:
    """What the models are fed: token ids of prompts and answers, and pixels. MLX has no part in it."""
    prompts = _prompts(bench)
    return {
        "inputs: pixels": np.concatenate(
            [each.student["with_image"].media["pixel_values"].ravel() for each in prompts]
        ),
        **{
            f"inputs: ids {view}": np.concatenate([each.student[view].ids for each in prompts])
            for view in VIEWS
        },
        "inputs: ids of the answers": np.concatenate([each.completion for each in bench.rollouts]),
    }


def figures(bench: Bench) -> Figures:
    """The figures of one step, the student's weights updated at its end.

    Logits at the first answers' tokens (N', V), the terms (N,) in nats, the gate (N,), η, each gradient tree as one
    vector, and the change of the weights.
    """
    progress = Progress()
    encodings = step.encode_views(bench.student, _prompts(bench), step.asked(bench.recipe, progress))
    collected = step.Collected(bench.rollouts, encodings, None)
    found = step.compute_gradients(
        bench.student, bench.teacher, collected, slice(None), bench.recipe, progress
    )
    logits = _logits(bench)
    terms = {f"terms: {name}": values for name, values in found.terms.items()}
    gradients = {
        f"gradients: {role}, {part}": values
        for role, tree in found.trees.items()
        for part, values in _by_part(tree).items()
    }
    updated, measured = _updated(bench, found.trees)
    return {
        **logits,
        **terms,
        "gate: tokens": found.gate,
        "scale: η": np.array([measured["norm_scale"]]),
        "scale: cosine of standard and steering": np.array([measured["cosine_standard_steering"]]),
        **gradients,
        "update: weights": updated,
    }


def _prompts(bench: Bench) -> list[Prompt]:
    return list({each.prompt.student["with_image"].key: each.prompt for each in bench.rollouts}.values())


def _logits(bench: Bench) -> Figures:
    """Both models' logits at the first answers' tokens before the update, by view."""
    answers, found = bench.rollouts[:LOGITS_OF], {}
    for role, model in (("student", bench.student), ("teacher", bench.teacher)):
        for view in VIEWS:
            sequences = [Continued(each.prompt.student[view], each.completion) for each in answers]
            encodings = evaluate(encode(model, [each for each, _ in sequences]))
            logits = model.logits(completion_hidden(model, sequences, encodings))
            found[f"logits: {role}, {view}"] = _values(logits)
    return found


def _updated(bench: Bench, trees: dict[str, Tree]) -> tuple[np.ndarray, dict[str, float]]:
    """The weights' change by one AdamW update along the steered gradient, and what steering measured."""
    settings, module = bench.recipe.objective, bench.student.module
    tree, measured = steer(
        trees["standard"],
        trees["steering"],
        trees["preservation"],
        mx.array(settings.steering_coef),
        mx.array(settings.preservation_coef),
        mx.array([], dtype=mx.float32),
    )
    before = _vector(adapters.trainable_weights(module))
    adamw.update(adamw.make(bench.recipe.train, bench.student), bench.student, tree)
    after = _vector(adapters.trainable_weights(module))
    return after - before, {name: float(value) for name, value in measured.items()}


def _by_part(tree: Tree) -> dict[str, np.ndarray]:
    """A gradient tree as a vector for the adapters, and one for the vision tower where it trains."""
    adapter = {name: value for name, value in tree.items() if adapters.is_adapter_weight(name)}
    vision = {name: value for name, value in tree.items() if name not in adapter}
    return {
        "adapters": _vector(adapter),
        **({"vision tower": _vector(vision)} if vision else {}),
    }


def _vector(tree: Tree) -> np.ndarray:
    return np.concatenate([_values(tree[name]).ravel() for name in sorted(tree)])


def _values(array: mx.array) -> np.ndarray:
    return np.array(array.astype(mx.float32))
