"""The figures that the tests' machine computed, stored in the package, for machines without a GPU to compare with."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vgs_mlx.errors import Refusal

FILE = Path(__file__).parent / "reference.json"

Sketches = dict[str, np.ndarray]


@dataclass(frozen=True)
class Reference:
    """Sketched figures under "inputs", "float32" and "stored", and the versions that they were made with."""

    made_with: dict[str, str]  # package -> version
    figures: dict[str, Sketches]


def read(file: Path = FILE) -> Reference:
    """The stored figures. Raises `Refusal`."""
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
        figures = {
            of: {name: np.array(values, np.float64) for name, values in each.items()}
            for of, each in held["figures"].items()
        }
        return Reference(held["made_with"], figures)
    except (OSError, ValueError, KeyError) as error:
        raise Refusal(f"{file}: the tests' figures can't be read: install vgs-mlx again") from error


def write(made: Reference, file: Path = FILE) -> None:
    """Store figures with seven digits, one figure a line."""
    blocks = []
    for of, each in made.figures.items():
        lines = [
            f"   {json.dumps(name, ensure_ascii=False)}: {_numbers(values)}" for name, values in each.items()
        ]
        blocks.append(f"  {json.dumps(of)}: {{\n" + ",\n".join(lines) + "\n  }")
    figures = ",\n".join(blocks)
    text = f'{{\n "made_with": {json.dumps(made.made_with)},\n "figures": {{\n{figures}\n }}\n}}\n'
    file.write_text(text, encoding="utf-8")


def _numbers(values: np.ndarray) -> str:
    return "[" + ", ".join(f"{each:.7g}" for each in values.ravel().tolist()) + "]"
