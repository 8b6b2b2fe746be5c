"""The patient's right lung is at the left edge of the picture, whatever the lungs look like."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from groundglass.errors import DataError
from groundglass.measure.lungs import involvement, left_right

Mask = NDArray[np.bool_]
SIZE = 100


def ellipse(row: float, column: float, height: float, width: float) -> Mask:
    rows, columns = np.mgrid[:SIZE, :SIZE]
    return np.asarray(((rows - row) / height) ** 2 + ((columns - column) / width) ** 2 < 1)


RIGHT, LEFT = ellipse(50, 28, 34, 14), ellipse(54, 70, 28, 12)
BRIDGE = np.zeros((SIZE, SIZE), np.bool_)
BRIDGE[48:54, 40:62] = True
CRUMB = ellipse(12, 38, 3, 3)
NOTHING = np.zeros((SIZE, SIZE), np.bool_)
# Each with the patient's right lung as a reader would cut it out.
CHESTS = {
    "apart": (RIGHT | LEFT, RIGHT),
    "with a crumb": (RIGHT | LEFT | CRUMB, RIGHT | CRUMB),
    "joined": (RIGHT | LEFT | BRIDGE, RIGHT),
    "joined, with a crumb": (RIGHT | LEFT | BRIDGE | CRUMB, RIGHT | CRUMB),
    "right alone": (RIGHT, RIGHT),
    "left alone": (LEFT, NOTHING),
    "right alone in two parts": (RIGHT & ~ellipse(50, 28, 2, 99), RIGHT & ~ellipse(50, 28, 2, 99)),
    "left collapsed": (RIGHT | ellipse(60, 75, 7, 3), RIGHT),
    "none": (NOTHING, NOTHING),
}


def overlap(a: Mask, b: Mask) -> float:
    return float((a & b).sum() / (a | b).sum()) if (a | b).any() else 1.0


@pytest.mark.parametrize("name", CHESTS)
def test_the_patients_right_lung_is_at_the_left_edge_of_the_picture(name: str) -> None:
    lung, expected = CHESTS[name]
    right, left = left_right(lung)
    # Half of a bridge may go to either side.
    slack = BRIDGE if "joined" in name else NOTHING
    np.testing.assert_array_equal(right & ~slack, expected & ~slack)
    np.testing.assert_array_equal(left & ~slack, lung & ~expected & ~slack)


@pytest.mark.parametrize("name", CHESTS)
def test_both_lungs_are_the_whole_mask_and_share_no_pixel(name: str) -> None:
    lung, _ = CHESTS[name]
    right, left = left_right(lung)
    assert right.shape == left.shape == lung.shape
    assert not (right & left).any()
    np.testing.assert_array_equal(right | left, lung)


@pytest.mark.parametrize("name", CHESTS)
def test_a_mirrored_picture_has_its_sides_exchanged(name: str) -> None:
    lung, _ = CHESTS[name]
    right, left = left_right(lung)
    mirrored_right, mirrored_left = left_right(lung[:, ::-1])
    # A column of the bridge more or less.
    for here, there in ((right, mirrored_left), (left, mirrored_right)):
        assert (here ^ there[:, ::-1]).sum() <= (6 if "joined" in name else 0)


@pytest.mark.parametrize("degrees", [-12, -5, 5, 12])
@pytest.mark.parametrize("name", CHESTS)
def test_a_small_rotation_keeps_the_sides(name: str, degrees: float) -> None:
    lung, expected = CHESTS[name]

    def turned(mask: Mask) -> Mask:
        return np.asarray(ndimage.rotate(mask.astype(np.float32), degrees, reshape=False, order=1) > 0.5)

    right, left = left_right(turned(lung))
    assert overlap(right, turned(expected)) > 0.85
    assert overlap(left, turned(lung & ~expected)) > 0.85


def test_joined_lungs_without_a_waist_are_cut_at_their_centre_of_mass() -> None:
    block = np.zeros((SIZE, SIZE), np.bool_)
    block[30:70, 20:80] = True
    right, left = left_right(block)
    assert right.sum() == left.sum()
    np.testing.assert_array_equal(right[:, :50], block[:, :50])


def test_involvement_is_the_percent_of_each_lung() -> None:
    lung = np.zeros((10, 20), np.bool_)
    lung[0:10, 2:7] = True  # 50 pixels, the patient's right
    lung[0:5, 12:17] = True  # 25 pixels
    lesion = np.zeros_like(lung)
    lesion[0:1, 2:7] = True
    lesion[0:2, 12:17] = True
    lesion[:, 18:] = True  # outside the lungs, which counts for nothing
    assert involvement(lung, lesion) == pytest.approx((10, 40, 20))
    mirrored = involvement(lung[:, ::-1], lesion[:, ::-1])
    assert (mirrored.right, mirrored.left, mirrored.both) == pytest.approx((40, 10, 20))
    assert involvement(lung, NOTHING[:10, :20]) == (0, 0, 0)
    assert involvement(lung, lung | lesion) == (100, 100, 100)


def test_the_whole_is_the_mean_of_its_parts_by_size() -> None:
    lung, _ = CHESTS["joined, with a crumb"]
    lesion = np.random.default_rng(0).random(lung.shape) < 0.3
    right, left = left_right(lung)
    found = involvement(lung, lesion)
    assert found.right * right.sum() + found.left * left.sum() == pytest.approx(found.both * lung.sum())


def test_a_lung_that_is_not_there_has_no_percentage() -> None:
    one = involvement(LEFT, LEFT)
    assert np.isnan(one.right)
    assert (one.left, one.both) == (100, 100)
    assert np.isnan(involvement(NOTHING, LEFT)).all()


def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(DataError, match="3 axes; give one slice"):
        left_right(np.zeros((2, 4, 4), np.bool_))
    with pytest.raises(DataError, match="100x100 and the lesions 3x3"):
        involvement(LEFT, np.zeros((3, 3), np.bool_))
