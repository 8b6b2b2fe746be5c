"""What an image shows, in a form that two images can be compared by: corners and vessels, and a small picture.

Two images are compared in two steps. Local features (SIFT, Lowe 2004, with the square root of Arandjelovic and
Zisserman 2012) are matched and a similarity transform is sought that carries many of them at once (RANSAC); then one
picture is laid over the other by it, fitted (ECC, Evangelidis and Psarakis 2008), and their local correlation is taken.
Neither step knows labels, names, or what an intensity means.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from groundglass.case import Unit

Affine = NDArray[np.float32]

# Side in pixels of the picture in which features are looked for, and of the one whose correlation is taken.
SIDE, SMALL = 256, 128
N_FEATURES = 256
# Intensities of a chest in HU; padding outside the scan circle lies far below.
_HU = (-1350.0, 400.0)
# A match must be better than the second best by this ratio of distances (Lowe 2004, section 7.1).
_RATIO = 0.85
# Pixels (of SIDE) by which a carried feature may miss.
_TOLERANCE = 4.0
_FEWEST_MATCHES = 4
_LARGEST_SCALE = 4.0
# Local correlation: width of the window in pixels of SMALL, and the variance below which nothing is to be seen.
_WINDOW, _FLAT = 3.0, 15.0
_SMALLEST_OVERLAP = 0.25

cv2.setNumThreads(1)


class Likeness(NamedTuple):
    """points: [P, 2] float32 (x, y) in pixels of a picture whose longer side is `SIDE`; descriptors: [P, 128] uint8,
    square roots of SIFT times 255; size: (width, height) of that picture; small: [h, w] uint8, longer side `SMALL`,
    contrast evened out."""

    points: NDArray[np.float32]
    descriptors: NDArray[np.uint8]
    size: tuple[int, int]
    small: NDArray[np.uint8]


class Fit(NamedTuple):
    """How well one image lies on another. matches: features carried by one transform; correlation: of what both show,
    -1..1; transform: [2, 3], pixels (of SIDE) of the first to the second; overlap: shared part of the first."""

    matches: int
    correlation: float
    transform: Affine | None
    overlap: float


def likeness(image: NDArray[np.floating], unit: Unit) -> Likeness:
    """What an image [H, W] shows."""
    picture = _even(_grey(image, unit))
    keypoints, found = cv2.SIFT.create(nfeatures=N_FEATURES, contrastThreshold=0.02).detectAndCompute(picture, None)
    keypoints, found = keypoints[:N_FEATURES], None if found is None else found[:N_FEATURES]
    descriptors = np.zeros((0, 128), np.uint8)
    if found is not None:
        root = np.sqrt(found / np.maximum(found.sum(axis=1, keepdims=True), 1e-6))
        descriptors = np.round(root * 255).clip(0, 255).astype(np.uint8)
    points = np.array([point.pt for point in keypoints], np.float32).reshape(-1, 2)
    height, width = picture.shape
    return Likeness(points, descriptors, (width, height), _sized(picture, SMALL))


def mirrored(seen: Likeness) -> Likeness:
    """The likeness of the image mirrored left to right."""
    points = seen.points.copy()
    points[:, 0] = seen.size[0] - 1 - points[:, 0]
    # Within a descriptor (4 rows, 4 columns, 8 directions) a mirror swaps the rows and turns the directions round.
    turned = seen.descriptors.reshape(-1, 4, 4, 8)[:, ::-1][..., [0, 7, 6, 5, 4, 3, 2, 1]].reshape(-1, 128)
    return Likeness(points, turned, seen.size, np.ascontiguousarray(seen.small[:, ::-1]))


def compare(first: Likeness, second: Likeness, needed: float, weight: float) -> Fit | None:
    """How well the second lies on the first, or None where matches + `weight` x correlation stay below `needed`."""
    matches, transform = matched(first, second)
    if transform is None or matches + weight < needed:
        return None
    starts = (transform, in_frame(first, second))
    fit = max((correlated(first, second, start) for start in starts), key=lambda fit: fit.correlation)
    return fit._replace(matches=matches) if matches + weight * fit.correlation >= needed else None


def matched(first: Likeness, second: Likeness) -> tuple[int, Affine | None]:
    """How many features one similarity transform carries from the first to the second, and that transform."""
    if min(len(first.points), len(second.points)) < _FEWEST_MATCHES:
        return 0, None
    a, b = first.descriptors.astype(np.float32) / 255, second.descriptors.astype(np.float32) / 255
    product = a @ b.T
    rows = np.arange(len(a))
    best = product.argmax(axis=1)
    mutual = product.argmax(axis=0)[best] == rows
    nearest = product[rows, best]
    product[rows, best] = -1
    good = mutual & (2 - 2 * nearest < _RATIO**2 * (2 - 2 * product.max(axis=1)))
    if np.count_nonzero(good) < _FEWEST_MATCHES:
        return 0, None
    cv2.setRNGSeed(0)
    transform, inside = cv2.estimateAffinePartial2D(
        first.points[good],
        second.points[best[good]],
        method=cv2.RANSAC,
        ransacReprojThreshold=_TOLERANCE,
        maxIters=500,
    )
    if transform is None or not 1 / _LARGEST_SCALE < _scale(transform) < _LARGEST_SCALE:
        return 0, None
    return int(np.count_nonzero(inside)), transform.astype(np.float32)


def correlated(first: Likeness, second: Likeness, start: Affine) -> Fit:
    """Lay the second on the first, from `start` (pixels of SIDE), and correlate what both show."""
    a, b = first.small.astype(np.float32), second.small.astype(np.float32)
    warp = start.copy()
    warp[:, 2] *= SMALL / SIDE
    blurred = [cv2.GaussianBlur(x, (0, 0), 1.0) for x in (a, b)]
    stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 20, 1e-3)
    try:
        _, fitted = cv2.findTransformECC(blurred[0], blurred[1], warp.copy(), cv2.MOTION_AFFINE, stop)
    except cv2.error:  # it did not converge: the two have little in common there
        fitted = warp
    best = Fit(0, -1.0, None, 0.0)
    for candidate in (warp, np.asarray(fitted, np.float32)):
        if not 1 / _LARGEST_SCALE < _scale(candidate) < _LARGEST_SCALE:
            continue
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        laid = np.asarray(cv2.warpAffine(b, candidate, a.shape[::-1], flags=flags, borderValue=(-1.0,)), np.float32)
        inside = laid >= 0
        overlap = float(inside.mean())
        if overlap < _SMALLEST_OVERLAP:
            continue
        correlation = _local_correlation(a, laid, inside.astype(np.float32))
        if correlation > best.correlation:
            back = candidate.copy()
            back[:, 2] *= SIDE / SMALL
            best = Fit(0, correlation, back, overlap)
    return best


def in_frame(first: Likeness, second: Likeness) -> Affine:
    """The transform that lays one frame on the other: slices of one scan share theirs."""
    sx, sy = second.size[0] / first.size[0], second.size[1] / first.size[1]
    return np.array([[sx, 0, 0], [0, sy, 0]], np.float32)


def _local_correlation(a: NDArray[np.float32], b: NDArray[np.float32], inside: NDArray[np.float32]) -> float:
    """Correlation within a sliding window, averaged over where there is structure to correlate."""

    def blur(x: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(cv2.GaussianBlur(x, (0, 0), _WINDOW), np.float32)

    weight = blur(inside) + 1e-6
    mean_a, mean_b = blur(a * inside) / weight, blur(b * inside) / weight
    variance_a = np.maximum(blur(a * a * inside) / weight - mean_a**2, 0)
    variance_b = np.maximum(blur(b * b * inside) / weight - mean_b**2, 0)
    covariance = blur(a * b * inside) / weight - mean_a * mean_b
    correlation = covariance / np.sqrt((variance_a + _FLAT) * (variance_b + _FLAT))
    structure = (variance_a * variance_b) ** 0.25 * inside
    return float((correlation * structure).sum() / max(float(structure.sum()), 1e-6))


def _grey(image: NDArray[np.floating], unit: Unit) -> NDArray[np.uint8]:
    x = np.nan_to_num(np.asarray(image, np.float32))
    if unit is Unit.HU:
        x = np.clip(x, *_HU)
    low, high = np.percentile(x[::4, ::4], (1, 99))
    grey = np.clip((x - low) / max(float(high - low), 1e-6), 0, 1) * 255
    return _sized(grey.astype(np.uint8), SIDE)


def _even(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.createCLAHE(4.0, (8, 8)).apply(picture), np.uint8)


def _sized(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    height, width = picture.shape
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, size, interpolation=how), np.uint8)


def _scale(transform: NDArray[np.floating]) -> float:
    return float(np.sqrt(abs(transform[0, 0] * transform[1, 1] - transform[0, 1] * transform[1, 0])))
