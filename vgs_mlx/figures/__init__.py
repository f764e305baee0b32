"""How figures look and how they are saved: one palette and one style for files, pages and benchmarks."""
