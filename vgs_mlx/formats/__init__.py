"""Strict readers of input: JSON, YAML, texts, names on the Hub."""
