"""Chest X-ray or axial CT slice? A guess from the pixels alone, for files that do not say: PNG carries no modality.

An X-ray adds up all tissue on its way: soft edges, many greys, two dark lungs beside a bright middle, the abdomen
below. A CT slice is a cut: sharp edges, flat areas, air all around, and front and back much alike. Eight numbers of a
picture of 64 x 64 say so, and a logistic rule adds them up. None is the answer wherever the sum is not clear, the
picture is unlike all that the rule was set on, or its negative might be an X-ray (films are often exported so).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from groundglass.case import Modality, Unit
from groundglass.scans.slices import read_image_slice

SIDE = 64
# A smaller picture shows too little.
MIN_SIDE = 64

Floats = NDArray[np.float32]


class Term(NamedTuple):
    """What one number adds to the log odds of an X-ray: weight * (value - mean) / deviation, of which the fraction is
    kept within +-`MOST`; and the range of the values that the rule was set on."""

    weight: float
    mean: float
    deviation: float
    low: float
    high: float


# From `python -m benchmarks.modality --fit`: half of the patients or volumes of MedSeg, Radiopaedia, COVID-19-CT-Seg,
# LCTSC and 200 lung CTs, the Train part of COVID-QU-Ex, and a few drawn X-rays. The command with its data sets, and the
# error rates on the other half, are in docs/data.md.
TERMS: Mapping[str, Term] = MappingProxyType(
    {
        "sharp": Term(-5.28, 0.227, 0.093, 0.046, 0.453),
        "texture": Term(0.45, 0.042, 0.018, -0.001, 0.123),
        "flat": Term(-2.19, 0.183, 0.116, 0.003, 0.850),
        "two_tone": Term(-0.18, 0.780, 0.091, 0.525, 0.973),
        "abdomen": Term(2.74, 0.659, 0.239, 0.088, 0.951),
        "lungs": Term(-1.68, 0.475, 0.152, 0.113, 0.829),
        "columns": Term(2.57, 0.263, 0.134, 0.019, 0.867),
        "upside_down": Term(-2.64, 0.231, 0.332, -0.890, 0.856),
    }
)
BIAS = -0.65
MOST = 3.0
# Log odds that count as clear: 12 to 1.
CLEAR = 2.5


def guess_modality(image: NDArray[np.floating], unit: Unit) -> Modality | None:
    """What an image [H, W] seems to be; None where that is not clear.

    Hounsfield units are CT. Of other intensities only their pattern counts, whatever their scale.
    """
    if unit is Unit.HU:
        return "CT"
    if min(image.shape) < MIN_SIDE or not np.isfinite(image).all() or image.max() <= image.min():
        return None
    return judge(traits(image))


def judge(found: Mapping[str, float]) -> Modality | None:
    """What a picture with these `traits` seems to be; None where that is not clear."""
    if any(not term.low <= found[name] <= term.high for name, term in TERMS.items()):
        return None
    log_odds = _log_odds(found)
    if log_odds > CLEAR:
        return "X-ray"
    return "CT" if max(log_odds, _log_odds(_of_negative(found))) < -CLEAR else None


def guess_file(path: Path, count: int, unit: Unit) -> Modality | None:
    """What most of the first, middle and last slice of a file of `count` slices seem to be; None where they disagree or
    nothing is clear. Raises `DataError` when the file cannot be read."""
    if unit is Unit.HU:
        return "CT"
    guesses = [guess_modality(read_image_slice(path, index), unit) for index in sorted({0, count // 2, count - 1})]
    ct, x_ray = guesses.count("CT"), guesses.count("X-ray")
    if ct == x_ray:
        return None
    return "CT" if ct > x_ray else "X-ray"


def traits(image: NDArray[np.floating]) -> dict[str, float]:
    """The eight numbers by which X-ray and CT differ, of an image [H, W] that is not constant.

    sharp: the steepest edges, 95th percentile of the gradient in grey range per pixel; texture: its median;
    flat: the share of pixels without one; two_tone: how much of the variance two tones explain (Otsu 1979);
    abdomen, lungs: mean rank, 0 dark to 1 bright, of the pixels in the lower middle, and left and right of the middle;
    columns: the share of the ranks' variance that lies between columns;
    upside_down: correlation of the ranks with those of the picture turned top to bottom.
    """
    small = _resized(_content(_resized(image, 2 * SIDE)), SIDE)
    low, high = np.percentile(small, (2, 98))
    grey = np.clip((small - low) / max(high - low, 1e-6), 0, 1)
    # The outermost pixels may hold what is left of a frame.
    inner = (slice(3, -3), slice(3, -3))
    gradient = np.hypot(ndimage.sobel(grey, 0), ndimage.sobel(grey, 1))[inner] / 8
    rank = _ranks(small)
    left, right = rank[19:38, 9:25], rank[19:38, 38:54]
    variance = max(float(rank.var()), 1e-6)
    return {
        "sharp": float(np.percentile(gradient, 95)),
        "texture": float(np.median(gradient)),
        "flat": float(np.mean(gradient < 0.01)),
        "two_tone": _two_tone(grey),
        "abdomen": float(rank[54:, 12:51].mean()),
        "lungs": float((left.mean() + right.mean()) / 2),
        "columns": float(rank.mean(axis=0).var()) / variance,
        "upside_down": float(np.mean((rank - 0.5) * (rank[::-1] - 0.5))) / variance,
    }


def _log_odds(found: Mapping[str, float]) -> float:
    """Of an X-ray against a CT slice."""
    away = {name: (found[name] - term.mean) / term.deviation for name, term in TERMS.items()}
    return BIAS + sum(term.weight * float(np.clip(away[name], -MOST, MOST)) for name, term in TERMS.items())


def _of_negative(found: Mapping[str, float]) -> dict[str, float]:
    """The traits of the same picture with dark and bright exchanged: only two of them know which is which."""
    return {**found, "abdomen": 1 - found["abdomen"], "lungs": 1 - found["lungs"]}


def _resized(image: NDArray[np.floating], side: int) -> Floats:
    picture = Image.fromarray(np.ascontiguousarray(image, np.float32))
    return np.asarray(picture.resize((side, side), Image.Resampling.BOX), np.float32)


def _content(image: Floats) -> Floats:
    """The picture without what lies around it: black or white bars, with or without small text or a thin frame."""
    low, high = np.percentile(image, (1, 99))
    if high <= low:
        return image
    for _ in range(2):  # bars within bars
        for bars in (image < low + 0.06 * (high - low), image > high - 0.03 * (high - low)):
            if bars.shape != image.shape:
                continue
            top, bottom = _longest(np.mean(~bars, axis=1) > 0.08)
            left, right = _longest(np.mean(~bars, axis=0) > 0.08)
            if min(bottom - top, right - left) < SIDE // 2:
                continue
            # A pixel that bars were cut from is half bar.
            height, width = image.shape
            rows = slice(top + (top > 0), bottom - (bottom < height))
            image = image[rows, left + (left > 0) : right - (right < width)]
    return image


def _longest(kept: NDArray[np.bool_]) -> tuple[int, int]:
    """(begin, end) of the longest run of True; (0, 0) where there is none."""
    steps = np.diff(np.concatenate(([0], kept.astype(np.int8), [0])))
    begins, ends = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)
    if begins.size == 0:
        return 0, 0
    longest = int(np.argmax(ends - begins))
    return int(begins[longest]), int(ends[longest])


def _ranks(image: Floats) -> NDArray[np.float64]:
    """Rank of each pixel, 0 darkest to 1 brightest, the mean rank among equals: what no change of contrast changes."""
    _, which, counts = np.unique(image, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - counts / 2
    return (middle / image.size)[which].reshape(image.shape)


def _two_tone(grey: Floats) -> float:
    """Variance between the two tones of the best threshold, as a share of all variance."""
    counts, edges = np.histogram(grey, 64, (0, 1))
    share = counts / counts.sum()
    below = np.cumsum(share)[:-1]
    moment = np.cumsum(share * (edges[1:] + edges[:-1]) / 2)
    apart = below * (1 - below)
    between = (moment[-1] * below - moment[:-1]) ** 2 / np.where(apart > 0, apart, np.inf)
    return float(between.max() / max(float(grey.var()), 1e-6))
