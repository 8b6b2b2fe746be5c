"""What do reading, preparing, augmenting and checking slices cost, and does memory stay small?

    python -m benchmarks.loading [--slices N] [--rounds N] [--json FILE]

A folder like the Kaggle competition's is made in a temporary place: float32 images [N, 512, 512, 1] and int8 one-hot
masks [N, 512, 512, 4], drawn chests with noise. It has just been written, so the disk takes no part: what is measured
is the work on the processor, with one torch thread. Variants take turns, each in a fresh process.

1. Slices for training: `groundglass.learning.loading.Slices`, what an epoch asks for. `first epoch` reads from the
   memory-mapped file, prepares and augments; `later epochs` find the prepared slice in memory and only augment.
2. Memory: peak above what the process held before. `one at a time` is how groundglass reads; `whole file` is
   `np.load`, the usual way, for comparison. `of the files` is the share of the images' and masks' size.
3. Checking: opening the folder (headers only), and the pass over every pixel that stands before each training.
4. Each augmentation step of the recipe alone, always applied. `share` weighs it by the recipe's probability and
   compares it with the recipe's sum. Steps that move pixels are joined into one interpolation in a training, so their
   sum is more than what a training pays.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.timing import Answer, Child, Report, interleave, parser, peak_mb, resident_mb, seconds
from groundglass import recipes
from groundglass.data.defects import scan
from groundglass.data.kaggle import CHANNELS
from groundglass.data.opening import open_dataset
from groundglass.labels import BY_NAME
from groundglass.learning.augmentation import augment
from groundglass.learning.loading import Slices
from groundglass.model.prepare import Preparation
from groundglass.recipes import Recipe

RECIPES = ("effnet-lite", "effnet-b0")


def measure(what: str, folder: str, recipe: str = "effnet-lite") -> Answer:
    """Seconds and memory in MB of one pass over all slices of the folder."""
    torch.set_num_threads(1)
    open_dataset(folder)  # imports the formats, which is no part of any answer
    before = resident_mb()
    match what:
        case "whole file":
            taken = seconds(lambda: [np.load(path) for path in sorted(Path(folder).glob("*.npy"))])
            return {"s": taken, "memory_mb": peak_mb() - before}
        case "open":
            return {"s": seconds(lambda: open_dataset(folder)), "memory_mb": peak_mb() - before}
        case "check":
            dataset = open_dataset(folder)
            return {"s": seconds(lambda: scan(dataset)), "memory_mb": peak_mb() - before}
        case "first epoch":
            slices = open_slices(folder, recipe, training=True)
        case "later epochs":
            slices = open_slices(folder, recipe, training=True)
            for position in range(len(slices)):
                slices.prepared(position)
        case "no augmentation":
            slices = open_slices(folder, recipe, training=False)
        case "one at a time":
            cases = open_dataset(folder).cases
            taken = seconds(lambda: [(case.image().sum(), case.labels().sum()) for case in cases])
            return {"s": taken, "memory_mb": peak_mb() - before}
        case _:
            raise ValueError(what)
    return {
        "s": seconds(lambda: [slices[1, position] for position in range(len(slices))]),
        "memory_mb": peak_mb() - before,
    }


def open_slices(folder: str, recipe: str, training: bool) -> Slices:
    """The labelled slices as a training by `recipe` loads them."""
    chosen = recipes.load(recipe)
    return Slices(open_dataset(folder).cases, chosen, preparation(chosen), training)


def preparation(recipe: Recipe) -> Preparation:
    """With made-up statistics where a recipe standardises."""
    return Preparation(recipe.intensity, recipe.image_size, mean=-500.0, std=400.0)


def make_folder(folder: Path, slices: int) -> int:
    """Draw the competition's two MedSeg files; returns their size in bytes."""
    drawn = open_dataset("phantom:1").cases[:4]
    random = np.random.default_rng(0)
    images = np.empty((slices, 512, 512, 1), np.float32)
    masks = np.zeros((slices, 512, 512, len(CHANNELS)), np.int8)
    for i in range(slices):
        case = drawn[i % len(drawn)]
        image = np.kron(case.image(), np.ones((2, 2), np.float32))
        images[i, ..., 0] = image + random.normal(0, 10, image.shape)
        labels = np.kron(case.labels(), np.ones((2, 2), np.uint8))
        for channel, name in enumerate(CHANNELS):
            masks[i, ..., channel] = labels == BY_NAME[name].value
    np.save(folder / "images_medseg.npy", images)
    np.save(folder / "masks_medseg.npy", masks)
    return images.nbytes + masks.nbytes


def augmentation_steps(recipe: str, folder: Path, rounds: int) -> list[tuple[str, float, float]]:
    """(step, its probability, ms a slice when applied) for each step of the recipe, in turns over four slices."""
    chosen = recipes.load(recipe)
    slices = Slices(open_dataset(folder).cases[:4], chosen, preparation(chosen), training=False)
    prepared = [slices.prepared(position) for position in range(len(slices))]

    def one(place: int) -> Answer:
        step = chosen.augmentation[place].model_copy(update={"p": 1.0})
        rng = np.random.default_rng(0)
        return {"ms": 1000 * seconds(lambda: [augment(x, y, [step], rng) for x, y in prepared]) / len(prepared)}

    names = [f"{place + 1} {step.name}" for place, step in enumerate(chosen.augmentation)]
    answers = interleave({name: partial(one, place) for place, name in enumerate(names)}, rounds)
    return [(name, s.p, answers[name]["ms"]) for name, s in zip(names, chosen.augmentation, strict=True)]


def main() -> None:
    made = parser(__doc__, rounds=3)
    made.add_argument("--slices", type=int, default=60, help="slices of the folder (default 60)")
    options = made.parse_args()
    n = options.slices
    report = Report("What do reading, preparing, augmenting and checking slices cost, and does memory stay small?")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, Child("benchmarks.loading") as child:
        megabytes = make_folder(Path(folder), n) / 1e6
        epochs = [("no augmentation", RECIPES[0])]
        epochs += [(what, recipe) for recipe in RECIPES for what in ("first epoch", "later epochs")]
        answers = interleave(
            {key: partial(child.ask, what=key[0], folder=folder, recipe=key[1]) for key in epochs}, options.rounds
        )
        base = answers[epochs[0]]["s"]
        report.table(
            f"1. Slices for training, {n} of 512 x 512 to 256 x 256, median of {options.rounds}",
            ["recipe", "pass", "slices/s", "ms a slice", "time, reading alone = 1"],
            [(r, w, round(n / a["s"]), 1000 * a["s"] / n, f"{a['s'] / base:.2f}") for (w, r), a in answers.items()],
        )
        whats = ("one at a time", "whole file", "open", "check")
        others = interleave({what: partial(child.ask, what=what, folder=folder) for what in whats}, options.rounds)
        report.table(
            f"2. Memory; images and masks are {megabytes:.0f} MB",
            ["way to read", "memory MB", "of the files"],
            [
                (what, round(others[what]["memory_mb"], 1), f"{others[what]['memory_mb'] / megabytes:.0%}")
                for what in ("one at a time", "whole file")
            ],
        )
        report.table(
            "3. Checking",
            ["what", "s", "slices/s", "memory MB"],
            [
                (what, others[what]["s"], round(n / others[what]["s"]), round(others[what]["memory_mb"], 1))
                for what in ("open", "check")
            ],
        )
        for recipe in RECIPES:
            steps = augmentation_steps(recipe, Path(folder), options.rounds)
            total = sum(p * ms for _, p, ms in steps)
            report.table(
                f"4. Augmentation of {recipe}, step by step",
                ["step", "p", "ms when applied", "share"],
                [(name, p, ms, f"{p * ms / total:.0%}") for name, p, ms in steps],
            )
    report.write(options.json)


if __name__ == "__main__":
    main()
