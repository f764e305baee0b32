"""A family by declaration: most methods of `Family` have one implementation that fits nearly all mlx-vlm families."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from PIL import Image

from vgs_mlx.machine.lazy import Lazy
from vgs_mlx.models.families.base import Messages, Rows
from vgs_mlx.models.families.features import Features
from vgs_mlx.types import View

caches = Lazy("mlx_vlm.models.cache")

NUMBERS = {"rescale_factor": 0.0}
SWITCHES = ("do_rescale", "do_normalize", "do_convert_rgb")


@dataclass(frozen=True)
class Plain:
    """A family whose model is a language model with `model`, `layers` and a head, and a vision tower beside it.

    A subclass overrides what differs. Paths are dotted, from the model's root.
    """

    model_type: str
    media: tuple[str, ...]  # outputs of the processor, beside ids, that the tower needs
    media_paths: tuple[str, ...]  # the vision tower, its connector
    head_paths: tuple[str, ...] = (  # the first that exists is used
        "language_model.lm_head",
        "language_model.model.embed_tokens",
    )
    layers_path: str = "language_model.model.layers"
    embedding_path: str = "language_model.model.embed_tokens"
    unanswerable: tuple[str, ...] = ("image_token_id",)  # config keys; first: the pictures' placeholder

    preparation_ignores: ClassVar[frozenset[str]] = frozenset({"image_processor_type", "processor_class"})

    def conversation(self, template: Callable[[Messages], str], messages: Messages) -> str:
        """See `Family`. Most templates write only the marks of a picture for it."""
        return template(messages)

    def render(self, processor: Any, text: str, pictures: Sequence[Image.Image], limit: int | None) -> View:
        """See `Family`."""
        special = _lacks_beginning(processor.tokenizer, text)
        if not pictures:
            return View(_ids(processor.tokenizer(text, add_special_tokens=special)["input_ids"]), {})
        inputs = self.prepared(processor, text, pictures, limit, special)
        return View(_ids(inputs["input_ids"]), {name: _media(inputs[name]) for name in self.media})

    def prepared(
        self, processor: Any, text: str, pictures: Sequence[Image.Image], limit: int | None, special: bool
    ) -> Mapping[str, Any]:
        """The processor's outputs; `special`: the tokenizer adds the begin-of-sequence id."""
        return processor(text=[text], images=list(pictures), add_special_tokens=special)

    def special_texts(self, processor: Any) -> tuple[str, ...]:
        """See `Family`."""
        return ()

    def preparation(self, processor: Any) -> Mapping[str, Any]:
        """See `Family`: all settings of the image processor except its name."""
        settings = processor.image_processor.to_dict()
        return {name: value for name, value in settings.items() if name not in self.preparation_ignores}

    def fault(self, processor: Any) -> str | None:
        """See `Family`. Checks the switches and the numbers that scale pixels."""
        return fault_of_pixels(processor.image_processor)

    def other_config(self, processor: Any, config: Any) -> Mapping[str, tuple[Any, Any]]:
        """See `Family`: the id of a picture's placeholder."""
        marker = processor.tokenizer.convert_tokens_to_ids(processor.image_token)
        return {"picture placeholder": (marker, vars(config)[self.unanswerable[0]])}

    def layers(self, model: nn.Module) -> list[nn.Module]:
        """See `Family`."""
        return part(model, self.layers_path)

    def media_modules(self, model: nn.Module) -> Mapping[str, nn.Module | None]:
        """See `Family`."""
        return {path: part(model, path) for path in self.media_paths}

    def head_path(self, model: nn.Module) -> str:
        """See `Family`."""
        return next(path for path in self.head_paths if part(model, path) is not None)

    def unanswerable_ids(self, model: nn.Module) -> list[int]:
        """See `Family`."""
        return [vars(model.config)[name] for name in self.unanswerable]

    def placeholders(self, model: nn.Module, ids: np.ndarray) -> np.ndarray:
        """See `Family`."""
        return ids == vars(model.config)[self.unanswerable[0]]

    def encode(self, model: nn.Module, view: View) -> Features | None:
        """See `Family`. The features are the embeddings that the model returns for placeholders alone."""
        if not view.media:
            return None
        bare = view.ids[self.placeholders(model, view.ids)][None]
        media = {name: mx.array(array) for name, array in view.media.items()}
        return Features(model.get_input_embeddings(mx.array(bare), **media).inputs_embeds[0])

    def positions(self, model: nn.Module, view: View) -> np.ndarray | None:
        """See `Family`."""
        return None

    def make_cache(self, model: nn.Module) -> list[Any]:
        """See `Family`."""
        return caches.make_prompt_cache(model.language_model)

    def embedded(self, model: nn.Module, rows: Rows) -> mx.array:
        """The rows' embeddings, (B, L, D), with features at the places of pictures."""
        embeddings = part(model, self.embedding_path)(mx.array(rows.ids))
        if not rows.features:
            return embeddings
        return placed(
            embeddings,
            mx.array(rows.placeholders),
            mx.concatenate([each.embeddings for each in rows.features]),
        )

    def hidden_states(self, model: nn.Module, rows: Rows, cache: list[Any] | None = None) -> mx.array:
        """See `Family`."""
        return model.language_model.model(None, inputs_embeds=self.embedded(model, rows), cache=cache)

    def logits(self, model: nn.Module, hidden: mx.array) -> mx.array:
        """See `Family`."""
        head = part(model, self.head_path(model))
        return head.as_linear(hidden) if isinstance(head, EMBEDDINGS) else head(hidden)


EMBEDDINGS = (nn.Embedding, nn.QuantizedEmbedding)
"""Layers that map states to logits with `as_linear`. Any other head, adapted or not, is called."""


def part(model: nn.Module, path: str) -> Any:
    """The value at a dotted path of a model, or None."""
    found: Any = model
    for name in path.split("."):
        if found is None:
            return None
        found = found.get(name) if isinstance(found, nn.Module) and name in found else vars(found).get(name)
    return found


def placed(embeddings: mx.array, places: mx.array, features: mx.array) -> mx.array:
    """`embeddings` (B, L, D) with the rows of `features` (n, D) at the n True `places` (B, L), in order.

    Differentiable: uses plain array operations.
    """
    index = mx.maximum(mx.cumsum(places.reshape(-1).astype(mx.int32)) - 1, 0).reshape(places.shape)
    return mx.where(places[..., None], features[index].astype(embeddings.dtype), embeddings)


def fault_of_pixels(settings: Any) -> str | None:
    """Which pixel setting of an image processor can't be used, and why; None if all can."""
    for name in SWITCHES:
        if type(vars(settings)[name]) is not bool:
            return f"{name} is {vars(settings)[name]!r:.60}, not true or false"
    if not is_number(settings.rescale_factor):
        return f"rescale_factor is {settings.rescale_factor!r:.60}, not a number above 0"
    for name, values in {"image_mean": settings.image_mean, "image_std": settings.image_std}.items():
        sound = isinstance(values, list | tuple) and len(values) == 3
        if not sound or not all(is_number(each, least=-math.inf if "mean" in name else 0) for each in values):
            return f"{name} is {values!r:.60}, not three numbers"
    return None


def is_number(value: Any, least: float = 0) -> bool:
    """Whether the value is a finite number above `least`."""
    return type(value) in (int, float) and least < value < math.inf


def _lacks_beginning(tokenizer: Any, text: str) -> bool:
    """Whether the tokenizer must add the begin-of-sequence id because the template hasn't."""
    return tokenizer.bos_token is not None and not text.startswith(tokenizer.bos_token)


def _ids(ids: Any) -> np.ndarray:
    return np.array(ids, dtype=np.int32).reshape(-1)


def _media(array: Any) -> np.ndarray:
    """Pixels as float32; whole numbers unchanged."""
    found = np.array(array)
    return found.astype(np.float32) if found.dtype.kind == "f" else found
