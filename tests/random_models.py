"""A randomly initialised Qwen3-VL, small enough to build in milliseconds, with a stub for its processor."""

import copy
from pathlib import Path
from types import SimpleNamespace

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_map
from mlx_vlm.models import qwen3_vl as stock

from vgs_mlx.models.base import LoadedModel
from vgs_mlx.models.families.base import Family
from vgs_mlx.models.families.qwen3_vl import FAMILY
from vgs_mlx.types import Example, Prompt, View

VOCABULARY = 37
HEAD_ROWS = 40  # more than the tokenizer has, as in real checkpoints
END, IMAGE, VIDEO, VISION_START = 2, 3, 4, 5


def random_model(
    seed: int = 0, *, hidden: int = 32, layers: int = 2, tied: bool = True, scale: float = 3.0
) -> LoadedModel:
    """A model whose predictions depend clearly on its picture: weights are scaled up from their initial size."""
    text = dict(
        num_hidden_layers=layers, hidden_size=hidden, intermediate_size=2 * hidden, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, vocab_size=HEAD_ROWS, tie_word_embeddings=tied,
        rope_scaling={"type": "default", "mrope_section": [4, 2, 2]},
    )  # fmt: skip
    vision = dict(
        depth=2, hidden_size=16, intermediate_size=32, out_hidden_size=hidden, num_heads=2, patch_size=4,
        num_position_embeddings=16, deepstack_visual_indexes=[0],
    )  # fmt: skip
    return sized_model(f"random-{seed}", text, vision, seed=seed, scale=scale, vocabulary=VOCABULARY)


def sized_model(
    name: str,
    text: dict,
    vision: dict,
    *,
    seed: int,
    scale: float,
    vocabulary: int,
    dtype: mx.Dtype = mx.float32,
) -> LoadedModel:
    """A random Qwen3-VL of the given sizes; the special ids are those above."""
    config = stock.ModelConfig.from_dict(
        dict(
            model_type="qwen3_vl", image_token_id=IMAGE, video_token_id=VIDEO, vision_start_token_id=VISION_START,
            eos_token_id=[END],
            text_config=dict(model_type="qwen3_vl_text", rms_norm_eps=1e-6, rope_theta=10_000.0,
                             max_position_embeddings=32_768, **text),
            vision_config=dict(model_type="qwen3_vl", spatial_merge_size=2, temporal_patch_size=2, **vision),
        )
    )  # fmt: skip
    mx.random.seed(seed)
    module = stock.Model(config)
    return loaded(name, module, FAMILY, scale, vocabulary, dtype)


def loaded(
    name: str, module: nn.Module, family: Family, scale: float, vocabulary: int, dtype: mx.Dtype = mx.float32
) -> LoadedModel:
    """A module with its weights scaled, beside a stub for its processor."""
    module.update(
        tree_map(lambda each: (each * scale if each.ndim > 1 else each).astype(dtype), module.parameters())
    )
    module.eval()
    module.freeze()
    mx.eval(module.parameters())
    tokenizer = SimpleNamespace(
        get_vocab=lambda: {str(each): each for each in range(vocabulary)},
        eos_token_id=END,
        decode=lambda ids, **_: " ".join(map(str, ids)),
    )
    return LoadedModel(
        name=name, folder=Path("/nowhere"), family=family, module=module,
        processor=SimpleNamespace(tokenizer=tokenizer), vocabulary=vocabulary, end_ids=frozenset({END}),
    )  # fmt: skip


def random_prompt(seed: int, *, pictures: int = 1, words: int = 4) -> Prompt:
    """A prompt of `words` random ids after `pictures` pictures of 16x16 random pixels (4 image tokens each)."""
    rng = np.random.default_rng(seed)
    text = rng.integers(6, VOCABULARY, words).astype(np.int32)
    block = [VISION_START, *[IMAGE] * 4]
    with_image = np.array(block * pictures + text.tolist(), dtype=np.int32)
    pixels = rng.normal(size=(16 * pictures, 3 * 2 * 4 * 4)).astype(np.float32)
    grid = np.tile(np.array([[1, 4, 4]]), (pictures, 1))
    media = {"pixel_values": pixels, "image_grid_thw": grid} if pictures else {}
    return made_prompt(f"row-{seed}", View(with_image, media), View(text, {}))


def made_prompt(name: str, with_image: View, text_only: View, **more: View) -> Prompt:
    """A prompt whose views both models share."""
    views = {"with_image": with_image, "text_only": text_only, **more}
    return Prompt(Example(id=name, question="?", answer="1", pictures=()), views, views)


def random_completion(seed: int, length: int) -> np.ndarray:
    return np.random.default_rng((7, seed)).integers(6, VOCABULARY, length).astype(np.int32)


def changed_family(family: Family = FAMILY, **functions) -> Family:
    """A family with some of its methods replaced by functions without `self`: what a faulty one would compute."""
    changed = copy.copy(family)
    for name, function in functions.items():
        object.__setattr__(changed, name, function)
    return changed
