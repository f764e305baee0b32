"""Strict readers of what others wrote: JSON, YAML, texts, names of the Hub."""
