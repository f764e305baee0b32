"""Angles between the gradients of the terms, by visual dependency."""
