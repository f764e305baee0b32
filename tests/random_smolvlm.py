"""A randomly initialised SmolVLM and prompts for it: tiles of 32 x 32 pixels, 4 image tokens each."""

import mlx.core as mx
import numpy as np
from mlx_vlm.models import smolvlm as stock

from random_models import END, HEAD_ROWS, IMAGE, VOCABULARY, loaded, made_prompt
from vgs_mlx.models.base import LoadedModel
from vgs_mlx.models.families.smolvlm import FAMILY
from vgs_mlx.types import Prompt, View

SIDE, TILE_TOKENS, ROW = 32, 4, 5  # ROW: an id that begins a tile


def random_smolvlm(seed: int = 0, *, hidden: int = 32, layers: int = 2, scale: float = 3.0) -> LoadedModel:
    """A model whose predictions depend clearly on its picture. Its head is never tied."""
    text = dict(
        hidden_size=hidden, intermediate_size=2 * hidden, num_attention_heads=4, num_key_value_heads=2,
        num_hidden_layers=layers, vocab_size=HEAD_ROWS, rope_theta=10_000.0, rms_norm_eps=1e-5,
    )  # fmt: skip
    vision = dict(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        patch_size=8,
        image_size=SIDE,
    )
    config = stock.ModelConfig.from_dict(
        dict(
            model_type="smolvlm", image_token_id=IMAGE, scale_factor=2, vocab_size=HEAD_ROWS, eos_token_id=[END],
            text_config=dict(model_type="llama", **text),
            vision_config=dict(model_type="siglip_vision_model", **vision),
        )
    )  # fmt: skip
    config.text_config = stock.TextConfig.from_dict(config.text_config)
    config.vision_config = stock.VisionConfig.from_dict(config.vision_config)
    mx.random.seed(seed)
    return loaded(f"random-smolvlm-{seed}", stock.Model(config), FAMILY, scale, VOCABULARY)


def random_tiles(seed: int, *, tiles: int = 2, words: int = 4) -> Prompt:
    """A prompt of `words` random ids after one picture of `tiles` tiles; without one where that is 0."""
    rng = np.random.default_rng(seed)
    text = rng.integers(6, VOCABULARY, words).astype(np.int32)
    ids = np.array([ROW, *[IMAGE] * TILE_TOKENS] * tiles + text.tolist(), dtype=np.int32)
    pixels = rng.normal(size=(1, tiles, 3, SIDE, SIDE)).astype(np.float32)
    media = {"pixel_values": pixels}
    return made_prompt(f"row-{seed}", View(ids, media if tiles else {}), View(text, {}))
