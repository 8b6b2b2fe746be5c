"""Choosing the probability from which a pixel counts as lesion. Only ever on validation cases, never on test cases."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

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
    return tune_apart([cases], labels, grid, [[0]])[0]


def tune_apart(
    parts: Sequence[Iterable[tuple[NDArray[np.float32], NDArray[np.uint8]]]],
    labels: LabelSet,
    grid: NDArray[np.float64] = _GRID,
    chosen: Sequence[Sequence[int]] | None = None,
) -> list[dict[str, float]]:
    """Thresholds, as `tune` finds them, for each of several parts from the cases of all *other* parts: what a part is
    scored with has then not seen its answers. Every case is read once. chosen: from which parts instead."""
    candidates = np.unique(np.round(grid, 6))
    histograms = np.stack([_histogram(cases, labels, candidates) for cases in parts])
    sources = chosen or [[j for j in range(len(parts)) if j != i] for i in range(len(parts))]
    return [
        {name: _best(histograms[which].sum(axis=0)[row], candidates) for row, name in enumerate(labels.lesions)}
        for which in map(list, sources)
    ]


def _histogram(
    cases: Iterable[tuple[NDArray[np.float32], NDArray[np.uint8]]], labels: LabelSet, candidates: NDArray[np.float64]
) -> NDArray[np.int64]:
    """[c, t, n]: pixels whose reference is (t = 1) or is not (t = 0) class c and that pass n candidates."""
    # Compared in float32, as the decision does, so that a probability on the threshold falls on the same side.
    edges = candidates.astype(np.float32)
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
    return histogram


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
