"""Steering: combines the gradient trees of the objective's roles into one steered tree, and measures them.

Trees are flat dicts name -> array. Norms are taken over all trainable parameters, in float32.
"""

import mlx.core as mx

Tree = dict[str, mx.array]


def dot(left: Tree, right: Tree) -> mx.array:
    """The inner product of two gradient trees, float32 scalar."""
    return sum((left[name].astype(mx.float32) * right[name].astype(mx.float32)).sum() for name in left)


def norm(tree: Tree) -> mx.array:
    """The Euclidean norm of a gradient tree."""
    return mx.sqrt(dot(tree, tree))


def cosine(left: Tree, right: Tree) -> mx.array:
    """The cosine of the angle between two trees, in [-1, 1]; 0 if either vanishes."""
    return _ratio(dot(left, right), norm(left) * norm(right), otherwise=0.0)


@mx.compile
def steer(
    standard: Tree,
    steering: Tree,
    preservation: Tree,
    steering_coef: mx.array,
    preservation_coef: mx.array,
    earlier_norm_scales: mx.array,
) -> tuple[Tree, dict[str, mx.array]]:
    """η (g_std + γ g_steer + λ g_pres), and its measurements (Eq. 13-18).

    The exact η is ‖g_std‖ / ‖g_std + γ g_steer‖ (Eq. 15, which excludes the preservation term): steering then
    changes the direction of the standard update, not its size. The η that is used is the mean of the exact η and
    `earlier_norm_scales` (k,): none for `exact`, the last three measurements for `interval`. `preservation` may be
    empty. Measured: both values of η, the norms of the three trees, and cos(g_std, g_steer).
    """
    steered = {name: standard[name] + steering_coef * steering[name] for name in standard}
    exact = _ratio(norm(standard), norm(steered), otherwise=1.0)
    scale = mx.concatenate([earlier_norm_scales, exact[None]]).mean()
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


def scaled(tree: Tree, factor: float) -> Tree:
    """The tree times a number."""
    return {name: factor * value for name, value in tree.items()}


def added(left: Tree, right: Tree) -> Tree:
    """The sum of two trees; a name that only one of them has counts as 0 in the other."""
    both = {name: value + right[name] for name, value in left.items() if name in right}
    return {**left, **right, **both}


def _ratio(numerator: mx.array, denominator: mx.array, otherwise: float) -> mx.array:
    """numerator / denominator, or `otherwise` if the denominator vanishes."""
    vanishes = denominator == 0  # not "> 0", since a NaN norm must stay NaN
    return mx.where(vanishes, otherwise, numerator / mx.where(vanishes, 1.0, denominator))
