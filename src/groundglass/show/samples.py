"""A few images of each source with their labels, and thumbnails: which are shown, and how."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from groundglass.case import Case, Unit
from groundglass.data.survey import UNMARKED_VALUES
from groundglass.files import atomic
from groundglass.labels import BY_NAME, LABELS
from groundglass.show.colours import PALETTES, PARTLY, display_name, rgb
from groundglass.show.naming import Names
from groundglass.show.overlay import LUNG_WINDOW, Window, grey, may_be, overlay
from groundglass.show.sheet import Cell, Strip, draw_sheet

SAMPLES = 5
_ALPHA, _TINTS = 0.55, 20
_SIDE = 176  # pixels of a thumbnail's longer side


def spread_over_sizes(cases: Sequence[Case], lesion: Mapping[str, float]) -> list[Case]:
    """Up to `SAMPLES` cases at even ranks of lesion size; the first without a lesion leads, if there is one."""
    sick = sorted((case for case in cases if lesion.get(case.id)), key=lambda case: (lesion[case.id], case.id))
    well = [case for case in cases if not lesion.get(case.id)]
    if not sick:
        return _even_ranks(well, SAMPLES)
    return [*well[:1], *_even_ranks(sick, SAMPLES - len(well[:1]))]


def _even_ranks(cases: Sequence[Case], n: int) -> list[Case]:
    places = np.unique(np.linspace(0, len(cases) - 1, min(n, len(cases))).round().astype(int))
    return [cases[place] for place in places]


def draw_samples(
    path: Path, source: str, n: int, cases: Sequence[Case], names: Names, lesion: Mapping[str, float]
) -> None:
    above, below, titles, present = [], [], [], set()
    marks = [label.name for label in LABELS if label.lesion and not label.possible]
    common, titles_of = _shortened(cases, names)
    for case, title in zip(cases, titles_of, strict=True):
        image = case.image()
        spacing = case.geometry.spacing_mm
        place = (spacing[-2], spacing[-1]) if spacing else None
        window = window_of(case, image)
        above.append(Cell(grey(image, window), place, scale=True))
        if case.load_labels is not None:
            labels = case.labels()
            present |= set(np.unique(labels))
            below.append(Cell(overlay(image, labels, window, alpha=_ALPHA, names=marks), place))
            share = lesion.get(case.id, 0.0)
            unmarked = np.isin(labels, UNMARKED_VALUES).any()
            title += f" ({100 * share:.2g} % lesion)" if share else f" ({'not marked' if unmarked else 'no lesion'})"
        titles.append(title)
    strips = [Strip(above, "Image", titles)]
    if len(below) == len(above):
        strips.append(Strip(below, "Labels"))
    partly = may_be(marks)
    drawn = [name for name in (*marks, *partly) if BY_NAME[name].value in present]
    legend = [(display_name(name, name in partly), PALETTES["safe"][name], name in partly) for name in drawn]
    heading = f"{source}: {common}" if common else source
    heading += f" ({len(cases)} of n = {n:,} images)"
    draw_sheet(path, strips, heading, [legend] if legend else [], _shown_window(cases))
    _in_256_colours(path, drawn)


def _shortened(cases: Sequence[Case], names: Names) -> tuple[str, list[str]]:
    """What the places of the cases have in common, a stack or a folder, and what is left of each."""
    files = [names.file(case) for case in cases]
    if len(set(files)) == 1 and all(case.row is not None for case in cases):
        return files[0], [f"row {case.row}" for case in cases]
    folders = {file.rpartition("/")[0] for file in files}
    places = [names.place(case) for case in cases]
    if len(folders) == 1 and (folder := folders.pop()):
        return folder, [place.removeprefix(f"{folder}/") for place in places]
    return "", places


def window_of(case: Case, image: NDArray[np.float32]) -> Window:
    """The intensities between which an image [H, W] is shown: the lung window, 0..255, or its own 1st to 99th
    percentile, by its unit."""
    if case.unit is Unit.HU:
        return LUNG_WINDOW
    if case.unit is Unit.PICTURE:
        return (0.0, 255.0)
    low, high = np.nanpercentile(image, (1, 99))
    return (float(low), float(high)) if high > low else (float(low), float(low) + 1)


def _shown_window(cases: Sequence[Case]) -> str:
    units = {case.unit for case in cases}
    if units == {Unit.HU}:
        return f"Display window {LUNG_WINDOW[0]:g} to {LUNG_WINDOW[1]:g} HU.".replace("-", "\u2212")
    return (
        "Grey values as they are." if units == {Unit.PICTURE} else "Display window: 1st to 99th percentile of an image."
    )


def thumbnail(case: Case) -> bytes:
    """PNG, grey, at most `_SIDE` pixels wide and high."""
    image = case.image()
    picture = Image.fromarray(grey(image, window_of(case, image))[..., 0])
    picture.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    # Half the levels: an eye sees no difference at this size, and the page is a third lighter.
    levels = picture.point([(level + 1) // 4 * 4 for level in range(256)])
    out = io.BytesIO()
    levels.save(out, "PNG", optimize=True)
    return out.getvalue()


def _in_256_colours(path: Path, drawn: Sequence[str]) -> None:
    """A third of the size, and nothing to be seen of it: greys, and the colours of the labels over many greys."""
    greys = np.arange(0, 256, 3)
    colours = np.array([rgb(PALETTES["safe"][name]) for name in drawn], np.float64).reshape(-1, 3)
    tints = [
        greys[:: len(greys) // _TINTS, None] * (1 - alpha) + colour * alpha
        for name, colour in zip(drawn, colours, strict=True)
        for alpha in (min(1.0, 1.5 * _ALPHA) if name in PARTLY else _ALPHA,)
    ]
    palette = np.concatenate([np.repeat(greys[:, None], 3, axis=1), colours, *tints])[:256]
    holder = Image.new("P", (1, 1))
    holder.putpalette(palette.round().astype(np.uint8).tobytes())
    with Image.open(path) as opened:
        full = opened.convert("RGB")
    pixels = np.asarray(full)
    # Pillow's search rounds to four levels; a grey has its number in the palette, so that white stays white.
    places = np.array(full.quantize(palette=holder, dither=Image.Dither.NONE))
    grey_ones = (pixels == pixels[..., :1]).all(axis=-1)
    places[grey_ones] = (pixels[grey_ones, 0].astype(int) + 1) // 3
    reduced = Image.fromarray(places)
    reduced.putpalette(holder.getpalette() or [])
    with atomic(path) as temporary:
        reduced.save(temporary, "PNG", optimize=True)
