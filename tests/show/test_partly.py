"""Pixels of which the expert says only in part what they are: seen as such, and never counted as an error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from groundglass.labels import BY_NAME, LABELS
from groundglass.show import figures
from groundglass.show.colours import ERROR_KINDS, PALETTES, PARTLY, display_name, rgb
from groundglass.show.overlay import (
    class_colours,
    error_map,
    grey,
    masks_of,
    may_be,
    one_hot_colours,
    overlap_colours,
    overlay,
)
from groundglass.show.sheet import Strip

WINDOW = (-1350.0, 150.0)
TWO = ("ground-glass", "consolidation")
VALUE = {label.name: label.value for label in LABELS}
IMAGE = np.full((64, 64), -600, np.float32)


def square(name: str, side: int = 32) -> NDArray[np.uint8]:
    """A square of one label in the middle of background."""
    labels = np.zeros((64, 64), np.uint8)
    first = 32 - side // 2
    labels[first : first + side, first : first + side] = VALUE[name]
    return labels


def painted(picture: NDArray[np.uint8], colour: str) -> NDArray[np.bool_]:
    return np.asarray((picture[..., :3] == rgb(colour)).all(axis=-1))


def test_what_may_be_a_lesion() -> None:
    assert may_be(TWO) == ("lesion", "unmarked-lung", "unknown")
    assert may_be(("lung",)) == ("unmarked-lung", "no-lesion", "unknown")
    assert may_be((*TWO, "lesion")) == ("unmarked-lung", "unknown")


@pytest.mark.parametrize("palette", sorted(PALETTES))
@pytest.mark.parametrize("name", PARTLY)
def test_a_class_map_shows_them_hatched_in_a_colour_of_their_own(palette: str, name: str) -> None:
    labels = square(name)
    picture = class_colours(labels, palette)
    here = labels == VALUE[name]
    own = painted(picture, PALETTES[palette][name])
    assert not own[~here].any()
    assert 0.4 < own[here].mean() < 0.8, "stripes"
    colours = {tuple(pixel) for pixel in picture[here][:, :3]}
    assert len(colours) == 2
    others = {tuple(rgb(PALETTES[palette][label.name])) for label in LABELS if label.name != name}
    assert not colours & others, "never the background's colour, nor another label's"
    assert (picture[here, 3] == 255).all()


@pytest.mark.parametrize("name", may_be(TWO))
def test_overlays_hatch_what_may_be_of_the_drawn_classes(name: str) -> None:
    labels = square(name)
    plain = grey(IMAGE, WINDOW)
    changed = (overlay(IMAGE, labels, WINDOW, names=TWO) != plain).any(axis=-1)
    here = labels == VALUE[name]
    assert not changed[~here].any()
    assert 0.4 < changed[here].mean() < 0.8
    one_hot = one_hot_colours(masks_of(labels), "safe", ["consolidation"])
    assert painted(one_hot, PALETTES["safe"][name])[here].mean() > 0.4
    assert not painted(one_hot, PALETTES["safe"]["consolidation"]).any()


def test_what_is_certainly_no_lesion_stays_grey_in_a_picture_of_lesions() -> None:
    assert np.array_equal(overlay(IMAGE, square("no-lesion"), WINDOW, names=TWO), grey(IMAGE, WINDOW))


@pytest.mark.parametrize("name", may_be(TWO))
@pytest.mark.parametrize("side", [1, 2, 3])
def test_not_even_a_pixel_is_lost_between_the_stripes(name: str, side: int) -> None:
    labels = square(name, side)
    for shift in range(6):
        moved = np.roll(labels, shift, 0)
        assert (overlay(IMAGE, moved, WINDOW, names=TWO) != grey(IMAGE, WINDOW)).any()


KIND = {
    # What the expert says, what the network says: what can be said of it.
    ("lesion", "ground-glass"): "neither",
    ("lesion", "consolidation"): "neither",
    ("lesion", "lesion"): "agree",
    ("lesion", "lung"): "missed",
    ("lesion", "background"): "missed",
    ("unmarked-lung", "ground-glass"): "neither",
    ("unmarked-lung", "lesion"): "neither",
    ("unmarked-lung", "lung"): "neither",
    ("unmarked-lung", "background"): "neither",
    ("no-lesion", "lung"): "neither",
    ("no-lesion", "background"): "neither",
    ("no-lesion", "consolidation"): "spurious",
    ("no-lesion", "lesion"): "spurious",
    ("unknown", "consolidation"): "neither",
    ("unknown", "background"): "neither",
    ("background", "ground-glass"): "spurious",
    ("ground-glass", "consolidation"): "wrong-class",
}


@pytest.mark.parametrize(("truth", "prediction"), KIND)
@pytest.mark.parametrize("names", [None, TWO])
def test_a_difference_is_only_what_must_be_one(truth: str, prediction: str, names: tuple[str, ...] | None) -> None:
    said = np.full((4, 4), VALUE[prediction], np.uint8)
    known = np.full((4, 4), VALUE[truth], np.uint8)
    kinds = error_map(known, said) if names is None else error_map(known, said, names)
    assert (kinds == ERROR_KINDS.index(KIND[truth, prediction])).all()


def test_the_overlap_of_000_leaves_them_out_unless_all_they_may_be_is_missed() -> None:
    expert = square("lesion")
    half = square("ground-glass")
    half[32:] = 0
    picture = overlap_colours(masks_of(half), masks_of(expert), "safe", TWO)
    lesion = expert > 0
    assert np.array_equal(painted(picture, PALETTES["safe"]["missed"]), lesion & (half == 0))
    assert painted(picture, PALETTES["safe"]["lesion"])[half > 0].mean() > 0.4
    assert not painted(picture, PALETTES["safe"]["ground-glass"]).any()
    unmarked = overlap_colours(masks_of(half), masks_of(square("unmarked-lung")), "safe", TWO)
    assert not painted(unmarked, PALETTES["safe"]["missed"]).any()


Sheets = list[tuple[list[Strip], list[list[tuple[object, ...]]]]]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Sheets:
    """Strips and legend of each sheet, which is not written."""
    sheets: Sheets = []
    monkeypatch.setattr(
        figures, "draw_sheet", lambda path, strips, title, legend, note: sheets.append((strips, legend))
    )
    return sheets


@pytest.mark.parametrize("predicted", ["ground-glass", "lesion"])
def test_a_lesion_is_of_unknown_type_unless_the_network_knows_no_types(predicted: str, drawn: Sheets) -> None:
    panel = figures.Panel(IMAGE, square("lesion"), square(predicted))
    for draw in (figures.truth_prediction, figures.class_map, figures.image_grid, figures.source_agreement):
        draw([panel], "x.png")
    partly = predicted != "lesion"
    entries = {entry for _, legend in (drawn[0], drawn[2]) for group in legend for entry in group}
    assert (display_name("lesion", partly), PALETTES["safe"]["lesion"], partly) in entries
    assert (display_name("lesion", not partly), PALETTES["safe"]["lesion"], not partly) not in entries
    expert = drawn[0][0][0].cells[1].pixels
    tinted = (expert != grey(IMAGE, WINDOW)).any(axis=-1)[square("lesion") > 0].mean()
    assert tinted == 1 if not partly else 0.4 < tinted < 0.8


def test_legends_name_what_is_known_in_part(tmp_path: Path, drawn: Sheets) -> None:
    panels = [figures.Panel(IMAGE, square(name), square("ground-glass")) for name in PARTLY]
    figures.image_grid(panels, tmp_path / "grid.png")
    names = {entry[0] for group in drawn[0][1] for entry in group}
    assert names == {"Lesion, type unknown", "Lung, lesions not marked", "No lesion, lung not marked", "Not marked"}
    figures.source_agreement(panels, tmp_path / "agreement.png")
    assert ("Lung, lesions not marked", PALETTES["000"]["unmarked-lung"], True) in drawn[1][1][0]


def test_a_hatched_legend_is_written(tmp_path: Path) -> None:
    panel = figures.Panel(IMAGE, square("unmarked-lung"), square("ground-glass"))
    assert figures.truth_prediction([panel], tmp_path / "sheet.png").stat().st_size > 0


def test_labels_that_are_known_in_part_are_told_apart() -> None:
    for colours in PALETTES.values():
        known = {colours[label.name] for label in LABELS if not label.possible}
        partly = [colours[name] for name in PARTLY]
        assert len(set(partly)) == len(partly)
        assert not known & set(partly)
    assert all(BY_NAME[name].possible for name in PARTLY)
