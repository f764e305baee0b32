"""Small runs to torture: their settings as options of `vgs-mlx distill`, and rows of their own with pictures."""

import json
import random
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

MODELS = ("--student", "embedded:student", "--teacher", "embedded:teacher")
SMALL = (
    "data.source=shapes:24", "data.held_out=8", "data.system_prompt=''", "rollout.prompts_per_step=1",
    "rollout.completions_per_prompt=2", "rollout.max_completion_length=6", "train.microbatch_size=1",
    "train.evaluate_rows=1",
)  # fmt: skip
LORA = ("student.rank=2", "student.targets=[q_proj]")


def options(*sets: str) -> list[str]:
    """A recipe as options: the embedded models, `SMALL`, and what differs from it."""
    return [*MODELS, *(part for each in (*SMALL, *sets) for part in ("--set", each))]


def write_rows(
    folder: Path, count: int, rng: random.Random, sides: tuple[int, int] = (32, 32), words: int = 0
) -> Path:
    """A .jsonl file of `count` questions, each with up to `words` more words and a picture of noise.

    A picture's width and height are drawn from `sides`, both included.
    """
    folder.mkdir(parents=True)
    noise = np.random.default_rng(rng.randrange(2**32))
    lines = []
    for row in range(count):
        shape = (rng.randint(*sides), rng.randint(*sides), 3)
        Image.fromarray(noise.integers(0, 256, shape, dtype=np.uint8)).save(folder / f"{row}.png")
        more = rng.choices(("red", "square", "left", "of", "the", "circle"), k=rng.randint(0, words))
        question = " ".join(["What colour is the square?", *more])
        lines.append({"image": f"{row}.png", "question": question, "answer": "red"})
    return _written(folder / "rows.jsonl", lines)


def with_bad_rows(file: Path) -> Path:
    """The same rows and two whose picture is missing, for `data.on_bad_row=skip`."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    bad = [{**rows[0], "image": f"missing-{number}.png"} for number in range(2)]
    return _written(file.with_name("with-bad-rows.jsonl"), [rows[0], bad[0], *rows[1:], bad[1]])


def _written(file: Path, rows: Iterable[dict]) -> Path:
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return file
