"""Every option with its only default, recipe files, and what a recipe asks of the models."""
