"""A run's life on disk and on the screen."""
