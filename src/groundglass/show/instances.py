"""Findings that a network tells apart, beside the expert's labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from groundglass.labels import BY_NAME
from groundglass.model.instances import Instance
from groundglass.show.colours import INSTANCES, LESIONS
from groundglass.show.figures import Panel
from groundglass.show.overlay import LUNG_WINDOW, Window, instance_overlay
from groundglass.show.sheet import Boxed, Cell, Strip, draw_sheet


@dataclass(frozen=True)
class Apart:
    """One case to be drawn, what was found in it by falling score, and the number of each pixel's instance, [H, W]
    uint8, 0 where there is none."""

    panel: Panel
    found: Sequence[Instance]
    numbers: NDArray[np.uint8]


def instances(
    cases: Sequence[Apart],
    path: str | Path,
    window: Window = LUNG_WINDOW,
    unit: str = "HU",
    names: Sequence[str] = LESIONS,
) -> Path:
    """One row a case: the image; the instances, each in its colour, under the outline of what the expert marked as
    `names`; and their boxes with number and score.

    Raises `DataError` without cases or where an expert's labels are missing or do not fit, `WriteError`.
    """
    strips = []
    for row, case in enumerate(cases):
        panel, expert = case.panel, np.isin(case.panel.expert(), [BY_NAME[name].value for name in names])
        nothing = np.zeros_like(case.numbers)
        boxes = [
            Boxed(each.box, f"{number}: {each.score:.2f}", INSTANCES[(number - 1) % len(INSTANCES)])
            for number, each in enumerate(case.found, start=1)
        ]
        cells = [
            Cell(instance_overlay(panel.image, nothing, expert & False, window), panel.spacing_mm, scale=True),
            Cell(instance_overlay(panel.image, case.numbers, expert, window), panel.spacing_mm),
            Cell(instance_overlay(panel.image, nothing, expert, window), panel.spacing_mm, boxes=boxes),
        ]
        titles = ("Image", "Instances", "Boxes and scores") if row == 0 else ()
        strips.append(Strip(cells, titles=titles, heading=panel.title))
    count = sum(len(case.found) for case in cases)
    title = f"Instances ({count} in n = {len(cases)} case{'' if len(cases) == 1 else 's'})"
    low, high = (f"{end:g}".replace("-", "\u2212") for end in window)
    note = "Numbered by falling score. A pixel belongs to the instance that claims it most."
    legend = [[("Expert's outline", "#FFFFFF")]]
    window_note = f"Display window {low} to {high}{f' {unit}' if unit else ''}."
    return draw_sheet(path, strips, title, legend, f"{note} {window_note}")
