"""From a trained student to a model that stock mlx-vlm runs."""
