"""Answers of a model graded, with their statistics."""
