"""The page about a run or an ablation: one HTML file that needs nothing else."""
