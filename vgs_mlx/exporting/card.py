"""README.md of an exported model: what it was made from and how, what was measured, how to run it."""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

from vgs_mlx.errors import Refusal
from vgs_mlx.exporting.proof import Proof
from vgs_mlx.formats import hub_names
from vgs_mlx.formats.hub_names import HubId
from vgs_mlx.models.loading import EMBEDDED
from vgs_mlx.recipe import file as recipe_file
from vgs_mlx.recipe.options import Recipe
from vgs_mlx.runs.folder import EVALUATIONS, FINAL, ORIGIN, RESULT, rows
from vgs_mlx.runs.records import read_object
from vgs_mlx.runs.trained import TrainedWeights, base_of

VERSIONS = "versions.json"

TAGS = ["mlx", "mlx-vlm", "distillation", "visual-gradient-steering"]

STEERING = "[Visual Gradient Steering](https://arxiv.org/abs/2606.00564)"
METHODS = {
    "vgs": f"on-policy distillation with {STEERING}",
    "adaptive": f"on-policy distillation with adaptive {STEERING}",
    "grpo": "reinforcement learning with verifiable answers",
    "sft": "supervised fine-tuning",
}
DISTILLATION = "on-policy distillation"

CARD = """\
---
{front}
---

# {student}, {made}

Made by vgs-mlx: {method} (objective `{objective}`, data `{data}`).{earlier} The training is fused in;
no adapter is needed:

    python -m mlx_vlm.generate --model .{system} --image PICTURE --prompt QUESTION

{results}
## Is this the trained model?

Loaded with stock mlx-vlm and compared, in float32, on {positions:,} positions of the trained model's own
greedy answers to {asked}; changed layers are stored as {stored}.

| | mean | largest |
|---|---|---|
| KL(trained ‖ this model), nats | {fused.mean:.3g} | {fused.largest:.3g} |
| KL(trained ‖ untrained), nats | {untrained.mean:.3g} | {untrained.largest:.3g} |

The same greedy token at {fused.agreement:.2%} of the positions.

## Recipe

From {origin}; made with {versions}.

```yaml
{recipe}```
"""


def write(folder: Path, run: Path, source: TrainedWeights, proven: Proof, asked: str) -> None:
    """Write the card into the exported folder."""
    recipe = source.recipe
    origin = read_object(Path(recipe.student.path) / ORIGIN)
    began_with = base_of(recipe.student.path)
    base, teacher = _hub_id(began_with), recipe.teacher.path
    front = ModelCardData(
        library_name="mlx",
        pipeline_tag="image-text-to-text",
        tags=TAGS,
        base_model=base.name if base else None,
        # the licence of another model is unknown
        license="mit" if began_with.startswith(EMBEDDED) else None,
    )
    text = CARD.format(
        front=front.to_yaml(),
        student=_name(began_with),
        made=f"distilled from {_name(teacher)}" if teacher else f"trained by {recipe.objective.name}",
        earlier=f" It continued from {origin['weights']}." if "weights" in origin else "",
        objective=recipe.objective.name,
        method=_method(recipe),
        data=_name(recipe.data.source),
        system=f" --system {shlex.quote(recipe.data.system_prompt)}" if recipe.data.system_prompt else "",
        results=_results(run, source),
        positions=proven.fused.positions,
        asked=asked,
        stored=f"{proven.dtype}, then packed to {proven.bits} bits" if proven.bits else proven.dtype,
        fused=proven.fused,
        untrained=proven.untrained,
        versions=_versions(read_object(run / VERSIONS)),
        origin=source.origin,
        recipe=recipe_file.dump(_published(recipe)),
    )
    (folder / "README.md").write_text(text, encoding="utf-8")


def _method(recipe: Recipe) -> str:
    """How the student was trained, in words."""
    words = METHODS.get(recipe.objective.name, DISTILLATION)
    return f"{words} and {DISTILLATION}" if recipe.objective.mix else words


def _published(recipe: Recipe) -> Recipe:
    """The recipe with only the names of files and folders: their paths are private."""

    def named(text: str) -> str:
        return text if text.startswith(EMBEDDED) else _name(text)

    data, held_out = recipe.data, recipe.data.held_out
    return replace(
        recipe,
        student=replace(recipe.student, path=named(recipe.student.path)),
        teacher=replace(recipe.teacher, path=named(recipe.teacher.path)),
        data=replace(
            data,
            source=named(data.source),
            held_out=named(held_out) if isinstance(held_out, str) else held_out,
        ),
        grpo=replace(recipe.grpo, reward=Path(recipe.grpo.reward).name),
    )


def _results(run: Path, source: TrainedWeights) -> str:
    """The accuracies on held-out rows, where the run has measured these weights."""
    result = read_object(run / RESULT)
    before, after = result.get("accuracy_before"), result.get("accuracy_after")
    if source.weights.name != FINAL:
        try:
            measured = {row["step"]: row["accuracy"] for row in rows(run / EVALUATIONS)}
        except Refusal:  # damaged; the proof doesn't need it
            measured = {}
        before, after = measured.get(0), measured.get(source.step)
    if not isinstance(before, int | float) or not isinstance(after, int | float):
        return ""
    return (
        "## Results\n\nGreedy accuracy on the run's held-out rows: "
        f"{before:.3f} before, {after:.3f} after.\n\n"
    )


def _versions(found: dict[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in found.items()) or "unknown versions"


def _name(path: str) -> str:
    """The public name of a model or data set: a Hub id as it is, the last part of a local path."""
    return str(_hub_id(path) or Path(path.removeprefix(EMBEDDED)).name)


def _hub_id(path: str) -> HubId | None:
    return None if Path(path).exists() else hub_names.parse(path)
