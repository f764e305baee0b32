"""A batched forward of Qwen3-VL for equal pictures: the stock modules without the per-row loops.

All pictures have one size and all prompts start alike, so the picture's tokens stand at the same places in
every row that has one; those rows come first in a batch. `check` compares with the stock forward.
"""

from dataclasses import dataclass

import vgs_mlx  # noqa: F401  (before mlx: it loads a fast BLAS)

# isort: split
import mlx.core as mx
import numpy as np
from mlx_vlm.models.qwen3_vl import Model
from mlx_vlm.models.qwen3_vl.language import apply_multimodal_rotary_pos_emb

from tiny import fast
from tiny.files import IMAGE, MERGE, PATCH
from vgs_mlx.data.shapes import SIDE

GRID = SIDE // PATCH  # patches along a side
TOKENS = (GRID // MERGE) ** 2  # placeholders of a picture


@dataclass(frozen=True, eq=False)
class Visual:
    """What the vision tower gives for N pictures: merged and deepstack features, each (N, 9, D)."""

    merged: mx.array
    deepstack: list[mx.array]


def patches(images: list[np.ndarray]) -> np.ndarray:
    """Pictures (72, 72, 3) of bytes as the processor's patches: (N, 36, 864), 2 x 2 neighbours together."""
    blocks = GRID // MERGE
    pixels = np.stack(images).astype(np.float32) / 127.5 - 1
    pixels = pixels.reshape(-1, blocks, MERGE, PATCH, blocks, MERGE, PATCH, 3).transpose(
        0, 1, 4, 2, 5, 7, 3, 6
    )
    pixels = pixels.reshape(-1, GRID * GRID, 3, 1, PATCH, PATCH)
    return np.repeat(pixels, 2, axis=3).reshape(-1, GRID * GRID, 6 * PATCH * PATCH)


def see(model: Model, pixels: mx.array) -> Visual:
    """The vision tower over (N, 36, 864)."""
    tower = model.vision_tower
    grid = mx.array([[1, GRID, GRID]])
    kernel = tower.patch_embed.proj.weight  # (out, time, height, width, channels)
    kernel = kernel.transpose(0, 4, 1, 2, 3).reshape(kernel.shape[0], -1)
    h = pixels @ kernel.T + tower.patch_embed.proj.bias + tower.fast_pos_embed_interpolate(grid)
    angles = mx.tile(tower.rot_pos_emb(grid), (1, 2))
    cos, sin = mx.cos(angles), mx.sin(angles)
    deepstack = []
    for index, block in enumerate(tower.blocks):
        h = h + _attend(block.attn, block.norm1(h), cos, sin)
        h = h + block.mlp.linear_fc2(fast.gelu_tanh(block.mlp.linear_fc1(block.norm2(h))))
        if index in tower.deepstack_visual_indexes:
            merger = tower.deepstack_merger_list[tower.deepstack_visual_indexes.index(index)]
            deepstack.append(_merge(merger, h))
    return Visual(_merge(tower.merger, h), deepstack)


def _merge(merger, h: mx.array) -> mx.array:
    """Four neighbouring patches become one token: (N, 36, width) to (N, 9, D)."""
    count, joined = h.shape[0], (h.shape[0], TOKENS, merger.hidden_size)
    h = merger.norm(h.reshape(joined)) if merger.use_postshuffle_norm else merger.norm(h).reshape(joined)
    return merger.linear_fc2(fast.gelu(merger.linear_fc1(h))).reshape(count, TOKENS, -1)


def _attend(attention, h: mx.array, cos: mx.array, sin: mx.array) -> mx.array:
    """Attention inside each picture, (N, 36, D)."""
    count, length, width = h.shape
    qkv = attention.qkv(h).reshape(count, length, 3, attention.num_heads, -1).transpose(2, 0, 3, 1, 4)
    q, k = (part * cos + _rotate_half(part) * sin for part in (qkv[0], qkv[1]))
    out = fast.attention(q, k, qkv[2], attention.scale, causal=False)
    return attention.proj(out.transpose(0, 2, 1, 3).reshape(count, length, width))


def _rotate_half(x: mx.array) -> mx.array:
    half = x.shape[-1] // 2
    return mx.concatenate([-x[..., half:], x[..., :half]], axis=-1)


def positions(ids: np.ndarray) -> np.ndarray:
    """The three axes' positions of every token, (3, B, L): a picture's by row and column of its grid."""
    side = GRID // MERGE
    result = np.broadcast_to(np.arange(ids.shape[1]), (3, *ids.shape)).copy()
    for row, found in enumerate(ids == IMAGE):
        if found.any():
            start = int(found.argmax())
            cells = np.arange(TOKENS)
            result[:, row, start : start + TOKENS] = start + np.stack(
                [0 * cells, cells // side, cells % side]
            )
            result[:, row, start + TOKENS :] -= TOKENS - side
    return result


def hidden_states(
    model: Model, ids: np.ndarray, visual: Visual | None, cache: list | None = None
) -> mx.array:
    """Hidden states (B, L, D) after the final norm. Rows with a picture come first; padding is right."""
    inner = model.language_model.model
    h = inner.embed_tokens(mx.array(ids))
    if visual is not None:
        start = int((ids[0] == IMAGE).argmax())
        h = mx.where(mx.array(ids == IMAGE)[..., None], _spread(visual.merged, start, h.shape), h)
    deepstack = [] if visual is None else [_spread(each, start, h.shape) for each in visual.deepstack]
    return run_layers(model, h, mx.array(positions(ids)), deepstack, cache)


def run_layers(
    model: Model, h: mx.array, position_ids: mx.array, deepstack: list, cache: list | None
) -> mx.array:
    """The decoder layers and the final norm; dense deepstack features are added after the first layers."""
    inner = model.language_model.model
    rotary = inner.layers[0].self_attn.rotary_emb(h, position_ids)
    for index, layer in enumerate(inner.layers):
        h = h + _attend_causally(layer.self_attn, layer.input_layernorm(h), rotary, cache and cache[index])
        x = layer.post_attention_layernorm(h)
        h = h + layer.mlp.down_proj(fast.silu(layer.mlp.gate_proj(x)) * layer.mlp.up_proj(x))
        if index < len(deepstack):
            h = h + deepstack[index]
    return inner.norm(h)


def _attend_causally(attention, x: mx.array, rotary: tuple, cache) -> mx.array:
    """Self-attention (B, L, D) over a whole prompt, or of one new token over the cache."""
    batch, length, _ = x.shape
    heads = (batch, length, attention.n_heads, attention.head_dim)
    q = attention.q_norm(attention.q_proj(x).reshape(heads)).transpose(0, 2, 1, 3)
    k = attention.k_norm(attention.k_proj(x).reshape(heads)).transpose(0, 2, 1, 3)
    v = attention.v_proj(x).reshape(heads).transpose(0, 2, 1, 3)
    q, k = apply_multimodal_rotary_pos_emb(q, k, *rotary)
    if cache is not None:
        k, v = cache.update_and_fetch(k, v)
    out = fast.attention(q, k, v, attention.scale, causal=length > 1)
    return attention.o_proj(out.transpose(0, 2, 1, 3).reshape(batch, length, -1))


def _spread(features: mx.array, start: int, shape: tuple[int, ...]) -> mx.array:
    """Features (N, 9, D) at their places in zeros (B, L, D)."""
    count, tokens = features.shape[:2]
    return mx.pad(features, ((0, shape[0] - count), (start, shape[1] - start - tokens), (0, 0)))


def logits(model: Model, h: mx.array) -> mx.array:
    return model.language_model.model.embed_tokens.as_linear(h)


def check(model: Model, ids: np.ndarray, pixels: np.ndarray) -> float:
    """The largest difference of logits between this forward and the stock one, all rows with a picture."""
    grid = mx.array([[1, GRID, GRID]] * len(ids))
    stock = model(mx.array(ids), mx.array(pixels.reshape(-1, pixels.shape[-1])), image_grid_thw=grid).logits
    ours = logits(model, hidden_states(model, ids, see(model, mx.array(pixels))))
    return mx.abs(stock - ours).max().item()
