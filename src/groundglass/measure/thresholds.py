"""Choosing the probability from which a pixel counts as lesion. Only ever on validation cases, never on test cases."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from groundglass.errors import DataError
from groundglass.labels import LabelSet
from groundglass.measure.counts import membership
from groundglass.measure.metrics import dice

_GRID = np.linspace(0.05, 0.95, 19)
_DEFAULT = 0.5


def tune(
    cases: Iterable[tuple[NDArray[np.float32], NDArray[np.uint8]]], labels: LabelSet, grid: NDArray[np.float64] = _GRID
) -> dict[str, float]:
    """The threshold of each lesion class, by name, with the highest Dice pooled over all cases.

    cases: probabilities [K, H, W] float32 and reference codes [H, W] uint8 of each case, read once, one at a time;
    memory does not grow with the number of cases. grid: candidate thresholds in (0, 1).
    A pixel that may or may not be of a class counts for none of its thresholds.
    Each class is judged alone, as the mask p >= threshold: two classes that claim one pixel both count here, though
    `groundglass.model.decide` will give it to one of them. Equal scores go to the threshold nearest 0.5, then to the
    lower one. A class that no reference holds keeps 0.5. Raises `DataError` without cases.
    """
    candidates = np.unique(np.round(grid, 6))
    # Compared in float32, as the decision does, so that a probability on the threshold falls on the same side.
    edges = candidates.astype(np.float32)
    # histogram[c, t, n]: pixels whose reference is (t = 1) or is not (t = 0) class c and that pass n candidates.
    histogram = np.zeros((len(labels.lesions), 2, len(edges) + 1), np.int64)
    n_cases = 0
    for probabilities, truth in cases:
        n_cases += 1
        for row, channel in enumerate(labels.lesion_channels):
            passed = np.searchsorted(edges, probabilities[channel].astype(np.float32).ravel(), side="right")
            inside, outside = membership((channel,), labels)
            for member, codes in enumerate((outside, inside)):
                histogram[row, member] += np.bincount(passed[codes[truth].ravel()], minlength=len(edges) + 1)
    if not n_cases:
        raise DataError("there are no validation cases to tune thresholds on; keep some cases for validation")
    return {name: _best(histogram[row], candidates) for row, name in enumerate(labels.lesions)}


def _best(histogram: NDArray[np.int64], candidates: NDArray[np.float64]) -> float:
    """histogram [2, T + 1] of how many of T candidates each negative and positive pixel passes."""
    if not histogram[1].any():
        return _DEFAULT
    # A pixel is predicted at candidate t if it passes more than t of them.
    beyond = histogram[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:].astype(np.float64)
    fp, tp = beyond
    fn = histogram[1].sum() - tp
    scores = dice(tp, fp, fn, histogram[0].sum() - fp)
    best = candidates[scores == scores.max()]
    return float(min(best, key=lambda threshold: (round(abs(threshold - _DEFAULT), 6), threshold)))
