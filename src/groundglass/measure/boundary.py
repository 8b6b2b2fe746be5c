"""How far a predicted outline lies from the reference's, and how much the sizes differ.

Overlap (Dice) hardly sees where a large lesion's outline runs; these measures see little else.

Sources: Huttenlocher, Klanderman and Rucklidge, Comparing images using the Hausdorff distance, IEEE PAMI 15 (1993)
850-863; Nikolov et al., Clinically applicable segmentation of head and neck anatomy, J. Med. Internet Res. 23 (2021)
e26151, for the surface Dice with a tolerance. The outline, the percentile and its maximum are those of MONAI 1.x.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from groundglass.errors import DataError
from groundglass.measure.metrics import ratio

Mask = NDArray[np.bool_]
Array = NDArray[np.float64]

# A distance that equals the tolerance but for rounding (0.1 mm x 30) is within it.
_ROUNDING = 1 + 1e-6


class Surface(NamedTuple):
    """Boundary measures of one mask, both NaN where reference and prediction are empty.

    hd95: the Hausdorff distance without its largest 5 %, in the unit of the spacing. nsd: surface Dice, 0 to 1.
    """

    hd95: float
    nsd: float


class VolumeError(NamedTuple):
    """Predicted minus reference, [...] float64: in the unit given, and as a share of the reference (NaN: empty)."""

    difference: Array
    relative: Array


def boundary(truth: Mask, prediction: Mask, spacing: Sequence[float], tolerance: float) -> Surface:
    """Boundary measures of masks [H, W] or [D, H, W] bool whose pixels lie `spacing` apart along each axis.

    spacing: millimetres, or ones for pixels; `tolerance` and the result are in the same unit.
    The outline is the pixels of a mask with a neighbour (4 in a slice, 6 in a volume) outside it; beyond the image
    nothing belongs to a mask. From every outline pixel the distance to the other outline is taken, centre to centre.
    hd95: the 95th percentile of these distances in each direction, the larger of both. nsd: the share of both
    outlines' pixels that lie within `tolerance`.
    Both masks empty: NaN, NaN. One of them empty: nsd 0, and hd95 the distance of the image's opposite corners, the
    largest there is. Raises `DataError` when shapes differ or spacing or tolerance mean nothing.
    """
    check_masks(truth, prediction, spacing, tolerance)
    if not truth.any() and not prediction.any():
        return Surface(np.nan, np.nan)
    if not truth.any() or not prediction.any():
        return Surface(float(np.linalg.norm((np.array(truth.shape) - 1) * spacing)), 0.0)
    box = joint_box(truth, prediction)
    there, here = (_places(_outline(mask[box]), spacing) for mask in (truth, prediction))
    distances = _nearest(there, here), _nearest(here, there)
    within = sum(int((d <= tolerance * _ROUNDING).sum()) for d in distances)
    hd95 = max(float(np.quantile(d, 0.95)) for d in distances)
    return Surface(hd95, within / (len(there) + len(here)))


def surface_dice_by_area(truth: Mask, prediction: Mask, spacing: Sequence[float], tolerance: float) -> float:
    """Surface Dice of volumes [D, H, W] bool as DeepMind's surface-distance computes it: by area, not by pixels.

    The surface runs between the voxels: each point where eight voxels meet, some inside the mask and some not, carries
    the area of the marching-cubes surface there. The result is the area, of both surfaces, that lies within
    `tolerance` of the other surface, as a share of all area. Both masks empty: NaN; one of them: 0.
    Raises `DataError` as `boundary` does, and for masks that are no volumes.
    """
    check_masks(truth, prediction, spacing, tolerance)
    if truth.ndim != 3:
        raise DataError(f"a surface has an area in volumes only, but the mask is {_size(truth)}")
    if not truth.any() or not prediction.any():
        return 0.0 if truth.any() or prediction.any() else np.nan
    box = joint_box(truth, prediction)
    areas = [_surface_areas(mask[box], spacing) for mask in (truth, prediction)]
    points = [_places(area > 0, spacing) for area in areas]
    near = [_nearest(points[i], points[1 - i]) <= tolerance * _ROUNDING for i in (0, 1)]
    weights = [area[area > 0] for area in areas]
    within = sum(float(weight[close].sum()) for weight, close in zip(weights, near, strict=True))
    return within / sum(float(weight.sum()) for weight in weights)


def volume_error(reference: Array | float, predicted: Array | float) -> VolumeError:
    """Error of sizes [...] (pixels, mm2, ml: any unit, the same for both); positive where too much is predicted."""
    truth, found = np.asarray(reference, np.float64), np.asarray(predicted, np.float64)
    return VolumeError(found - truth, ratio(found - truth, truth))


def check_masks(truth: Mask, prediction: Mask, spacing: Sequence[float], tolerance: float) -> None:
    """Raises `DataError` unless the masks have one shape, a positive spacing per axis, and a tolerance of 0 or more."""
    if truth.shape != prediction.shape:
        raise DataError(
            f"the prediction is {_size(prediction)} and the reference {_size(truth)}; "
            "predict on the grid of the reference"
        )
    if len(spacing) != truth.ndim or not all(0 < step < np.inf for step in spacing):
        axes = ", ".join(f"{step:g}" for step in spacing)
        raise DataError(f"a mask of {_size(truth)} needs {truth.ndim} positive spacings, not ({axes})")
    if not 0 <= tolerance < np.inf:
        raise DataError(f"a tolerance of {tolerance:g} means nothing; give 0 or more")


def joint_box(truth: Mask, prediction: Mask) -> tuple[slice, ...]:
    """The smallest box that holds both masks, of which at least one is not empty."""
    both = truth | prediction
    axes = range(both.ndim)
    spans = (np.flatnonzero(both.any(axis=tuple(other for other in axes if other != axis))) for axis in axes)
    return tuple(slice(int(span[0]), int(span[-1]) + 1) for span in spans)


def _outline(mask: Mask) -> Mask:
    """Pixels of the mask with a direct neighbour outside it. Cropping to a box that holds the mask changes nothing."""
    padded = np.pad(mask, 1)
    inner = mask.copy()
    for axis in range(mask.ndim):
        core = [slice(1, -1)] * mask.ndim
        for side in (slice(None, -2), slice(2, None)):
            core[axis] = side
            inner &= padded[tuple(core)]
    return mask & ~inner


def _places(mask: Mask, spacing: Sequence[float]) -> Array:
    """Where the pixels of a mask lie, [P, A] in the unit of `spacing`, in the order of `array[mask]`."""
    return np.argwhere(mask).astype(np.float64) * np.asarray(spacing, np.float64)


def _nearest(points: Array, others: Array) -> Array:
    """Distance [P] of each of `points` [P, A] to the nearest of `others` [Q, A]."""
    distances: Array = KDTree(others, leafsize=32).query(points)[0]
    return distances


def _size(mask: Mask) -> str:
    return "x".join(map(str, mask.shape))


# ---- the area of a surface between voxels ----------------------------------------------------------------------------

_CORNERS = tuple(np.ndindex(2, 2, 2))


def _surface_areas(mask: Mask, spacing: Sequence[float]) -> Array:
    """Area [D + 1, H + 1, W + 1] of the mask's surface at each point where eight voxels meet; 0 off the surface."""
    padded = np.pad(mask, 1)
    codes = np.zeros(np.array(mask.shape) + 1, np.uint8)
    for bit, corner in enumerate(_CORNERS):
        window = tuple(slice(start, start + n + 1) for start, n in zip(corner, mask.shape, strict=True))
        codes |= padded[window].astype(np.uint8) << np.uint8(bit)
    table = np.array([_area(code, spacing) for code in range(256)])
    areas: Array = table[codes]
    return areas


def _area(code: int, spacing: Sequence[float]) -> float:
    """Marching-cubes area among eight voxels, of which those with a bit in `code` are inside (Lorensen and Cline 1987).

    The surface cuts each edge of the cube in the middle. Where the inside is the larger half, the surface is that of
    the outside; voxels that touch only by an edge or a corner are cut off one by one.
    """
    inside = [corner for bit, corner in enumerate(_CORNERS) if code >> bit & 1]
    if len(inside) > 4:
        inside = [corner for corner in _CORNERS if corner not in inside]
    rest, area = set(inside), 0.0
    while rest:
        group = [rest.pop()]
        for corner in group:
            joined = {other for other in rest if _axis(corner, other) is not None}
            group += joined
            rest -= joined
        area += _group_area(group, spacing)
    return area


def _group_area(group: Sequence[tuple[int, ...]], spacing: Sequence[float]) -> float:
    """Area of the surface around one to four voxels that hang together by faces."""
    # The areas of a voxel's three faces, across each axis. A flat piece of surface with the normal n, its length the
    # area for a spacing of 1, has the area |n * faces|; the polygons below are sums of such pieces.
    faces = np.prod(spacing) / np.asarray(spacing, np.float64)
    slanted = float(np.linalg.norm(faces))
    pairs = [(a, b, axis) for a in group for b in group if a < b and (axis := _axis(a, b)) is not None]
    axes = [axis for _, _, axis in pairs]
    missing = [axis for axis in range(3) if axis not in axes]
    if len(group) == 1:
        return slanted / 8
    if len(group) == 2:
        return float(np.linalg.norm(faces[missing])) / 2
    if len(group) == 3:
        return float(faces[missing[0]] / 2 + 0.375 * slanted)
    if len(pairs) == 4:  # a square
        return float(faces[missing[0]])
    degrees = {corner: sum(corner in pair[:2] for pair in pairs) for corner in group}
    if max(degrees.values()) == 3:  # a voxel and its three neighbours
        return 0.75 * slanted
    # Four in a winding row: the piece hangs on the axis of the middle pair.
    middle = next(axis for a, b, axis in pairs if degrees[a] == degrees[b] == 2)
    others = [axis for axis in range(3) if axis != middle]
    return slanted / 2 + sum(float(np.hypot(faces[middle], faces[other])) for other in others) / 4


def _axis(a: tuple[int, ...], b: tuple[int, ...]) -> int | None:
    """The axis along which two corners of a cube are neighbours, or None where they are not."""
    apart = [axis for axis in range(3) if a[axis] != b[axis]]
    return apart[0] if len(apart) == 1 else None
