"""Accuracies of finished runs, mean and spread over seeds: `python scripts/summarise.py runs/seeds/*`.

Runs are grouped by their folder's name up to the last dash: lora-vgs-0, lora-vgs-1, ...
"""

import json
import statistics
from collections import defaultdict
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table


@click.command()
@click.argument("runs", nargs=-1, type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(runs: tuple[Path, ...]) -> None:
    """See the module's text."""
    groups: dict[str, list[dict]] = defaultdict(list)
    for run in runs:
        if (run / "result.json").exists():
            groups[run.name.rpartition("-")[0]].append(read(run))
    table = Table(box=None)
    for heading in ("runs", "seeds", "accuracy before", "accuracy after", "scene F1 after", "step, s", "η"):
        table.add_column(heading, justify="left" if heading == "runs" else "right")
    for name, found in sorted(groups.items()):
        cells = [
            spread([each[key] for each in found]) for key in ("before", "after", "f1", "step", "norm_scale")
        ]
        table.add_row(name, str(len(found)), *cells)
    Console().print(table)


def read(run: Path) -> dict[str, float]:
    result = json.loads((run / "result.json").read_text())
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {
        "before": result["before"]["accuracy"],
        "after": result["after"]["accuracy"],
        "f1": result["after"].get("scene_f1", float("nan")),
        "step": statistics.median(each["seconds"]["step"] for each in metrics),
        "norm_scale": statistics.mean(each["norm_scale"] for each in metrics),
    }


def spread(values: list[float]) -> str:
    """Mean and sample standard deviation."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.3f} ± {deviation:.3f}"


if __name__ == "__main__":
    main()
