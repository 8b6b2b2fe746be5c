"""Draw the README's picture from a run on phantoms: slices, labels, the prediction and where they differ.

    groundglass demo -o demo
    python docs/images/make.py demo/run

Shown are three held-out slices that hold both findings, at the quartiles of their Dice: the picture neither flatters
nor shames. Takes a few seconds.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import spatial

from groundglass.case import Case
from groundglass.data.opening import open_dataset
from groundglass.files import atomic
from groundglass.learning.engine import model_of
from groundglass.model.predict import Model, segment
from groundglass.run import Run
from groundglass.show.colours import ERROR_COLOURS, display_name, palette_named, rgb
from groundglass.show.overlay import LUNG_WINDOW, error_map, error_overlay, grey, overlay
from groundglass.show.sheet import Cell, Strip, draw_sheet
from groundglass.workflows.demo import DATA

PICTURE = Path(__file__).parent / "phantoms.png"
CLASSES = ("ground-glass", "consolidation")
TITLES = ("Synthetic CT", "Labels", "Prediction", "Difference")
ALPHA, ERROR_ALPHA = 0.6, 0.75


@dataclass(frozen=True)
class Answer:
    """A case with its prediction [H, W] (canonical values) and the Dice of any lesion."""

    case: Case
    prediction: np.ndarray
    dice: float


def answer(model: Model, case: Case) -> Answer:
    prediction, _ = segment([model], case.image(), case.unit)
    truth, said = (np.isin(labels, (1, 2)) for labels in (case.labels(), prediction))
    return Answer(case, prediction, float(2 * (truth & said).sum() / (truth.sum() + said.sum())))


def strip(found: Answer, titles: tuple[str, ...]) -> Strip:
    image, truth, lung = found.case.image(), found.case.labels(), found.case.lung()
    if lung is None:
        raise SystemExit(f"{found.case.id} has no lungs")
    rows, columns = np.flatnonzero(lung.any(axis=1)), np.flatnonzero(lung.any(axis=0))
    # One width and height for all rows of the picture, around each chest's own middle.
    middle = (rows[0] + rows[-1]) // 2, (columns[0] + columns[-1]) // 2
    window = tuple(slice(max(0, m - half), m + half) for m, half in zip(middle, (72, 96), strict=True))
    pictures = (
        grey(image, LUNG_WINDOW),
        overlay(image, truth, LUNG_WINDOW, alpha=ALPHA, names=CLASSES),
        overlay(image, found.prediction, LUNG_WINDOW, alpha=ALPHA, names=CLASSES),
        error_overlay(image, error_map(truth, found.prediction, CLASSES), LUNG_WINDOW, ERROR_ALPHA),
    )
    spacing = found.case.geometry.spacing_mm
    size = (spacing[0], spacing[1]) if spacing else None
    cells = [Cell(picture[window], size, scale=place == 0) for place, picture in enumerate(pictures)]
    return Strip(cells, side=f"Lesion Dice {found.dice:.2f}", titles=titles)


def palette() -> np.ndarray:
    """Colours [240, 3] uint8 that are enough for this picture: greys, tinted greys, and those of the legend."""
    tints = [(rgb(palette_named("safe")[name]), ALPHA) for name in CLASSES]
    tints += [(rgb(colour), ERROR_ALPHA) for colour in ERROR_COLOURS.values()]
    tinted = [(1 - alpha) * level + alpha * colour for colour, alpha in tints for level in np.linspace(0, 255, 24)]
    greys = [np.full(3, level) for level in np.linspace(0, 255, 90)]
    return np.rint([*greys, *tinted, *(colour for colour, _ in tints)]).astype(np.uint8)


def shrink(path: Path) -> None:
    """Write the picture again with a palette: each pixel takes the nearest of its colours."""
    pixels = np.asarray(Image.open(path).convert("RGB"))
    colours = palette()
    nearest = spatial.KDTree(colours).query(pixels.reshape(-1, 3))[1].reshape(pixels.shape[:2])
    image = Image.fromarray(nearest.astype(np.uint8), "P")
    image.putpalette(colours.tobytes())
    with atomic(path) as smaller:
        image.save(smaller, optimize=True)


def main() -> None:
    run = Run.open(sys.argv[1] if len(sys.argv) > 1 else "demo/run")
    dataset, model = open_dataset(DATA), model_of(run, "cpu")
    held_out = [dataset.case(case_id) for case_id in run.split.validation]
    both = [case for case in held_out if np.isin((1, 2), case.labels()).all()]
    ranked = sorted((answer(model, case) for case in both), key=lambda found: found.dice)
    shown = [ranked[round(share * (len(ranked) - 1))] for share in (0.75, 0.5, 0.25)]
    strips = [strip(found, TITLES if number == 0 else ()) for number, found in enumerate(shown)]
    colours = palette_named("safe")
    legend = [
        [(display_name(name), colours[name]) for name in CLASSES]
        + [(display_name(kind), colour) for kind, colour in ERROR_COLOURS.items()]
    ]
    draw_sheet(PICTURE, strips, "Synthetic chests (phantoms), held out from training", legend)
    shrink(PICTURE)
    print(f"{PICTURE.name}: {PICTURE.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
