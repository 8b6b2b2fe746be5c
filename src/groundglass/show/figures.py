"""Sheets of cases: images, label maps, predictions and how they differ. The pictures of systems 000, 002, and ours.

Every function writes one PNG or PDF, whole or not at all, and returns its path. All raise `DataError` without cases
or where arrays do not fit each other, `RecipeError` for an unknown palette, `WriteError` when the disk refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from groundglass.errors import DataError
from groundglass.labels import BY_NAME
from groundglass.show.colours import ERROR_COLOURS, LESIONS, PARTLY, display_name, palette_named
from groundglass.show.overlay import (
    LUNG_WINDOW,
    Masks,
    Picture,
    Window,
    area_colours,
    class_colours,
    error_map,
    error_overlay,
    grey,
    masks_of,
    may_be,
    one_hot_colours,
    overlap_colours,
    overlay,
)
from groundglass.show.sheet import Cell, Entry, Strip, draw_sheet

_TWO = ("ground-glass", "consolidation")


@dataclass(frozen=True)
class Panel:
    """One case to be drawn.

    image: [H, W] float32; labels: the expert's canonical label map [H, W] uint8; prediction: the same of a network;
    title: shown with the case, such as its name and Dice; spacing_mm: (row, column), for the scale bar;
    expert_masks, predicted_masks: boolean masks [H, W] by class, where classes may overlap (one-hot files,
    thresholded probabilities); without them the label maps are used, which have no overlap; classes: what the network
    tells apart, where known, of which nothing is drawn as known in part.
    """

    image: NDArray[np.float32]
    labels: NDArray[np.uint8] | None = None
    prediction: NDArray[np.uint8] | None = None
    title: str = ""
    spacing_mm: tuple[float, float] | None = None
    expert_masks: Masks | None = None
    predicted_masks: Masks | None = None
    classes: tuple[str, ...] = ()

    def expert(self) -> NDArray[np.uint8]:
        """The expert's label map. Raises `DataError` without one."""
        return self._fitting(self.labels, "expert labels")

    def predicted(self) -> NDArray[np.uint8]:
        """The predicted label map. Raises `DataError` without one."""
        return self._fitting(self.prediction, "prediction")

    def _fitting(self, labels: NDArray[np.uint8] | None, what: str) -> NDArray[np.uint8]:
        name = self.title or "case"
        if labels is None:
            raise DataError(f"{name}: has no {what} to draw")
        if labels.shape != self.image.shape:
            raise DataError(f"{name}: {what} of shape {labels.shape} does not fit the image's {self.image.shape}")
        return labels


def image_grid(
    panels: Sequence[Panel],
    path: str | Path,
    window: Window = LUNG_WINDOW,
    palette: str = "safe",
    title: str = "Images and expert labels",
    unit: str = "HU",
    columns: int = 5,
    names: Sequence[str] = _TWO,
) -> Path:
    """The first look at data, as in system 000: each image, its ground-glass and consolidation masks (or those of other
    `names`), and the whole label map in colour below it; `columns` cases side by side, further cases in further
    blocks."""

    partly = _partly(panels)

    def single(name: str) -> Callable[[Panel], Picture]:
        return lambda panel: one_hot_colours(_expert_masks(panel), palette, [name])

    rows = [
        ("Image", lambda panel: grey(panel.image, window)),
        *((display_name(name), single(name)) for name in names),
        ("All labels", lambda panel: class_colours(panel.expert(), palette, hatched=partly)),
    ]
    drawn = _present([panel.expert() for panel in panels])
    strips = _blocks(panels, rows, columns)
    return draw_sheet(path, strips, _counted(title, panels), [_legend(drawn, palette, partly)], _note(window, unit))


def per_category(
    panels: Sequence[Panel],
    path: str | Path,
    window: Window = LUNG_WINDOW,
    palette: str = "000",
    title: str = "Prediction per category",
    unit: str = "HU",
    columns: int = 5,
) -> Path:
    """Picture (a) of system 000: under each image the predicted area of every category, one row a category."""
    categories = {"ground-glass": "Ground-glass", "consolidation": "Consolidation", "lung": "Healthy lung"} | {
        "background": "Background"
    }

    def single(name: str) -> Callable[[Panel], Picture]:
        return lambda panel: area_colours(_predicted_masks(panel)[name], palette)

    rows = [
        ("Image", lambda panel: grey(panel.image, window)),
        *((shown, single(name)) for name, shown in categories.items()),
    ]
    legend = [("Predicted area of the row's category", palette_named(palette)["area"])]
    strips = _blocks(panels, rows, columns)
    return draw_sheet(path, strips, _counted(title, panels), [legend], _note(window, unit))


def source_agreement(
    panels: Sequence[Panel],
    path: str | Path,
    palette: str = "000",
    title: str = "Prediction and expert labels",
    columns: int = 5,
) -> Path:
    """Picture (b) of system 000, rows: prediction; expert labels; overlap (correct in its class colour, missed in
    yellow); predicted background in yellow, everything inside the lungs black.

    A prediction without the class `lung` has no lungs to leave black: its lower row shows the lesions alone.
    """
    rows = [
        ("Prediction", lambda panel: one_hot_colours(_predicted_masks(panel), palette, _TWO)),
        ("Expert", lambda panel: one_hot_colours(_expert_masks(panel), palette, _TWO)),
        ("Overlap", lambda panel: overlap_colours(_predicted_masks(panel), _expert_masks(panel), palette, _TWO)),
        ("Background", lambda panel: area_colours(_predicted_masks(panel)["background"], palette)),
    ]
    colours = palette_named(palette)
    overlapping = any(panel.predicted_masks or panel.expert_masks for panel in panels)
    roles = [("both classes", colours["mixed"])] if overlapping else []
    roles += [("missed", colours["missed"]), ("background", colours["area"])]
    partly = [name for name in may_be(_TWO) if any(_expert_masks(panel)[name].any() for panel in panels)]
    legend = [*_legend((*_TWO, *partly), palette, partly), *_merged(roles)]
    note = "Overlap: correct pixels in their class colour, expert pixels not predicted as missed."
    return draw_sheet(path, _blocks(panels, rows, columns), _counted(title, panels), [legend], note)


def class_map(
    panels: Sequence[Panel],
    path: str | Path,
    window: Window = LUNG_WINDOW,
    background: Literal["black", "transparent"] = "black",
    title: str = "Predicted classes",
    unit: str = "HU",
    columns: int = 5,
) -> Path:
    """The picture of system 002: image, and the predicted classes in 002's colours and in colour-blind-safe ones.

    Draws `prediction`, else `labels`; `background` is black or left transparent.
    """

    partly = _partly(panels)

    def shown(panel: Panel) -> NDArray[np.uint8]:
        return panel.expert() if panel.prediction is None else panel.predicted()

    rows = [
        ("Image", lambda panel: grey(panel.image, window)),
        ("Colours of 002", lambda panel: class_colours(shown(panel), "002", background, partly)),
        ("Safe colours", lambda panel: class_colours(shown(panel), "safe", background, partly)),
    ]
    drawn = _present([shown(panel) for panel in panels])
    backdrop = [(display_name("background"), "#000000")] if background == "black" else []
    legend = [
        [("Colours of 002:", ""), *_legend(drawn, "002", partly), *backdrop],
        [("Safe colours:", ""), *_legend(drawn, "safe", partly), *backdrop],
    ]
    return draw_sheet(path, _blocks(panels, rows, columns), _counted(title, panels), legend, _note(window, unit))


def truth_prediction(
    panels: Sequence[Panel],
    path: str | Path,
    window: Window = LUNG_WINDOW,
    palette: str = "safe",
    alpha: float = 0.55,
    names: Sequence[str] = LESIONS,
    title: str = "Expert labels and prediction",
    unit: str = "HU",
    columns: Sequence[str] = ("Image", "Expert", "Prediction", "Difference"),
    note: str = "",
) -> Path:
    """One row a case: image, expert labels, prediction, and where they differ (agree, missed, spurious, wrong class).

    names: the classes that are compared; the panel's title is written above its row. columns: which pictures; note: a
    sentence below, before the display window.
    """
    partly = _partly(panels)
    solid = [name for name in names if name not in partly]
    strips = []
    for number, panel in enumerate(panels):
        truth, prediction = panel.expert(), panel.predicted()
        pictures = {
            "Image": grey(panel.image, window),
            "Expert": overlay(panel.image, truth, window, palette, alpha, names=solid),
            "Prediction": overlay(panel.image, prediction, window, palette, alpha, names=solid),
            "Difference": error_overlay(panel.image, error_map(truth, prediction, names), window),
        }
        cells = [Cell(pictures[name], panel.spacing_mm, scale=place == 0) for place, name in enumerate(columns)]
        titles = tuple(columns) if number == 0 else ()
        strips.append(Strip(cells, titles=titles, heading=panel.title))
    maps = [labels for panel in panels for labels in (panel.expert(), panel.predicted())]
    drawn = [name for name in _present(maps) if name in (*solid, *may_be(solid))]
    kinds = [kind for kind in ERROR_COLOURS if kind != "wrong-class" or len(drawn) > 1]
    legend: list[list[Entry]] = [[("Classes:", ""), *_legend(drawn, palette, partly)]]
    if "Difference" in columns:
        legend.append([("Difference:", ""), *((display_name(kind), ERROR_COLOURS[kind]) for kind in kinds)])
    return draw_sheet(path, strips, _counted(title, panels), legend, f"{note} {_note(window, unit)}".strip())


Row = tuple[str, Callable[[Panel], Picture]]


def _blocks(panels: Sequence[Panel], rows: Sequence[Row], columns: int) -> list[Strip]:
    """Cases from left to right, `columns` at a time; below each case one picture per row."""
    strips = []
    for start in range(0, len(panels), columns):
        block = panels[start : start + columns]
        for number, (side, draw) in enumerate(rows):
            cells = [Cell(draw(panel), panel.spacing_mm, scale=number == 0) for panel in block]
            titles = [panel.title for panel in block] if number == 0 else ()
            strips.append(Strip(cells, side, titles))
    return strips


def _expert_masks(panel: Panel) -> Masks:
    return masks_of(panel.expert()) if panel.expert_masks is None else _complete(panel.expert_masks, panel)


def _predicted_masks(panel: Panel) -> Masks:
    return masks_of(panel.predicted()) if panel.predicted_masks is None else _complete(panel.predicted_masks, panel)


def _complete(masks: Masks, panel: Panel) -> Masks:
    """Masks of all labels: a class without a mask is nowhere, background is what no other class claims."""
    for name, mask in masks.items():
        if mask.shape != panel.image.shape:
            raise DataError(f"{panel.title or 'case'}: mask '{name}' of shape {mask.shape} does not fit the image")
    nowhere = np.zeros(panel.image.shape, np.bool_)
    claimed = np.any([nowhere, *(mask for name, mask in masks.items() if name != "background")], axis=0)
    return dict.fromkeys(BY_NAME, nowhere) | {"background": ~claimed} | dict(masks)


def _present(maps: Sequence[NDArray[np.uint8]]) -> list[str]:
    """Names of the labels that occur in any map, without background, in the order of their values."""
    values = {int(value) for labels in maps for value in np.unique(labels)}
    return [name for name, label in BY_NAME.items() if label.value in values and name != "background"]


def _partly(panels: Sequence[Panel]) -> list[str]:
    """The partly known labels, to be hatched; not those that a network predicts, for which they are a class."""
    predicted = _present([panel.predicted() for panel in panels if panel.prediction is not None])
    told_apart = {*predicted, *(name for panel in panels for name in panel.classes)}
    return [name for name in PARTLY if name not in told_apart]


def _legend(names: Sequence[str], palette: str, partly: Collection[str] = ()) -> list[Entry]:
    """An entry per class; one drawn in the background's black, as 000 draws lung, cannot be told apart and has none."""
    colours = palette_named(palette)
    return [
        (display_name(name, name in partly), colours[name], name in partly)
        for name in names
        if colours[name] != colours["background"]
    ]


def _merged(entries: Sequence[tuple[str, str]]) -> list[Entry]:
    """One legend entry per colour: in 000 one yellow means three things, each in its own row."""
    texts: dict[str, list[str]] = {}
    for text, colour in entries:
        texts.setdefault(colour, []).append(text)
    return [(", ".join(group).capitalize(), colour) for colour, group in texts.items()]


def _counted(title: str, panels: Sequence[Panel]) -> str:
    return f"{title} (n = {len(panels)} case{'' if len(panels) == 1 else 's'})"


def _note(window: Window, unit: str) -> str:
    low, high = (f"{end:g}".replace("-", "\u2212") for end in window)
    return f"Display window {low} to {high}{f' {unit}' if unit else ''}."
