"""The two lungs of one mask, and how much of each is infected.

Pictures of the chest are shown as if the patient faced the reader (radiographs) or lay with the feet towards the reader
(axial CT): the patient's right lies at the left edge of the picture. Sides here are the patient's.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from groundglass.errors import DataError

Mask = NDArray[np.bool_]

# What is smaller than a tenth of the largest part is a scrap of one lung, not the other lung.
_OTHER_LUNG = 0.10
# Parts are side by side where their columns overlap by less than half of the narrower one.
_OVERLAP = 0.5
# One part that holds so much on either side of the picture's middle is both lungs, joined.
_JOINED = 0.2
# Joined lungs have a waist where a column near the middle is so much shorter than the longest on either side.
_WAIST = 0.7


class Involvement(NamedTuple):
    """Percent of the right lung, the left lung and both that is lesion; NaN where there is no such lung."""

    right: float
    left: float
    both: float


def left_right(lung: Mask) -> tuple[Mask, Mask]:
    """(right, left) lung of the patient, each [H, W] bool, from the mask [H, W] bool of both. Every pixel of the mask
    is in exactly one of them; the patient's right lies at the left edge of the picture.

    The two largest connected parts that lie side by side are the lungs, and smaller ones belong to the nearer of
    them. One part that reaches far to both sides of the picture's middle is both lungs joined: it is cut at its
    narrowest column near its own middle, or, without a waist there, at its centre of mass. Else there is one lung
    only, and every part belongs to the side of the picture that it lies on. Raises `DataError` for masks that are not
    [H, W].
    """
    if lung.ndim != 2:
        raise DataError(f"lungs are told apart in a picture [H, W], and this mask has {lung.ndim} axes; give one slice")
    parts, n = ndimage.label(lung)
    if not n:
        return np.zeros_like(lung), np.zeros_like(lung)
    sizes = np.bincount(parts.ravel(), minlength=n + 1)[1:]
    order = 1 + np.argsort(-sizes, kind="stable")
    largest = parts == order[0]
    other = _other_lung(parts, sizes, order)
    if other is not None:
        first, second = sorted((largest, parts == other), key=_middle)
        return _nearer(lung, parts, first, second)
    columns = np.arange(lung.shape[1])
    centre = (lung.shape[1] - 1) / 2
    beyond = largest.sum(axis=0)[columns > centre].sum() / largest.sum()
    if _JOINED <= beyond <= 1 - _JOINED:
        before = columns < _cut(largest)
        return _nearer(lung, parts, largest & before, largest & ~before)
    middles = np.array([_middle(parts == number) for number in range(1, n + 1)])
    right = np.concatenate([[False], middles < centre])[parts]
    return right, lung & ~right


def involvement(lung: Mask, lesion: Mask) -> Involvement:
    """How much of each lung is lesion, from masks [H, W] bool of one shape. A lesion outside the lungs does not count.

    Raises `DataError` when the shapes differ.
    """
    if lung.shape != lesion.shape:
        raise DataError(f"the lungs are {_size(lung)} and the lesions {_size(lesion)}; give masks of one picture")
    right, left = left_right(lung)
    return Involvement(*(_percent(side, lesion) for side in (right, left, lung)))


def _percent(side: Mask, lesion: Mask) -> float:
    return 100 * float((side & lesion).sum() / side.sum()) if side.any() else np.nan


def _other_lung(parts: NDArray[np.int32], sizes: NDArray[np.int64], order: NDArray[np.int64]) -> int | None:
    """The number of the largest part that lies beside the largest of all and is no scrap; None where there is none."""
    low, high = _span(parts == order[0])
    for number in order[1:]:
        if sizes[number - 1] < _OTHER_LUNG * sizes[order[0] - 1]:
            return None
        start, end = _span(parts == number)
        if min(high, end) - max(low, start) < _OVERLAP * min(high - low, end - start):
            return int(number)
    return None


def _nearer(lung: Mask, parts: NDArray[np.int32], right: Mask, left: Mask) -> tuple[Mask, Mask]:
    """Both lungs with the parts that belong to neither yet, each part whole to the nearer of them."""
    loose = np.unique(parts[lung & ~right & ~left])
    if loose.size:
        to_right, to_left = (ndimage.distance_transform_edt(~side) for side in (right, left))
        nearest = [(to.min() for to in (to_right[parts == number], to_left[parts == number])) for number in loose]
        near_right = [number for number, (a, b) in zip(loose, nearest, strict=True) if a <= b]
        right = right | np.isin(parts, near_right)
    return right, lung & ~right


def _cut(mask: Mask) -> int:
    """The first column of the part on the right-hand side of the picture."""
    start, end = _span(mask)
    lengths = mask.sum(axis=0)
    third = (end - start) // 3
    near = np.arange(start + third, end - third)
    if near.size:
        away = np.abs(near - (start + end - 1) / 2)
        waist = int(near[np.lexsort((away, lengths[near]))[0]])
        sides = lengths[start:waist], lengths[waist + 1 : end]
        if all(side.size and lengths[waist] <= _WAIST * side.max() for side in sides):
            return waist
    return round(_middle(mask) + 0.5)


def _middle(mask: Mask) -> float:
    """The column of the centre of mass."""
    lengths = mask.sum(axis=0)
    return float(lengths @ np.arange(len(lengths)) / lengths.sum())


def _span(mask: Mask) -> tuple[int, int]:
    """First column, and the one after the last."""
    columns = np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(columns[-1]) + 1


def _size(mask: Mask) -> str:
    return "x".join(map(str, mask.shape))
