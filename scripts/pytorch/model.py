"""A Qwen3-VL checkpoint as mlx-vlm or transformers keeps it, in transformers' model on PyTorch; LoRA; hidden states."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import AutoTokenizer, Qwen3VLConfig, Qwen3VLForConditionalGeneration
from transformers.models.qwen3_vl.modeling_qwen3_vl import BaseModelOutputWithDeepstackFeatures as Features

from vgs_mlx.types import Rollout, View

PREFIXES = {
    "language_model.model.": "model.language_model.",
    "language_model.lm_head.": "lm_head.",
    "vision_tower.": "model.visual.",
}  # mlx-vlm's names -> transformers'; a checkpoint in transformers' own names has none of these
EXCLUDED = -1e4  # added to the logit of an id that can't be answered: its probability is then exactly 0

Pictures = dict[int, Features]
"""What the vision tower makes of a view's pictures, by the `id` of the view."""


@dataclass(frozen=True, eq=False)
class TorchModel:
    """A frozen model on its device."""

    network: Qwen3VLForConditionalGeneration
    penalty: torch.Tensor  # (rows of the head,): 0 for an answerable id, else EXCLUDED

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """Logits (N, rows of the head) of hidden states (N, D)."""
        return functional.linear(states, self.network.lm_head.weight)

    def logprobs(self, states: torch.Tensor) -> torch.Tensor:
        """Log-probabilities over the answerable ids, float32; the penalty costs nothing as the product's bias."""
        logits = functional.linear(states, self.network.lm_head.weight, self.penalty)
        return functional.log_softmax(logits.float(), dim=-1)


def load(folder: Path, *, device: str = "cpu", dtype: torch.dtype = torch.float32) -> TorchModel:
    """The model of a folder; packed weights are unpacked."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    ids = sorted(AutoTokenizer.from_pretrained(folder).get_vocab().values())
    answerable = np.setdiff1d(ids, [config["image_token_id"], config["video_token_id"]])
    return build(config, read_weights(folder, config), answerable, device=device, dtype=dtype)


def build(
    config: Mapping[str, Any],
    weights: Mapping[str, np.ndarray],
    answerable: np.ndarray,
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> TorchModel:
    """A model from a config.json's content, unpacked float32 weights by mlx-vlm's names, and the answerable ids."""
    plain = {key: value for key, value in config.items() if not key.startswith("quantization")}
    state = {torch_name(name): torch.from_numpy(torch_layout(name, value)) for name, value in weights.items()}
    plain["tie_word_embeddings"] = "lm_head.weight" not in state
    network, found = Qwen3VLForConditionalGeneration.from_pretrained(
        None, config=Qwen3VLConfig.from_dict(plain), state_dict=state, dtype=dtype, output_loading_info=True
    )
    wrong = [*found["missing_keys"], *found["unexpected_keys"], *found["mismatched_keys"]]
    if wrong:
        raise ValueError(f"{len(wrong)} weights are missing, surplus or of another shape, such as {wrong[0]}")
    network.requires_grad_(False).eval().to(device)
    penalty = torch.full(network.lm_head.weight.shape[:1], EXCLUDED)
    penalty[torch.from_numpy(answerable)] = 0
    return TorchModel(network, penalty.to(device, dtype))


def read_weights(folder: Path, config: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """A checkpoint's weights in float32; scales are widened before they unpack anything, so nothing is rounded."""
    files = sorted(folder.glob("*.safetensors"))
    stored = {name: value for file in files for name, value in mx.load(str(file)).items()}
    general = {
        key: value for key, value in config.get("quantization", {}).items() if not isinstance(value, dict)
    }
    weights = {}
    for name, value in stored.items():
        path, _, last = name.rpartition(".")
        if last in ("scales", "biases"):
            continue
        if last == "weight" and f"{path}.scales" in stored:
            scales, biases = (stored[f"{path}.{part}"].astype(mx.float32) for part in ("scales", "biases"))
            value = mx.dequantize(value, scales, biases, **general | config["quantization"].get(path, {}))
        weights[name] = np.array(value.astype(mx.float32))
    return weights


def torch_name(name: str) -> str:
    """transformers' name of a weight."""
    for prefix, other in PREFIXES.items():
        if name.startswith(prefix):
            return other + name.removeprefix(prefix)
    return name


def torch_layout(name: str, value: np.ndarray) -> np.ndarray:
    """MLX's convolution has its channels last: (out, time, height, width, in) -> (out, in, time, height, width)."""
    if name.startswith("vision_tower.") and value.ndim == 5:
        return np.ascontiguousarray(np.moveaxis(value, -1, 1))
    return value


class Adapted(nn.Module):
    """A frozen linear layer with a trainable low-rank update beside it: y + scale · x A B."""

    def __init__(self, linear: nn.Linear, lora_a: torch.Tensor, lora_b: torch.Tensor, scale: float):
        super().__init__()
        self.linear, self.scale = linear, scale
        self.lora_a, self.lora_b = nn.Parameter(lora_a), nn.Parameter(lora_b)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        update = (x.to(self.lora_a.dtype) @ self.lora_a) @ self.lora_b
        return self.linear(x) + (self.scale * update).to(x.dtype)


def adapt(model: TorchModel, weights: Mapping[str, np.ndarray], scale: float) -> dict[str, nn.Parameter]:
    """Put adapters, `….lora_a` (in, rank) and `….lora_b` (rank, out), into the model: parameters by the same names."""
    device = model.penalty.device
    parameters = {}
    for path in sorted(name.removesuffix(".lora_a") for name in weights if name.endswith(".lora_a")):
        matrices = [torch.tensor(weights[f"{path}.{name}"], device=device) for name in ("lora_a", "lora_b")]
        adapted = Adapted(model.network.get_submodule(torch_name(path)), *matrices, scale)
        model.network.set_submodule(torch_name(path), adapted)
        parameters |= {
            f"{path}.{name}": value for name, value in adapted.named_parameters() if value.requires_grad
        }
    return parameters


@torch.no_grad()
def encode_pictures(model: TorchModel, views: Iterable[View]) -> Pictures:
    """Run the frozen vision tower once for every distinct view with pictures."""
    found = {}
    for view in {view.key: view for view in views if view.media}.values():
        pixels = torch.from_numpy(view.media["pixel_values"]).to(model.penalty.device)
        found[view.key] = model.network.get_image_features(pixels, _grid([view], model))
    return found


def completion_hidden(
    model: TorchModel, rollouts: Sequence[Rollout], view: str, pictures: Pictures
) -> torch.Tensor:
    """The hidden states that predict the completions' tokens after the prompt in one view, (N, D), end to end.

    Rows are padded on the right, where causal attention never looks: no mask is needed, which is the fast way.
    """
    views = [each.prompt.student[view] for each in rollouts]
    sequences = [
        np.concatenate([view.ids, each.completion]) for view, each in zip(views, rollouts, strict=True)
    ]
    rows = [torch.from_numpy(each).long() for each in sequences]
    ids = nn.utils.rnn.pad_sequence(rows, batch_first=True).to(model.penalty.device)
    pictured = [view for view in views if view.key in pictures]
    hidden = model.network.model(
        input_ids=ids,
        mm_token_type_ids=(ids == model.network.config.image_token_id).int(),
        image_grid_thw=_grid(pictured, model) if pictured else None,
        mm_encoder_outputs={"image": _joined([pictures[view.key] for view in pictured])}
        if pictured
        else None,
        use_cache=False,
    ).last_hidden_state
    starts = [len(view.ids) - 1 for view in views]  # the state at a token predicts the next one
    return torch.cat(
        [
            hidden[row, start : start + len(each.completion)]
            for row, (start, each) in enumerate(zip(starts, rollouts, strict=True))
        ]
    )


def _grid(views: Sequence[View], model: TorchModel) -> torch.Tensor:
    return torch.from_numpy(np.concatenate([view.media["image_grid_thw"] for view in views])).to(
        model.penalty.device
    )


def _joined(features: Sequence[Features]) -> Features:
    """The features of several views, one after the other: a list of pictures, and one for each deepstack level."""
    levels = zip(*(each.deepstack_features for each in features), strict=True)
    return Features(
        pooler_output=[picture for each in features for picture in each.pooler_output],
        deepstack_features=[[picture for pictures in level for picture in pictures] for level in levels],
    )
