"""A training in a process of its own, for a test that ends it. `python -m tests.learning.killed FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from tests.learning import tiny

RECIPE = tiny.recipe(epochs=6, augmentation=tiny.MOVES, architecture=tiny.OWN, schedule={"name": "onecycle"})


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    tiny.fitted(folder, RECIPE, train=40, report=lambda row: print(int(row["epoch"]), flush=True))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
