"""Steering: gradient trees of the objective's parts in, one steered tree and its measurements out.

Trees are flat dicts name -> array. Norms run over all trainable parameters, in float32.
"""

from functools import partial

import mlx.core as mx

Tree = dict[str, mx.array]


def dot(left: Tree, right: Tree) -> mx.array:
    """The inner product of two gradient trees, float32 scalar."""
    return sum((left[name].astype(mx.float32) * right[name].astype(mx.float32)).sum() for name in left)


def norm(tree: Tree) -> mx.array:
    """The Euclidean norm of a gradient tree."""
    return mx.sqrt(dot(tree, tree))


def cosine(left: Tree, right: Tree) -> mx.array:
    """cos of the angle between two trees, in [-1, 1]; 0 where one of them vanishes."""
    return _ratio(dot(left, right), norm(left) * norm(right), otherwise=0.0)


@partial(mx.compile, shapeless=False)
def steer(
    standard: Tree,
    steering: Tree,
    preservation: Tree,
    steering_coef: mx.array,
    preservation_coef: mx.array,
    norm_scale: mx.array,
) -> tuple[Tree, dict[str, mx.array]]:
    """η (g_std + γ g_steer + λ g_pres), with what was measured on the way (Eq. 13-18).

    `norm_scale` is η; 0 asks for the exact one, η = ‖g_std‖ / ‖g_std + γ g_steer‖ (Eq. 15; the preservation
    term doesn't enter). Steering then changes the direction of the standard update and not its size.
    `preservation` may be empty. Measurements: `norm_scale` (the η used), `norm_scale_exact`, the norms of the
    parts and cos(g_std, g_steer).
    """
    steered = {name: standard[name] + steering_coef * steering[name] for name in standard}
    exact = _ratio(norm(standard), norm(steered), otherwise=1.0)
    scale = mx.where(norm_scale > 0, norm_scale, exact)
    tree = {
        name: scale * (value + preservation_coef * preservation[name] if preservation else value)
        for name, value in steered.items()
    }
    return tree, {
        "norm_scale": scale,
        "norm_scale_exact": exact,
        "gradient_norm_standard": norm(standard),
        "gradient_norm_steering": norm(steering),
        "gradient_norm_preservation": norm(preservation) if preservation else mx.array(0.0),
        "cosine_standard_steering": cosine(standard, steering),
    }


def _ratio(numerator: mx.array, denominator: mx.array, otherwise: float) -> mx.array:
    """numerator / denominator, or `otherwise` where the denominator vanishes."""
    safe = mx.where(denominator > 0, denominator, 1.0)
    return mx.where(denominator > 0, numerator / safe, otherwise)
