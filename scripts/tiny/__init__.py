"""What make_tiny_models.py is made of."""
