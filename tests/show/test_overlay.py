"""Colour pictures of images and label maps."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from groundglass.errors import DataError, RecipeError
from groundglass.labels import BY_NAME, LABELS
from groundglass.show.colours import ERROR_COLOURS, ERROR_KINDS, PALETTES, rgb
from groundglass.show.overlay import (
    class_colours,
    error_map,
    error_overlay,
    grey,
    masks_of,
    one_hot_colours,
    overlap_colours,
    overlay,
)
from tests.show.chest import chest, moved

WINDOW = (-1350.0, 150.0)
GROUND, DENSE = BY_NAME["ground-glass"].value, BY_NAME["consolidation"].value


def painted(picture: NDArray[np.uint8], colour: str) -> NDArray[np.bool_]:
    return np.asarray((picture[..., :3] == rgb(colour)).all(axis=-1))


def test_grey_runs_from_black_to_white_over_the_window() -> None:
    image = np.array([[-2000, -1350, -600, 150, 3000, np.nan]], np.float32)
    assert grey(image, WINDOW)[0, :, 0].tolist() == [0, 0, 128, 255, 255, 0]


def test_a_window_without_width_is_refused() -> None:
    with pytest.raises(RecipeError, match="no width"):
        grey(np.zeros((2, 2), np.float32), (150.0, 150.0))


@pytest.mark.parametrize("outline", [False, True])
def test_overlay_leaves_unlabelled_pixels_grey(outline: bool) -> None:
    image, labels = chest()
    picture = overlay(image, labels, WINDOW, outline=outline)
    plain = grey(image, WINDOW)
    unlabelled = ~np.isin(labels, (GROUND, DENSE))
    assert np.array_equal(picture[unlabelled], plain[unlabelled])
    assert not np.array_equal(picture[~unlabelled], plain[~unlabelled])


@pytest.mark.parametrize("palette", sorted(PALETTES))
def test_overlay_at_full_alpha_shows_the_palette(palette: str) -> None:
    image, labels = chest()
    picture = overlay(image, labels, WINDOW, palette, alpha=1.0)
    for name in ("ground-glass", "consolidation"):
        mask = labels == BY_NAME[name].value
        assert painted(picture, PALETTES[palette][name])[mask].all()


def test_overlay_without_alpha_is_the_image() -> None:
    image, labels = chest()
    assert np.array_equal(overlay(image, labels, WINDOW, alpha=0.0), grey(image, WINDOW))


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("outline", [False, True])
def test_flipping_the_inputs_flips_the_overlay(axis: int, outline: bool) -> None:
    image, labels = chest()
    flipped = overlay(np.flip(image, axis), np.flip(labels, axis), WINDOW, outline=outline)
    assert np.array_equal(flipped, np.flip(overlay(image, labels, WINDOW, outline=outline), axis))


def test_an_outline_lies_inside_its_class_and_leaves_the_middle_free() -> None:
    labels = np.zeros((64, 64), np.uint8)
    labels[16:48, 16:48] = GROUND
    edge = painted(
        overlay(np.zeros((64, 64), np.float32), labels, WINDOW, outline=True), PALETTES["safe"]["ground-glass"]
    )
    assert edge.any()
    assert not edge[labels == 0].any()
    assert not edge[28:36, 28:36].any()


def test_arrays_of_different_shapes_are_refused() -> None:
    with pytest.raises(DataError, match="shapes"):
        overlay(np.zeros((4, 4), np.float32), np.zeros((4, 5), np.uint8), WINDOW)


def test_an_unknown_palette_is_answered_with_the_nearest() -> None:
    image, labels = chest()
    with pytest.raises(RecipeError, match="did you mean 'safe'"):
        overlay(image, labels, WINDOW, palette="saef")


def test_every_palette_names_every_label_and_tells_the_lesions_apart() -> None:
    for colours in PALETTES.values():
        assert {label.name for label in LABELS} <= set(colours)
        assert len({colours[name] for name in ("ground-glass", "consolidation", "background", "missed")}) == 4
    assert PALETTES["000"]["ground-glass"] == PALETTES["002"]["consolidation"] == "#00FF00"
    assert PALETTES["000"]["consolidation"] == PALETTES["002"]["ground-glass"] == "#FF0000"
    assert PALETTES["002"]["lung"] == "#0000FF"


def test_a_class_map_has_one_colour_per_class_and_the_chosen_background() -> None:
    _, labels = chest()
    black, clear = class_colours(labels, "002"), class_colours(labels, "002", "transparent")
    for label in LABELS[1:]:
        assert painted(black, PALETTES["002"][label.name])[labels == label.value].all()
    assert (black[labels == 0] == (0, 0, 0, 255)).all()
    assert (clear[labels == 0, 3] == 0).all()
    assert (clear[labels > 0, 3] == 255).all()


def test_pixels_claimed_by_two_classes_are_mixed() -> None:
    masks = {"ground-glass": np.array([[True, True, False]]), "consolidation": np.array([[False, True, True]])}
    for palette in PALETTES.values():
        assert palette["mixed"] not in (palette["ground-glass"], palette["consolidation"])
    picture = one_hot_colours(masks, "000")
    assert picture[0].tolist() == [[0, 255, 0], [255, 255, 0], [255, 0, 0]]


def test_overlap_shows_missed_yellow_correct_in_class_colour_and_spurious_black() -> None:
    _, truth = chest()
    prediction = moved(truth)
    picture = overlap_colours(masks_of(prediction), masks_of(truth), "000")
    lesion = np.isin(truth, (GROUND, DENSE))
    right = lesion & (truth == prediction)
    assert right.any()
    assert np.array_equal(painted(picture, "#FFFF00"), lesion & ~right)
    assert np.array_equal(painted(picture, "#00FF00"), right & (truth == GROUND))
    assert np.array_equal(painted(picture, "#FF0000"), right & (truth == DENSE))
    assert (picture[~lesion] == 0).all()


def test_error_kinds_partition_the_picture() -> None:
    _, truth = chest()
    prediction = moved(truth)
    kinds = error_map(truth, prediction)
    true, said = np.isin(truth, (GROUND, DENSE)), np.isin(prediction, (GROUND, DENSE))
    of = {kind: kinds == number for number, kind in enumerate(ERROR_KINDS)}
    assert sum(mask.sum() for mask in of.values()) == truth.size
    assert all(mask.any() for mask in of.values())
    assert np.array_equal(of["agree"] | of["missed"] | of["wrong-class"], true)
    assert np.array_equal(of["agree"] | of["spurious"] | of["wrong-class"], said)
    assert np.array_equal(of["agree"], true & (truth == prediction))


def test_exchanging_truth_and_prediction_exchanges_missed_and_spurious() -> None:
    _, truth = chest()
    prediction = moved(truth)
    there, back = error_map(truth, prediction), error_map(prediction, truth)
    missed, spurious = ERROR_KINDS.index("missed"), ERROR_KINDS.index("spurious")
    assert np.array_equal(there == missed, back == spurious)
    assert np.array_equal(there == ERROR_KINDS.index("wrong-class"), back == ERROR_KINDS.index("wrong-class"))


def test_an_error_overlay_colours_errors_and_nothing_else() -> None:
    image, truth = chest()
    kinds = error_map(truth, moved(truth))
    picture = error_overlay(image, kinds, WINDOW, alpha=1.0)
    for name, colour in ERROR_COLOURS.items():
        assert painted(picture, colour)[kinds == ERROR_KINDS.index(name)].all()
    neither = kinds == ERROR_KINDS.index("neither")
    assert np.array_equal(picture[neither], grey(image, WINDOW)[neither])
