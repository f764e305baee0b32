"""README.md and LICENSE of a tiny model: what it is, how it was made, what it is not for, what may be done with it."""

import shutil
from pathlib import Path

LICENSE = Path(__file__).parents[2] / "LICENSE"

ROLES = {
    "teacher": (
        "It answers the questions of the built-in data set `shapes`. Its language model is stored in 4 bits.",
        "It was trained on the answers of `shapes`, in the teacher's words.",
    ),
    "student": (
        "It could answer the questions of the built-in data set `shapes`, and was then made worse on purpose. "
        "It is stored in bfloat16.",
        "It was trained on the answers of `shapes`, in the student's words. Then its language model was trained for a "
        "few steps on pictures that don't belong to their questions. `vgs-mlx distill` wins most of that back.",
    ),
}

CARD = """\
---
license: mit
library_name: mlx
pipeline_tag: image-text-to-text
tags:
- mlx
- mlx-vlm
---

# The embedded {role} of vgs-mlx

A tiny model of the Qwen3-VL architecture, trained from scratch, with a tokenizer of its own. {what} It is small \
enough to be trained and distilled on two CPU cores.

## How it was made

{made} Nothing of anyone else's went into it, neither weights nor pictures nor texts: \
`vgs_mlx/data/shapes.py` draws the pictures and writes the questions and answers. `scripts/make_tiny_models.py` trains \
both models. EXPERIMENTS.md has their scores and their history.

## What it is not for

It knows nothing but `shapes`: up to four coloured objects on a plain ground, and five kinds of questions in English.

## License

MIT, as vgs-mlx: see LICENSE. The same holds for the pictures, questions and answers of `shapes`.
"""


def write(folder: Path, role: str) -> None:
    """Write both files into the folder of the `teacher` or the `student`."""
    what, made = ROLES[role]
    (folder / "README.md").write_text(CARD.format(role=role, what=what, made=made), encoding="utf-8")
    shutil.copyfile(LICENSE, folder / "LICENSE")
