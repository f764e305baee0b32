"""The method once more, with PyTorch and transformers: what parity_torch.py compares and a benchmark times."""
